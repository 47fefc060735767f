"""What several parts' tests use: services, a store on SQLite, a worker with a pipeline of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.store import Store
from bot.worker import Worker
from tests.bot.working import Fake, worker_of
from tests.services import _postgres_socket, postgres_url, redis_server, redis_url

__all__ = ["_postgres_socket", "postgres_url", "redis_server", "redis_url"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    yield store
    store.close()


@pytest.fixture
async def fake() -> Fake:
    return Fake()


@pytest.fixture
async def worker(store: Store, fake: Fake) -> Worker:
    return worker_of(store, fake)
