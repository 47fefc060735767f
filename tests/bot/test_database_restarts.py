"""A PostgreSQL that ends every connection again and again, as one that is restarted in a loop does."""

import asyncio
from collections import Counter

import pytest

from bot.dispatch.inprocess import InProcessDispatcher
from bot.errors import StoreUnavailable
from bot.journal import once
from bot.lifecycle import RunState
from bot.records import ClaimedRun, Reply
from bot.store import Store
from bot.worker.callbacks import Advance, Callbacks, Finished
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, serve
from tests.bot.queueing import start, state_of
from tests.bot.worker.working import SHORT, Fake, solve
from tests.patience import eventually, soon

pytestmark = pytest.mark.service

RUNS, STEPS = 4, 10


async def test_runs_end_well_and_no_stored_step_is_made_again(postgres_url: str, fake: Fake):
    store = Store.open(postgres_url, max_crashes=1000)
    made: Counter[tuple[int, int]] = Counter()
    stored: set[tuple[int, int]] = set()

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        for n in range(STEPS):

            async def make(n: int = n) -> Reply:
                assert (run.id, n) not in stored
                made[run.id, n] += 1
                await asyncio.sleep(0.005)
                return Reply(text=str(n))

            await once(journal, f"step/{n}", Reply, make)
            stored.add((run.id, n))
        return await solve(run, journal, progress, advance)

    fake.run = run
    worker = Worker(
        store, Callbacks(fake.execute, fake.execute_command, fake.announce), lease_seconds=SHORT, delays=(0.01,) * 1000
    )
    dispatcher = InProcessDispatcher(worker.handle, {"run": 2, "command": 1})
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(worker, dispatcher, Sweeper(store, dispatcher, 0.02), stop))
    disturbing = asyncio.create_task(end_connections(postgres_url, count=25))
    for n in range(RUNS):
        while True:
            try:
                accepted = await asyncio.to_thread(store.accept, f"guid-{n}", "issues", "labeled", start(issue=n))
            except StoreUnavailable:  # the web answers 500, and somebody delivers again
                continue
            assert accepted.job_id is not None or accepted.duplicate
            break
    await soon(disturbing)
    await eventually(lambda: store.counts()[RunState.SOLVED] == RUNS)
    stop.set()
    await soon(serving)
    assert [state_of(store, run.id) for run in store.runs()] == [RunState.SOLVED] * RUNS
    assert len(made) == RUNS * STEPS
    assert fake.told == []
    store.close()


async def end_connections(url: str, count: int) -> None:
    """End all connections but its own every 20 ms, so many at least."""
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    )
    psycopg = pytest.importorskip("psycopg")
    ended = 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while ended < count:
            cursor = await connection.execute(query + "pg_backend_pid()")
            row = await cursor.fetchone()
            assert row is not None
            ended += row[0]
            await asyncio.sleep(0.02)
