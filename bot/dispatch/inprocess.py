"""The queue of a single process, in memory. A restart loses it, and the sweeper fills it again."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from bot.dispatch.queues import Handler, Queues, queue_of

log = logging.getLogger(__name__)

LIMIT = 10_000  # jobs waiting; the rest stays in the database until the sweeper finds room


class InProcessDispatcher:
    """`contracts.Dispatcher` for use from one event loop."""

    def __init__(self, handler: Handler, queues: Queues, *, grace: float = 10.0, limit: int = LIMIT) -> None:
        """`grace`: seconds that `close` gives running jobs."""
        self._handler = handler
        self._sizes = queues
        self._grace = grace
        self._limit = limit
        self._queues: dict[str, asyncio.Queue[str]] = {name: asyncio.Queue() for name in queues}
        self._known: set[str] = set()  # waiting or running
        self._running: set[asyncio.Task[None]] = set()
        self._runners: set[asyncio.Task[None]] = set()
        self._closing = False

    async def enqueue(self, job_id: str) -> None:
        """A job that is waiting or running is ignored. Raises `ConnectionError` where the queue is full."""
        queue = self._queues[queue_of(job_id)]
        if self._closing:
            raise ConnectionError(f"{job_id} is not queued: the process is shutting down; the next one finds it")
        if job_id in self._known:
            return
        if queue.qsize() >= self._limit:
            raise ConnectionError(f"{job_id} is not queued: {self._limit} jobs wait; the sweeper enqueues it later")
        self._known.add(job_id)
        queue.put_nowait(job_id)

    async def run(self) -> None:
        runners = {
            asyncio.create_task(self._serve(queue), name=f"{name} {n}")
            for name, queue in self._queues.items()
            for n in range(self._sizes[name])
        }
        self._runners |= runners
        try:
            await asyncio.wait(runners)
        finally:
            for task in (*runners, *self._running):
                task.cancel()
            await asyncio.gather(*runners, *self._running, return_exceptions=True)
            self._runners -= runners

    async def close(self) -> None:
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        ending = (*self._running, *self._runners)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _serve(self, queue: asyncio.Queue[str]) -> None:
        while not self._closing:
            job_id = await queue.get()
            if self._closing:
                return
            task = asyncio.create_task(self._perform(job_id), name=job_id)
            with self._among_running(task):
                await asyncio.wait({task})

    async def _perform(self, job_id: str) -> None:
        following: str | None = None
        try:
            following = await self._handler(job_id)
        except Exception:  # handlers should not raise; the run stays in the database for the sweeper
            log.exception("job %s failed in its handler", job_id)
        finally:
            self._known.discard(job_id)
        if following is not None:
            with contextlib.suppress(ConnectionError):
                await self.enqueue(following)

    @contextlib.contextmanager
    def _among_running(self, task: "asyncio.Task[None]") -> Iterator[None]:
        self._running.add(task)
        try:
            yield
        finally:
            if task.done():
                self._running.discard(task)
            else:  # `_serve` was cancelled; whoever did that cancels the job too
                task.add_done_callback(self._running.discard)
