"""SQLite's file locked, damaged, moved and replaced under the running service: what is acknowledged is stored."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from bot.lifecycle import RunState
from bot.settings import Settings
from bot.store import Store, database, run_job
from bot.web import app as app_module
from bot.worker import worker
from tests.bot.queueing import queue_run, state_of
from tests.bot.web.conftest import ListDispatcher, Sender
from tests.bot.webhook.deliveries import SECRET
from tests.bot.worker.working import Fake, worker_of

TOKEN = "the token of the machine's owner"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "troop.sqlite3"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{file}", quota_runs_per_hour=1000)
    yield store
    store.close()


@pytest.fixture
async def client(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(app_module, "METRICS_SECONDS", 0.0)  # each `/ready` looks
    settings = Settings(_env_file=None, webhook_secret=SECRET, app_id=12345, admin_token=TOKEN)
    app = app_module.create_app(settings, store, ListDispatcher())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", headers=headers
    ) as client:
        yield client


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_database_that_others_lock_is_not_ready(
    client: httpx.AsyncClient, file: Path, monkeypatch: pytest.MonkeyPatch
):
    """Reads go on, so that counting runs does not show it."""
    monkeypatch.setattr(app_module, "READY_SECONDS", 0.01)
    assert (await client.get("/ready")).status_code == 200
    with locked(file):
        answer = await client.get("/ready")
    assert answer.status_code == 503
    assert f"another program writes to {file} for too long" in answer.json()["database"]
    assert (await client.get("/ready")).status_code == 200


async def test_a_table_of_deliveries_that_is_damaged_is_not_ready(client: httpx.AsyncClient, store: Store, file: Path):
    assert (await Sender(client)("issues.labeled", issue__number=1)).status_code == 202
    store.close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [page] = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'delivery'").fetchone()
        [size] = other.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as damaged:
        damaged.seek(size * (page - 1))
        damaged.write(b"\xff" * size)
    assert (await Sender(client)("issues.labeled", issue__number=2)).status_code == 503
    answer = await client.get("/ready")
    assert answer.status_code == 503
    assert "malformed" in answer.json()["database"]
    assert "`troop restore`" in answer.json()["database"]


@pytest.mark.parametrize("gone", ["moved", "removed"])
async def test_a_delivery_is_not_written_to_a_file_that_is_gone(client: httpx.AsyncClient, file: Path, gone: str):
    """The connections that are open still could, and all of it would be lost with them."""
    send = Sender(client)
    assert (await send("issues.labeled", issue__number=1)).status_code == 202
    kept = file.with_name("kept")
    os.link(file, kept)
    file.rename(file.with_name("away")) if gone == "moved" else file.unlink()
    assert (await send("issues.labeled", issue__number=2)).status_code == 503
    answer = await client.get("/ready")
    assert answer.status_code == 503
    assert f"{file} is gone" in answer.json()["database"]
    assert not file.exists()  # no empty database begun
    kept.rename(file)
    assert (await send("issues.labeled", issue__number=2)).status_code == 202
    assert (await client.get("/ready")).status_code == 200


async def test_what_takes_the_files_place_is_written_from_then_on(client: httpx.AsyncClient, file: Path):
    other = Store.open(f"sqlite:///{file.parent / 'other'}")
    queue_run(other, issue=7)
    other.close()
    assert (await Sender(client)("issues.labeled", issue__number=1)).status_code == 202
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()
    (file.parent / "other").replace(file)
    assert (await Sender(client)("issues.labeled", issue__number=2)).status_code == 202
    with contextlib.closing(sqlite3.connect(file)) as now:
        assert now.execute("SELECT issue_number FROM run ORDER BY id").fetchall() == [(7,), (2,)]


async def test_a_run_outlives_a_database_that_is_locked_beyond_its_lease(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(worker, "PERSIST", (0.01,))
    store = Store.open(f"sqlite:///{file}")
    run_id = queue_run(store)
    fake = Fake()
    first = worker_of(store, fake, lease=0.2, name="first")
    entered, unlocked = asyncio.Event(), asyncio.Event()
    work = fake.run

    async def locks_it(*given):
        entered.set()
        await unlocked.wait()
        return await work(*given)

    fake.run = locks_it
    handling = asyncio.create_task(first.handle(run_job(run_id)))
    await entered.wait()
    with locked(file):
        assert await handling is None  # given up, as it can't know whether another worker has it
        assert fake.ended == ["CancelledError"]
    fake.run = work
    for _ in range(3):  # the lease has run out: the sweeper finds it
        for job in store.due():
            await worker_of(store, fake, name="second").handle(job)
    assert state_of(store, run_id) is RunState.SOLVED
    assert fake.ended == ["CancelledError", "finished"]
    store.close()
