"""A pipeline, commands and an issue of the test's own, for tests of the worker."""

import asyncio
from collections.abc import Awaitable, Callable

from bot.lifecycle import RunState
from bot.records import ClaimedCommand, ClaimedRun
from bot.store import RunInfo, Store
from bot.worker.callbacks import Advance, Callbacks, Executed, Finished
from bot.worker.worker import Worker
from tests.patience import PATIENCE

LEASE = 2 * PATIENCE  # seconds: no work outlives it
SHORT = 0.2  # seconds: for what goes on once a lease has run out
STAGES = [RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES, RunState.MATRIX, RunState.SELECTION]


async def solve(run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
    for stage in (*STAGES, RunState.PUBLISHING):
        await advance(stage)
    return Finished(state=RunState.SOLVED, report_json="{}", pull_request_url="http://x/pull/1")


class Fake:
    """A pipeline, commands and an issue that do what the test wants, and remember it."""

    def __init__(self) -> None:
        self.run: Callable[..., Awaitable[Finished]] = solve
        self.command: Callable[[ClaimedCommand], Awaitable[Executed]] = self._done
        self.announcing: Callable[[], None] = lambda: None
        self.executed: list[tuple[int, int]] = []  # run, attempt
        self.told: list[tuple[RunState, str]] = []
        self.started = asyncio.Event()
        self.ended: list[str] = []

    async def execute(self, run, journal, progress, advance) -> Finished:
        self.executed.append((run.id, run.attempt))
        self.started.set()
        try:
            finished = await self.run(run, journal, progress, advance)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("finished")
        return finished

    async def execute_command(self, command: ClaimedCommand) -> Executed:
        self.executed.append((command.id, command.attempt))
        self.started.set()
        return await self.command(command)

    async def announce(self, run: ClaimedRun, state: RunState, reason: str) -> None:
        self.announcing()
        self.told.append((state, reason))

    @staticmethod
    async def _done(_command: ClaimedCommand) -> Executed:
        return Executed(note="done")


async def forever(*_: object) -> Finished:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def failing(error: BaseException) -> Callable[..., Awaitable[Finished]]:
    async def run(*_: object) -> Finished:
        raise error

    return run


def worker_of(store: Store, fake: Fake, lease: float = LEASE, name: str = "w") -> Worker:
    return Worker(store, Callbacks(fake.execute, fake.execute_command, fake.announce), lease_seconds=lease, name=name)


def info(store: Store, run_id: int) -> RunInfo:
    found = store.run(run_id)
    assert found is not None
    return found
