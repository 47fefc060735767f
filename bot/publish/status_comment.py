"""The one status comment, edited as the run goes: always when the state changes, else every few seconds at most."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from bot.contracts import Forge, IssueTracker
from bot.errors import BuildFailed, ForgeError, RateLimited, Refused
from bot.forge.markers import STATUS
from bot.lifecycle import RunState
from bot.publish.messages import status
from bot.publish.messages.build import build_failed
from bot.publish.messages.labels import Labels
from bot.publish.revise import reply_to_end
from bot.records import ClaimedRun
from bot.tasks import under_way

log = logging.getLogger(__name__)

INTERVAL = 10.0  # seconds between two edits within one state


class StatusComment:
    """A `Progress` that comments on the issue. Enter it around the stages; no error of the forge ends the run.

    `fence` is called before every edit. It raises `LeaseLost` where another worker has the run; then the comment is
    left to that worker. `failed` is called where a later edit fails, which may have a reason that lasts: the repository
    is gone, say.
    """

    def __init__(
        self,
        forge: IssueTracker,
        run: ClaimedRun,
        fence: Callable[[], Awaitable[None]],
        *,
        failed: Callable[[], Awaitable[None]] | None = None,
        interval: float = INTERVAL,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._forge = forge
        self._run = run
        self._fence = fence
        self._failed = failed
        self._interval = interval
        self._sleep = sleep
        self._started = time.monotonic()
        self._state: RunState | None = None
        self._said: tuple[RunState, int, int, str] | None = None
        self._changed = asyncio.Event()  # there is an update to write
        self._urgent = asyncio.Event()  # ... at once
        self._begun = asyncio.Event()  # the first update is written, or was refused:
        self._refused: Refused | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "StatusComment":
        self._task = asyncio.create_task(self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        """Returns at once; a newer update replaces one that was not written yet."""
        if self._said == (state, done, total, note):
            return
        if state is not self._state:
            self._urgent.set()
        self._state, self._said = state, (state, done, total, note)
        self._changed.set()

    async def begun(self) -> None:
        """Wait until the first update is written, or could not be. Raises `Refused` where GitHub refuses it for good:
        then nobody could be told of a result, either."""
        await self._begun.wait()
        if self._refused is not None:
            raise Refused(f"nobody could be told what comes of it: {self._refused}") from self._refused

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._urgent.clear()
            assert self._said is not None
            state, done, total, note = self._said
            body = status.running(state, done, total, note, seconds=time.monotonic() - self._started)
            try:
                await self._fence()
                await self._write(body)
            except ForgeError as error:
                log.warning("run %d: the status comment could not be written: %s", self._run.id, error)
            except Exception as error:
                log.info("run %d: the status comment is no longer updated: %s", self._run.id, error)
                return
            finally:
                self._begun.set()
            await self._rest()

    async def _write(self, body: str) -> None:
        try:
            await self._forge.comment(self._run.repository, self._run.conversation, STATUS, body)
        except RateLimited:
            raise
        except ForgeError as error:
            if self._begun.is_set() and self._failed is not None:
                await self._failed()
            elif isinstance(error, Refused):
                self._refused = error
            raise

    async def _rest(self) -> None:
        """Until the interval is over, or the state changes."""
        async with under_way(self._sleep(self._interval), self._urgent.wait()) as waits:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)


async def announce(forge: Forge, run: ClaimedRun, state: RunState, reason: str, labels: Labels) -> None:
    """Report an end without a count on the issue: the status comment and the label. Idempotent. Raises `ForgeError`."""
    number = run.conversation
    body = status.ended(state, reason, run.sender, labels.wanted, of_issue=run.revision is None)
    try:
        await forge.comment(run.repository, number, STATUS, body)
    except Refused:
        if run.revision is None:  # where the conversation is locked, the label alone tells of it
            await forge.set_label(run.repository, number, labels.of(state), labels.known)
        raise
    if run.revision is None:  # the labels tell the state of the issue
        await forge.set_label(run.repository, number, labels.of(state), labels.known)
    else:
        await reply_to_end(forge, run, state, reason)


async def tell_of_wait(forge: IssueTracker, run: ClaimedRun, reason: str) -> None:
    """Say in the status comment what the run waits for. Labels stay: somebody may have removed them. As `announce`."""
    await forge.comment(run.repository, run.conversation, STATUS, status.waiting(reason))


async def announce_failed_build(forge: Forge, run: ClaimedRun, failure: BuildFailed, labels: Labels) -> None:
    """Report that the image for the repository's tests can't be built. Idempotent. Raises `ForgeError`."""
    number = run.conversation
    await forge.comment(run.repository, number, STATUS, build_failed(failure))
    if run.revision is None:
        await forge.set_label(run.repository, number, labels.of(RunState.FAILED), labels.known)
    else:
        await reply_to_end(forge, run, RunState.FAILED, str(failure))
