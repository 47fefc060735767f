"""Executes jobs: claims them, works under a lease, stores how they end, tells the issue. callbacks.py has the work."""

import asyncio
import errno
import functools
import logging
import os
import platform
import secrets
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from structlog.contextvars import bound_contextvars
from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_attempt,
    wait_chain,
    wait_fixed,
)

from bot.contracts import Dispatcher
from bot.errors import (
    ForgeError,
    LeaseLost,
    RateLimited,
    Refused,
    RunHeld,
    RunStopped,
    SandboxError,
    StoreUnavailable,
    TroopError,
)
from bot.lifecycle import RunState
from bot.publish.messages.states import progress
from bot.publish.messages.words import duration
from bot.records import ClaimedRun
from bot.sanitize import redact
from bot.store import DbJournal, Store, parse, run_job
from bot.store.jobs import RUN, command_job
from bot.store.threads import in_thread
from bot.worker.callbacks import Callbacks, Executed, Finished
from bot.worker.lease import ShuttingDown, under_lease
from bot.worker.missed import MissedDeliveries
from bot.worker.sweeper import Sweeper

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds until a run is tried again after an infrastructure error: GitHub was away for hours before.
DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 3600.0, 3600.0)
PERSIST = (0.05, 0.2, 1.0, 3.0, 10.0)  # seconds between attempts to store an end while the database is away
ANNOUNCE_TIMEOUT = 120.0  # seconds

# What may pass.
SHORTAGES = {
    errno.ENOSPC: "has run out of disk space",
    errno.EDQUOT: "has run out of disk space",
    errno.EROFS: "has a disk that can't be written",
    errno.EIO: "has a disk that does not work",
    errno.EMFILE: "has run out of open files",
    errno.ENFILE: "has run out of open files",
    errno.ENOMEM: "has run out of memory",
}
TOLD = frozenset({RunState.FAILED, RunState.STOPPED, RunState.REFUSED, RunState.PARKED})


