"""What a worker calls to do its jobs: the protocols of `Callbacks`, and how a run or a command ended."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from bot.contracts import Journal, Progress
from bot.lifecycle import RunState
from bot.records import ClaimedCommand, ClaimedRun, Record


class Finished(Record):
    """How the run ended. For ends other than solved and abstained `announce` tells the issue, with the note."""

    state: RunState
    report_json: str | None = None  # `records.Report`
    pull_request_url: str | None = None
    note: str = ""
    announced: bool = False  # the issue has been told already


class Executed(Record):
    """How a command ended. `following`: a job to enqueue at once, e.g. `run_job(id)` of a run that was started."""

    note: str = ""
    following: str | None = None


class Advance(Protocol):
    async def __call__(self, state: RunState) -> None:
        """Enter a stage. Call it also to check the fence before every write to GitHub, with the present state.

        Raises `LeaseLost`, and `RunStopped` where somebody asked for it before publishing began.
        """


class Execute(Protocol):
    async def __call__(self, run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        """The whole run, resumed from its journal. May be cancelled at any await."""


class ExecuteCommand(Protocol):
    async def __call__(self, command: ClaimedCommand) -> Executed:
        """One command. Idempotent: after a crash another worker executes it again."""


class Announce(Protocol):
    async def __call__(self, run: ClaimedRun, state: RunState, reason: str) -> None:
        """Tell the issue how the run ended. Idempotent; an exception is logged, and it is tried again later."""


async def _nothing() -> None:
    """There is nothing to close."""


async def _untold(_run: ClaimedRun, _reason: str) -> None:
    """Nobody is told that a run waits."""


@dataclass(frozen=True)
class Callbacks:
    """What a worker calls. `close` is called last: for what the others share, such as an engine."""

    execute: Execute
    execute_command: ExecuteCommand
    announce: Announce
    close: Callable[[], Awaitable[None]] = _nothing
    secrets: tuple[str, ...] = ()  # what of a run is stored has none of them
    words: Callable[[str], str] = str  # what of an error's words is for the issue and the database
    wait: Callable[[ClaimedRun, str], Awaitable[None]] = _untold  # say on the issue why the run is tried again later
