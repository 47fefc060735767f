"""Stores on SQLite with the newest tables, which are copied.

To make them takes ten times as long, and is what `tests/bot/store/test_migrations.py` tests.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from bot.store import Store

_PREFIX = "sqlite:///"


@pytest.fixture(scope="session")
def empty_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a row."""
    path = tmp_path_factory.mktemp("tables") / "troop.sqlite3"
    Store.open(f"{_PREFIX}{path}").close()
    return path


def lay(tables: Path, url: str) -> None:
    """Let an empty database on SQLite begin with `empty_tables`."""
    if url.startswith(_PREFIX):
        path = Path(url.removeprefix(_PREFIX))
        assert not path.exists()
        shutil.copyfile(tables, path)


def open_empty(url: str, tables: Path, **options: Any) -> Store:
    """`Store.open` of an empty database."""
    lay(tables, url)
    return Store.open(url, **options)