class Worker:
    """Call from one event loop."""

    def __init__(
        self,
        store: Store,
        callbacks: Callbacks,
        *,
        lease_seconds: float = 60.0,
        delays: tuple[float, ...] = DELAYS,
        name: str = "",
    ) -> None:
        self._store = store
        self._callbacks = callbacks
        self._lease = lease_seconds
        self._delays = delays
        self.name = name or new_name()
        self._shutdown = asyncio.Event()

    async def close(self) -> None:
        """Close what the jobs shared."""
        await self._callbacks.close()

    def shutdown(self) -> None:
        """Give running jobs back and take no more. Call it in the event loop's thread, e.g. from a signal handler."""
        self._shutdown.set()

    async def handle(self, job_id: str) -> str | None:
        """Execute the job if it is still due. Raises only `CancelledError`, after giving the job back.

        Enqueue the returned job, if any, at once.
        """
        if self._shutdown.is_set():
            return None
        try:
            job = parse(job_id)
            with bound_contextvars(**{job.kind: job.id}):
                return await (self._handle_run(job.id) if job.kind == RUN else self._handle_command(job.id))
        except LeaseLost as error:
            log.warning("%s stops without writing: %s", job_id, error)
        except StoreUnavailable as error:
            log.warning("%s is left to the sweeper: %s", job_id, error)
        except Exception:
            log.exception("%s failed in the worker; it is left to the sweeper", job_id)
        return None

    # -- runs

    async def _handle_run(self, run_id: int) -> str | None:
        run = await self._claim(
            functools.partial(self._store.claim_run, run_id, self.name, self._lease),
            lambda claimed: self._store.release(claimed.id, claimed.attempt),
        )
        following = None if run is None else await self._work(run)
        await self._tell(run_id)
        return following

    async def _work(self, run: ClaimedRun) -> str | None:
        log.info("run %d of %s#%d: attempt %d", run.id, run.repository, run.issue.number, run.attempt)
        progress = StoredProgress(self._callbacks.secrets)
        held = (run.id, run.attempt)

        async def advance(state: RunState) -> None:
            await in_thread(self._store.advance, *held, state)

        try:
            end = await under_lease(
                self._callbacks.execute(run, DbJournal(self._store, *held, self._callbacks.secrets), progress, advance),
                lambda: self._store.renew(*held, self._lease, progress.text),
                lease_seconds=self._lease,
                shutdown=self._shutdown,
            )
        except ShuttingDown:
            await self._persist(self._store.release, *held)
            return run_job(*held)
        except asyncio.CancelledError:
            await asyncio.shield(self._persist(self._store.release, *held))
            raise
        except Exception as error:
            cause = decisive(error)
            if isinstance(cause, LeaseLost):
                raise cause from None
            if isinstance(cause, RunHeld):
                log.info("run %d waits: %s", run.id, cause)
                await self._persist(self._store.hold_run, *held, str(cause), cause.until)
                return None
            if isinstance(cause, RunStopped):
                end = Finished(state=RunState.STOPPED, note=str(cause))
            elif is_infrastructure(cause):
                log.warning("run %d failed for now: %s: %s", run.id, type(cause).__name__, cause)
                wait = cause.retry_after if isinstance(cause, RateLimited) else 0.0
                words = self._callbacks.words(reason(cause))
                delay = await self._persist(self._store.postpone, *held, words, self._delays, wait)
                if delay is not None:
                    log.info("run %d is tried again in %.0f s", run.id, delay)
                    if not isinstance(cause, ForgeError):  # else GitHub itself is in the way
                        await self._tell_of_wait(run, words, delay)
                    return None
                note = f"gave up after {len(self._delays) + 1} tries: {words}"
                end = Finished(state=RunState.FAILED, note=note)
            else:
                log.error("run %d failed", run.id, exc_info=error)
                end = Finished(state=RunState.FAILED, note=self._callbacks.words(reason(cause)))
        following = await self._finish(run, end)
        return None if following is None else run_job(following)

    async def _tell_of_wait(self, run: ClaimedRun, why: str, delay: float) -> None:
        """Say on the issue what is in the way, before the run is tried again."""
        try:
            async with asyncio.timeout(min(0.8 * delay, ANNOUNCE_TIMEOUT)):
                words = f"{why.rstrip('.')}; it is tried again in {duration(delay)}"
                await self._callbacks.wait(run, words)
        except Exception as error:
            log.warning("run %d: the issue could not be told that it waits: %s", run.id, error)

    async def _finish(self, run: ClaimedRun, end: Finished) -> int | None:
        """Store the end. The id of a run that was asked for meanwhile, to be enqueued."""

        def store(end: Finished) -> int | None:
            return self._store.finish(
                run.id,
                run.attempt,
                end.state,
                reason=redact(end.note, self._callbacks.secrets),
                report_json=end.report_json,
                pull_request_url=end.pull_request_url,
                announce=end.state in TOLD and not end.announced,
            )

        try:
            following = await self._persist(store, end)
        except ValueError as error:  # not an end that the lifecycle allows
            log.exception("run %d ended in a state that is not allowed", run.id)
            following = await self._persist(store, Finished(state=RunState.FAILED, note=reason(error)))
        log.info("run %d: %s %s", run.id, end.state, end.note)
        return following

    async def _tell(self, run_id: int) -> None:
        """Announce the end of the run, if the issue has not been told. After a failure it is tried again later."""
        telling = await in_thread(self._store.claim_announcement, run_id, self.name, ANNOUNCE_TIMEOUT + PERSIST[-1])
        if telling is None:
            return
        try:
            async with asyncio.timeout(ANNOUNCE_TIMEOUT):
                await self._callbacks.announce(telling.run, telling.state, telling.reason)
        except Exception as error:
            delay = await self._persist(self._store.announcement_failed, run_id)
            again = "given up" if delay is None else f"tried again in {delay:.0f} s"
            known = isinstance(error, ForgeError)
            log.log(
                logging.WARNING if known else logging.ERROR,
                "run %d: the issue could not be told that it is %s; %s: %s",
                *(run_id, telling.state, again, error),
                exc_info=not known,
            )
        else:
            await self._persist(self._store.announced, run_id)

    # -- commands

    async def _handle_command(self, command_id: int) -> str | None:
        command = await self._claim(
            functools.partial(self._store.claim_command, command_id, self.name, self._lease),
            lambda claimed: self._store.release_command(claimed.id, claimed.attempt),
        )
        if command is None:
            return None
        held = (command.id, command.attempt)
        what = f"command {command.id} ({command.command.name}) of {command.repository}#{command.issue_number}"
        log.info("%s: attempt %d", what, command.attempt)
        try:
            done = await under_lease(
                self._callbacks.execute_command(command),
                lambda: self._store.renew_command(*held, self._lease),
                lease_seconds=self._lease,
                shutdown=self._shutdown,
            )
        except ShuttingDown:
            await self._persist(self._store.release_command, *held)
            return None
        except asyncio.CancelledError:
            await asyncio.shield(self._persist(self._store.release_command, *held))
            raise
        except Exception as error:
            cause = decisive(error)
            if isinstance(cause, LeaseLost):
                raise cause from None
            if is_infrastructure(cause):
                wait = cause.retry_after if isinstance(cause, RateLimited) else 0.0
                words = self._callbacks.words(reason(cause))
                delay = await self._persist(self._store.postpone_command, *held, words, self._delays, wait)
                if delay is not None:
                    log.warning("command %d is tried again in %.0f s: %s", command.id, delay, cause)
                    return None
            log.error("command %d (%s) failed", command.id, command.command.name, exc_info=error)
            done = Executed(note=self._callbacks.words(reason(cause)))
        note = redact(done.note, self._callbacks.secrets)
        waiting = await self._persist(self._store.finish_command, *held, note)
        log.info("%s: done", what)
        return done.following or (None if waiting is None else command_job(waiting))

    # -- both

    async def _claim(self, claim: Callable[[], T | None], release: Callable[[T], None]) -> T | None:
        """Claim; where the job is cancelled meanwhile, the claim is given back."""
        claiming = asyncio.create_task(in_thread(claim))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            if (claimed := await claiming) is not None:
                await in_thread(release, claimed)
            raise

    async def _persist(self, write: Callable[..., T], *values: Any) -> T:
        """Write, with retries: the database may be restarting. Safe, since each of these writes is stored once."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_chain(*map(wait_fixed, PERSIST)),
            stop=stop_after_attempt(len(PERSIST) + 1),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        return await retrying(in_thread, write, *values)


def new_name() -> str:
    """A worker's, which no other process has, not even one that is started again in the same container."""
    return f"{platform.node()}:{os.getpid()}:{secrets.token_hex(4)}"


