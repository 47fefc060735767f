"""A PostgreSQL that is stopped and started again, or takes no writes, and a clock that jumps, under the service."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import httpx
import pytest

from bot.lifecycle import RunState
from bot.settings import Settings
from bot.store import Store, database, run_job
from bot.web import app as app_module
from bot.web.dashboard import create_pages
from tests.bot.queueing import queue_run
from tests.bot.web.conftest import ADMIN_TOKEN, ListDispatcher, Sender
from tests.bot.web.test_live import served
from tests.bot.webhook.deliveries import SECRET
from tests.bot.worker.working import Fake, info, solve, worker_of
from tests.chaos.servers import Postgres
from tests.patience import PATIENCE, soon

TROUBLE = "the database is out of reach; deliver it again"


def settings_of(url: str) -> Settings:
    return Settings(_env_file=None, webhook_secret=SECRET, app_id=12345, admin_token=ADMIN_TOKEN, database_url=url)


@contextlib.asynccontextmanager
async def receiving(settings: Settings, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_module.create_app(settings, store, ListDispatcher()))
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers) as client:
        yield client


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server of the test's own."""
    pytest.importorskip("psycopg", reason="no driver: pip install 'psycopg[binary]'")
    try:
        server = Postgres()
    except SystemExit as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.mark.service
async def test_deliveries_streams_and_runs_outlive_a_restart_of_postgresql(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app_module, "METRICS_SECONDS", 0.0)
    settings = settings_of(postgres.url)
    store, fake = Store.from_settings(settings), Fake()
    gone, back = asyncio.Event(), asyncio.Event()

    async def in_between(*given):
        gone.set()
        await back.wait()
        return await solve(*given)

    fake.run = in_between
    run_id = queue_run(store)
    working = asyncio.create_task(worker_of(store, fake).handle(run_job(run_id)))
    async with asyncio.timeout(PATIENCE), receiving(settings, store) as client:
        await gone.wait()
        send, pages = Sender(client), create_pages(settings, store, ListDispatcher().enqueue)
        async with served(pages) as browser, browser.stream("GET", f"/runs/{run_id}/events") as stream:
            assert stream.status_code == 200
            await asyncio.to_thread(postgres.stop)
            answers = await asyncio.gather(
                *(send("issues.labeled", guid=f"{n}", issue__number=n) for n in range(9, 12))
            )
            assert [(one.status_code, one.json()["error"]) for one in answers] == [(503, TROUBLE)] * 3
            assert (await client.get("/ready")).status_code == 503
            assert "the database is out of reach; try again" in (await browser.get(f"/runs/{run_id}")).text
            async for _ in stream.aiter_lines():
                pass  # it ends, and the browser connects again
            await asyncio.to_thread(postgres.start)
            for n in range(9, 12):
                assert (await send("issues.labeled", guid=f"{n}", issue__number=n)).status_code == 202
            assert (await client.get("/ready")).status_code == 200
            async with browser.stream("GET", f"/runs/{run_id}/events") as again:
                assert again.status_code == 200
    back.set()
    await soon(working)
    found = info(store, run_id)
    assert (found.state, found.attempt, found.crashes) == (RunState.SOLVED, 1, 0)
    assert len(store.runs()) == 4
    store.close()


@pytest.mark.service
async def test_a_postgresql_that_takes_no_writes_is_not_ready(postgres: Postgres, monkeypatch: pytest.MonkeyPatch):
    """A standby after a failover, or a server whose operator stopped writes since its disk is full."""
    monkeypatch.setattr(app_module, "METRICS_SECONDS", 0.0)
    settings = settings_of(postgres.url)
    store = Store.from_settings(settings)
    async with receiving(settings, store) as client:
        send = Sender(client)
        await send.taken("issues.labeled", issue__number=1)
        writable(postgres, "off")
        refused = await send("issues.labeled", issue__number=2)
        assert (refused.status_code, refused.json()["error"]) == (503, TROUBLE)
        ready = await client.get("/ready")
        assert (ready.status_code, "it is a standby, or was made read-only" in ready.text) == (503, True)
        assert len(store.runs()) == 1
        writable(postgres, "on")
        await send.taken("issues.labeled", issue__number=2)
        assert (await client.get("/ready")).status_code == 200
    store.close()


def writable(postgres: Postgres, value: str) -> None:
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        only = "off" if value == "on" else "on"
        connection.execute(f"ALTER DATABASE postgres SET default_transaction_read_only = {only}")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_run_goes_on_while_the_clock_jumps(tmp_path, monkeypatch: pytest.MonkeyPatch, jump: float):
    """Its worker is alive: another look at what is due starts it nowhere else, and its lease is true again at once."""
    store, fake, off = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}"), Fake(), 0.0
    monkeypatch.setattr(database, "time", SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic))
    worker = worker_of(store, fake)

    async def jumps(run, journal, progress, advance):
        nonlocal off
        await advance(RunState.CHECKOUT)
        off = jump
        store.renew(run.id, run.attempt, 60)
        assert store.due() == ()
        return await solve(run, journal, progress, advance)

    fake.run = jumps
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).crashes) == (RunState.SOLVED, 0)
    store.close()
