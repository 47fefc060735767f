"""The store's tests run on a real SQLite file and on a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.store import Store
from tests.stores import open_empty


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'troop.sqlite3'}"


@pytest.fixture
def store(database_url: str, empty_tables: Path) -> Iterator[Store]:
    store = open_empty(database_url, empty_tables, quota_runs_per_hour=3, max_crashes=3)
    yield store
    store.close()
