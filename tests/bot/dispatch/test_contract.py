"""What every dispatcher must do, run against each: in this process, and arq on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bot.contracts import Dispatcher
from bot.dispatch.arq import ArqDispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from tests.patience import PATIENCE, soon

QUEUES = {"run": 2, "command": 1}


class Jobs:
    """A handler that records, and that holds jobs until a test lets them go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.following: dict[str, str] = {}
        self.failing: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.most_at_once = 0
        self._changed = asyncio.Condition()

    async def handle(self, job_id: str) -> str | None:
        async with self._changed:
            self.started.append(job_id)
            self.most_at_once = max(self.most_at_once, len(self.started) - len(self.ended) - len(self.cancelled))
            self._changed.notify_all()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job_id)
            raise
        async with self._changed:
            self.ended.append(job_id)
            self._changed.notify_all()
        if job_id in self.failing:
            raise RuntimeError("a handler that raises")
        return self.following.get(job_id)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)


@pytest.fixture
async def jobs() -> Jobs:
    return Jobs()


@pytest.fixture(params=["inprocess", pytest.param("arq", marks=pytest.mark.service)])
def make(request: pytest.FixtureRequest, jobs: Jobs) -> Callable[..., Dispatcher]:
    if request.param == "inprocess":
        return lambda grace=PATIENCE: InProcessDispatcher(jobs.handle, QUEUES, grace=grace)
    url = request.getfixturevalue("redis_url")
    return lambda grace=PATIENCE: ArqDispatcher(jobs.handle, QUEUES, url, grace=grace, poll_seconds=0.01)


@pytest.fixture
async def dispatcher(make: Callable[..., Dispatcher]) -> AsyncIterator[Dispatcher]:
    dispatcher = make()
    running = asyncio.create_task(dispatcher.run())
    yield dispatcher
    await dispatcher.close()
    await soon(running)


async def test_a_job_is_executed(dispatcher: Dispatcher, jobs: Jobs):
    await dispatcher.enqueue("run:1:0")
    await jobs.until(lambda: jobs.ended == ["run:1:0"])


async def test_jobs_enqueued_before_it_runs_are_executed(make, jobs: Jobs):
    dispatcher = make()
    await dispatcher.enqueue("run:1:0")
    running = asyncio.create_task(dispatcher.run())
    await jobs.until(lambda: jobs.ended == ["run:1:0"])
    await dispatcher.close()
    await running


async def test_a_job_that_waits_or_runs_is_not_taken_again(dispatcher: Dispatcher, jobs: Jobs):
    jobs.gate.clear()
    for job_id in ("run:1:0", "run:2:0", "run:3:0"):
        await dispatcher.enqueue(job_id)
    await jobs.until(lambda: len(jobs.started) == 2)
    for _ in range(5):
        await dispatcher.enqueue("run:1:0")  # runs
        await dispatcher.enqueue("run:3:0")  # waits
    jobs.gate.set()
    await jobs.until(lambda: len(jobs.ended) == 3)
    await dispatcher.enqueue("run:4:0")
    await jobs.until(lambda: "run:4:0" in jobs.ended)
    assert sorted(jobs.started) == ["run:1:0", "run:2:0", "run:3:0", "run:4:0"]


async def test_an_ended_job_can_be_enqueued_again(dispatcher: Dispatcher, jobs: Jobs):
    for count in (1, 2, 3):
        while len(jobs.ended) < count:  # arq forgets an ended job a moment after its handler ended
            await dispatcher.enqueue("run:1:0")
            await asyncio.sleep(0.01)
    assert jobs.ended[:3] == ["run:1:0"] * 3


async def test_no_more_at_once_than_the_queue_may_run(dispatcher: Dispatcher, jobs: Jobs):
    jobs.gate.clear()
    for n in range(10):
        await dispatcher.enqueue(f"run:{n}:0")
    await jobs.until(lambda: len(jobs.started) == 2)
    jobs.gate.set()
    await jobs.until(lambda: len(jobs.ended) == 10)
    assert jobs.most_at_once == 2


async def test_a_command_does_not_wait_behind_runs(dispatcher: Dispatcher, jobs: Jobs):
    jobs.gate.clear()
    for n in range(5):
        await dispatcher.enqueue(f"run:{n}:0")
    await jobs.until(lambda: len(jobs.started) == 2)
    await dispatcher.enqueue("command:7")
    await jobs.until(lambda: "command:7" in jobs.started)
    jobs.gate.set()


async def test_a_handler_that_raises_ends_nothing_else(dispatcher: Dispatcher, jobs: Jobs):
    jobs.failing = {f"run:{n}:0" for n in range(5)}
    for n in range(6):
        await dispatcher.enqueue(f"run:{n}:0")
    await jobs.until(lambda: len(jobs.ended) == 6)


async def test_a_following_job_is_handed_over(dispatcher: Dispatcher, jobs: Jobs):
    jobs.following = {"run:1:0": "run:1:1"}
    await dispatcher.enqueue("run:1:0")
    await jobs.until(lambda: jobs.ended == ["run:1:0", "run:1:1"])


async def test_what_is_no_job_id_is_refused(dispatcher: Dispatcher):
    for wrong in ("", "run:1", "run:x:0", "command:-1", "other:1:2", "run:1:0; DROP TABLE run"):
        with pytest.raises(ValueError, match="is not a job id"):
            await dispatcher.enqueue(wrong)


async def test_close_lets_running_jobs_finish_and_starts_no_others(make, jobs: Jobs):
    dispatcher = make()
    running = asyncio.create_task(dispatcher.run())
    jobs.gate.clear()
    for n in range(4):
        await dispatcher.enqueue(f"run:{n}:0")
    await jobs.until(lambda: len(jobs.started) == 2)
    closing = asyncio.create_task(dispatcher.close())
    await asyncio.sleep(0)
    jobs.gate.set()
    await closing
    await soon(running)
    assert len(jobs.started) == len(jobs.ended) == 2
    assert jobs.cancelled == []


async def test_close_cancels_what_outlasts_the_grace(make, jobs: Jobs):
    dispatcher = make(grace=0.05)
    running = asyncio.create_task(dispatcher.run())
    jobs.gate.clear()
    await dispatcher.enqueue("run:1:0")
    await jobs.until(lambda: len(jobs.started) == 1)
    await dispatcher.close()
    await soon(running)
    assert jobs.cancelled == ["run:1:0"]


async def test_cancelling_run_cancels_its_jobs(make, jobs: Jobs):
    dispatcher = make()
    running = asyncio.create_task(dispatcher.run())
    jobs.gate.clear()
    await dispatcher.enqueue("run:1:0")
    await jobs.until(lambda: len(jobs.started) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert jobs.cancelled == ["run:1:0"]
    await dispatcher.close()


async def test_closing_one_that_never_ran_or_is_closed(make):
    dispatcher = make()
    await dispatcher.close()
    await dispatcher.close()
