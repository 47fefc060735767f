"""Work under its lease."""

import asyncio
import threading

import pytest

from bot.errors import RunStopped, StoreUnavailable
from bot.lifecycle import RunState
from bot.records import ClaimedCommand, ClaimedRun
from bot.store import Store, run_job
from bot.worker.callbacks import Advance, Executed, Finished
from bot.worker.lease import under_lease
from bot.worker.worker import Worker
from tests.bot.queueing import (
    command_lease_left,
    expire,
    expire_command,
    lease_left,
    queue_command,
    queue_run,
    store_now,
)
from tests.bot.worker.working import LEASE, SHORT, Fake, forever, info, solve, worker_of
from tests.fakes import Partly
from tests.patience import eventually, soon, turns


def counted(monkeypatch: pytest.MonkeyPatch, store: Store, name: str) -> list[None]:
    """As many as there were calls of the store's method."""
    calls: list[None] = []
    method = getattr(store, name)

    def call(*values: object) -> object:
        done = method(*values)
        calls.append(None)
        return done

    monkeypatch.setattr(store, name, call)
    return calls


async def test_a_run_that_is_asked_to_stop_is_interrupted(store: Store, fake: Fake, worker: Worker):
    fake.run = forever
    run_id = queue_run(store)
    handling = asyncio.create_task(worker.handle(run_job(run_id)))
    await fake.started.wait()
    store.request_stop(run_id, "ann said stop")
    await soon(handling)
    assert fake.ended == ["CancelledError"]
    assert fake.told == [(RunState.STOPPED, "ann said stop")]
    assert info(store, run_id).state is RunState.STOPPED


async def test_publishing_is_not_interrupted(store: Store, fake: Fake, worker: Worker, monkeypatch):
    beats = counted(monkeypatch, store, "renew")

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        await solve(run, journal, progress, advance)
        store.request_stop(run.id, "too late")
        before = len(beats)
        await eventually(lambda: len(beats) >= before + 3)
        return Finished(state=RunState.SOLVED)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED


async def test_work_longer_than_its_lease_keeps_it(store: Store, fake: Fake, worker: Worker):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        for _ in range(4):
            expire(store, run.id)  # so long did it take
            await eventually(lambda: lease_left(store, run.id) > LEASE / 2)
            assert store.claim_run(run.id, "thief", 60) is None
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).attempt) == (RunState.SOLVED, 1)


async def test_a_command_longer_than_its_lease_keeps_it(store: Store, fake: Fake, worker: Worker):
    async def slow(command: ClaimedCommand) -> Executed:
        for _ in range(4):
            expire_command(store, command.id)
            await eventually(lambda: command_lease_left(store, command.id) > LEASE / 2)
            assert store.claim_command(command.id, "thief", 60) is None
        return Executed()

    fake.command = slow
    await worker.handle(f"command:{queue_command(store)}")
    assert store.due() == ()


@pytest.mark.parametrize(("lease", "beat"), [(9.0, 3.0), (90.0, 5.0)])
async def test_a_lease_is_renewed_well_before_it_ends_and_a_stop_is_noticed_soon(
    lease: float, beat: float, monkeypatch
):
    monkeypatch.setattr("bot.worker.lease.LONGEST_BEAT", 5.0)
    slept: list[float] = []
    rest, beats, ended = asyncio.sleep, iter([None, None, "ann said stop"]), asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await rest(0)

    monkeypatch.setattr("bot.worker.lease.asyncio", Partly(asyncio, sleep=sleep))
    with pytest.raises(RunStopped, match="ann said stop"):
        await under_lease(ended.wait(), lambda: next(beats), lease_seconds=lease, shutdown=asyncio.Event())
    assert slept == [beat] * 3


async def test_work_that_fills_the_threads_of_the_process_keeps_its_lease(store: Store, fake: Fake, worker: Worker):
    """Clones and containers run in asyncio's default threads, for minutes; the heartbeat must not wait for one."""
    free = threading.Event()

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        blocked = [asyncio.create_task(asyncio.to_thread(free.wait)) for _ in range(100)]
        try:
            await turns()  # all threads are taken
            expire(store, run.id)
            await eventually(lambda: lease_left(store, run.id) > LEASE / 2)
        finally:
            free.set()
            await asyncio.gather(*blocked)
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).attempt) == (RunState.SOLVED, 1)


async def test_an_event_loop_blocked_past_its_lease_is_fenced(store: Store, fake: Fake, worker: Worker):
    acts = []

    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        await advance(RunState.CHECKOUT)
        await journal.put("before", "1")
        expire(store, run.id)
        while store.claim_run(run.id, "another worker", 60) is None:  # blocks the loop: no heartbeat comes through
            expire(store, run.id)  # one that was under way already did
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
    await soon(handling)
    assert fake.ended == ["CancelledError"]
    assert info(store, run_id).state is RunState.QUEUED


async def test_work_that_ends_after_its_lease_was_lost_writes_nothing(store: Store, fake: Fake, worker: Worker):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        with store.database.write() as tx:
            tx.exec_driver_sql("UPDATE run SET attempt = attempt + 1")
        return Finished(state=RunState.FAILED, note="mine")

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).reason) == (RunState.QUEUED, "")
    assert fake.told == []


async def test_a_lease_that_can_not_be_renewed_ends_the_work(store: Store, fake: Fake, monkeypatch):
    """The database is away for longer than the lease: another worker may be at the run by then."""

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    fake.run = forever
    run_id = queue_run(store)
    with monkeypatch.context() as patched:
        patched.setattr(store, "renew", away)
        await soon(worker_of(store, fake, lease=SHORT).handle(run_job(run_id)))
    assert fake.ended == ["CancelledError"]
    assert (info(store, run_id).state, info(store, run_id).crashes) == (RunState.QUEUED, 0)
    assert store.due(store_now(store) + 6) == (run_job(run_id, 1),)


async def test_progress_is_seen_from_outside(store: Store, fake: Fake, worker: Worker):
    async def run(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        progress.update(RunState.CHECKOUT, 1, 2, "half of it")
        await eventually(lambda: info(store, run.id).progress)
        assert info(store, run.id).progress == "preparing the repository (1 of 2), half of it"
        return await solve(run, journal, progress, advance)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED
