"""What several parts' tests use: services, a store on SQLite, a worker with a pipeline of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.store import Store
from bot.web.body import BodyReader
from bot.worker.worker import Worker
from tests.bot.worker.working import Fake, worker_of
from tests.patience import PATIENCE
from tests.services import _postgres_socket, postgres_url, redis_server, redis_url
from tests.stores import empty_tables, open_empty

__all__ = ["_postgres_socket", "empty_tables", "postgres_url", "redis_server", "redis_url"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is short for the sake of people is not for tests; hearts beat often, that no test waits for a beat."""
    monkeypatch.setattr("bot.worker.lease.LONGEST_BEAT", 0.02)
    monkeypatch.setattr("bot.dispatch.arq.CONNECT_TIMEOUT", PATIENCE)
    monkeypatch.setattr("bot.dispatch.arq.ENQUEUE_TIMEOUT", PATIENCE)
    monkeypatch.setattr("bot.web.app.ENQUEUE_TIMEOUT", PATIENCE)
    monkeypatch.setitem(BodyReader.__init__.__kwdefaults__, "timeout", PATIENCE)


@pytest.fixture
def store(tmp_path: Path, empty_tables: Path) -> Iterator[Store]:
    store = open_empty(f"sqlite:///{tmp_path / 'troop.sqlite3'}", empty_tables)
    yield store
    store.close()


@pytest.fixture
async def fake() -> Fake:
    return Fake()


@pytest.fixture
async def worker(store: Store, fake: Fake) -> Worker:
    return worker_of(store, fake)