class StoredProgress:
    """A `contracts.Progress` whose text is stored with the next renewal of the lease, without the `secrets`."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self.text: str | None = None
        self._secrets = secrets

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        self.text = progress(state, done, total, redact(note, self._secrets))


def decisive(error: BaseException) -> BaseException:
    """The error of a task group that decides: a lost lease, then a stop, then one that would happen again."""
    leaves = list(_leaves(error))
    for kind in (LeaseLost, RunStopped):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return next((leaf for leaf in leaves if not is_infrastructure(leaf)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def is_infrastructure(error: BaseException) -> bool:
    """Whether the same work may succeed later."""
    if isinstance(error, Refused):
        return False
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return True
    return isinstance(error, ConnectionError | TimeoutError | SandboxError | ForgeError)


def reason(error: BaseException) -> str:
    """What the issue is told: our own messages are meant for people, others may contain private details."""
    if isinstance(error, TroopError) and not isinstance(error, StoreUnavailable):
        return str(error)
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return f"the server {SHORTAGES[error.errno]}; its log has the details"
    return f"an unexpected error ({type(error).__name__}); the worker's log has the details"


async def serve(
    worker: Worker, dispatcher: Dispatcher, sweeper: Sweeper, stop: asyncio.Event, *beside: MissedDeliveries
) -> None:
    """Work until `stop` is set (on SIGTERM, say), then give running jobs back and close the queue.

    Raises the error of the dispatcher, the sweeper or one of `beside`, if one of them fails.
    """
    tasks = {asyncio.create_task(task) for task in (dispatcher.run(), sweeper.run(), *(one.run() for one in beside))}
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.shutdown()
        await dispatcher.close()
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)
        await worker.close()
    for task in done - {stopping}:
        task.result()
