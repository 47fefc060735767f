"""Work under its lease."""

import asyncio
import threading
import time

from bot.errors import (
    StoreUnavailable,
)
from bot.lifecycle import RunState
from bot.records import ClaimedCommand, ClaimedRun
from bot.store import Store, run_job
from bot.worker import Advance, Executed, Finished, Worker
from tests.bot.queueing import queue_command, queue_run, store_now
from tests.bot.working import LEASE, Fake, forever, info, solve, worker_of


async def test_a_run_that_is_asked_to_stop_is_interrupted(store: Store, fake: Fake, worker: Worker):
    fake.run = forever
    run_id = queue_run(store)
    handling = asyncio.create_task(worker.handle(run_job(run_id)))
    await fake.started.wait()
    store.request_stop(run_id, "ann said stop")
    await asyncio.wait_for(handling, 5)
    assert fake.ended == ["CancelledError"]
    assert fake.told == [(RunState.STOPPED, "ann said stop")]
    assert info(store, run_id).state is RunState.STOPPED


async def test_publishing_is_not_interrupted(store: Store, fake: Fake, worker: Worker):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        await solve(run, journal, progress, advance)
        store.request_stop(run.id, "too late")
        await asyncio.sleep(LEASE)  # several heartbeats
        return Finished(state=RunState.SOLVED)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED


async def test_work_longer_than_its_lease_keeps_it(store: Store, fake: Fake):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        for _ in range(4):
            await asyncio.sleep(3 * LEASE / 2)
            assert store.claim_run(run.id, "thief", 60) is None
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker_of(store, fake, lease=3 * LEASE).handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).attempt) == (RunState.SOLVED, 1)


async def test_a_command_longer_than_its_lease_keeps_it(store: Store, fake: Fake):
    async def slow(command: ClaimedCommand) -> Executed:
        for _ in range(4):
            await asyncio.sleep(3 * LEASE / 2)
            assert store.claim_command(command.id, "thief", 60) is None
        return Executed()

    fake.command = slow
    await worker_of(store, fake, lease=3 * LEASE).handle(f"command:{queue_command(store)}")
    assert store.due() == ()


async def test_work_that_fills_the_threads_of_the_process_keeps_its_lease(store: Store, fake: Fake):
    """Clones and containers run in asyncio's default threads, for minutes; the heartbeat must not wait for one."""
    free = threading.Event()

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        blocked = [asyncio.create_task(asyncio.to_thread(free.wait)) for _ in range(100)]
        await asyncio.sleep(3 * LEASE * 1.5)
        taken = store.claim_run(run.id, "thief", 60)
        free.set()
        await asyncio.gather(*blocked)
        assert taken is None
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker_of(store, fake, lease=3 * LEASE).handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED


async def test_an_event_loop_blocked_past_its_lease_is_fenced(store: Store, fake: Fake, worker: Worker):
    acts = []

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        await advance(RunState.CHECKOUT)
        await journal.put("before", "1")
        deadline = time.monotonic() + 5
        while store.claim_run(run.id, "another worker", 60) is None:  # blocks the loop: no heartbeat comes through
            assert time.monotonic() < deadline
            time.sleep(0.01)  # noqa: ASYNC251
        await journal.put("after", "1")
        acts.append("went on")
        return Finished(state=RunState.FAILED)

    fake.run = run
    run_id = queue_run(store)
    assert await worker.handle(run_job(run_id)) is None
    assert acts == []
    assert store.step_keys(run_id) == ("before",)
    end = info(store, run_id)
    assert (end.state, end.attempt, end.worker) == (RunState.CHECKOUT, 2, "another worker")
    assert fake.told == []


async def test_work_that_never_looks_is_cancelled_when_its_lease_is_lost(store: Store, fake: Fake, worker: Worker):
    fake.run = forever
    run_id = queue_run(store)
    handling = asyncio.create_task(worker.handle(run_job(run_id)))
    await fake.started.wait()
    with store.database.write() as tx:
        tx.exec_driver_sql("UPDATE run SET attempt = attempt + 1")
    await asyncio.wait_for(handling, 5)
    assert fake.ended == ["CancelledError"]
    assert info(store, run_id).state is RunState.QUEUED


async def test_work_that_ends_after_its_lease_was_lost_writes_nothing(store: Store, fake: Fake):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        with store.database.write() as tx:
            tx.exec_driver_sql("UPDATE run SET attempt = attempt + 1")
        return Finished(state=RunState.FAILED, note="mine")

    fake.run = run
    run_id = queue_run(store)
    await worker_of(store, fake, lease=60).handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).reason) == (RunState.QUEUED, "")
    assert fake.told == []


async def test_a_lease_that_can_not_be_renewed_ends_the_work(store: Store, fake: Fake, worker: Worker, monkeypatch):
    """The database is away for longer than the lease: another worker may be at the run by then."""

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    fake.run = forever
    run_id = queue_run(store)
    with monkeypatch.context() as patched:
        patched.setattr(store, "renew", away)
        await asyncio.wait_for(worker.handle(run_job(run_id)), 5)
    assert fake.ended == ["CancelledError"]
    assert (info(store, run_id).state, info(store, run_id).crashes) == (RunState.QUEUED, 0)
    assert store.due(store_now(store) + 6) == (run_job(run_id, 1),)


async def test_progress_is_seen_from_outside(store: Store, fake: Fake, worker: Worker):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        progress.update(RunState.CHECKOUT, 1, 2, "half of it")
        for _ in range(100):
            if info(store, run.id).progress:
                break
            await asyncio.sleep(LEASE / 10)
        assert info(store, run.id).progress == "checkout: 1 of 2, half of it"
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED
