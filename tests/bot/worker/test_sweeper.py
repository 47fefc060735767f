import asyncio

import pytest

from bot.errors import StoreUnavailable
from bot.store import Store, run_job
from bot.worker.sweeper import Sweeper
from tests.bot.queueing import expire, queue_command, queue_run
from tests.patience import soon


class Queue:
    """Takes note of what is enqueued; fails as often as it is told to."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.failures = 0
        self.enqueued = asyncio.Event()

    async def enqueue(self, job_id: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("Redis is away")
        self.jobs.append(job_id)
        self.enqueued.set()

    async def run(self) -> None: ...

    async def close(self) -> None: ...


async def test_all_that_nobody_does_is_enqueued_and_nothing_else(store: Store):
    waiting, held, lost = (queue_run(store, issue=n) for n in range(3))
    assert store.claim_run(held, "w", 60)
    assert store.claim_run(lost, "w", 60)
    expire(store, lost)
    command = queue_command(store)
    queue = Queue()
    swept = await Sweeper(store, queue, 60).sweep()
    assert swept == (f"command:{command}", run_job(waiting, 0), run_job(lost, 1))
    assert tuple(queue.jobs) == swept
    info = store.run(lost)
    assert info is not None
    assert (info.attempt, info.crashes) == (1, 0)  # the sweeper changes nothing


async def test_an_empty_sweep(store: Store):
    assert await Sweeper(store, Queue(), 60).sweep() == ()


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")], ids=["outage", "bug"])
async def test_outages_are_survived(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception):
    run_id = queue_run(store)
    queue = Queue()
    queue.failures = 2
    due, errors = store.due, iter([error, error])

    def failing(*values) -> tuple[str, ...]:
        for failure in errors:
            raise failure
        return due(*values)

    monkeypatch.setattr(store, "due", failing)
    sweeping = asyncio.create_task(Sweeper(store, queue, 0.001).run())
    await soon(queue.enqueued.wait())
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert queue.jobs[0] == run_job(run_id)


async def test_what_is_old_is_pruned_now_and_then(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bot.worker.sweeper.PRUNE_LIMIT", 2)
    asked: list[tuple[float, int]] = []
    gone = iter([2, 1, 9])

    def prune(keep_days: float, limit: int) -> int:
        asked.append((keep_days, limit))
        return next(gone)

    monkeypatch.setattr(store, "prune", prune)
    sweeper = Sweeper(store, Queue(), 60, keep_days=7)
    assert [await sweeper.prune() for _ in range(4)] == [2, 1, 0, 0]  # once there is no more, not again for an hour
    assert asked == [(7, 2)] * 2
