"""Enqueues what is due and not in the queue, and deletes old rows. Never executes a job itself."""

import asyncio
import logging
import time

from bot.contracts import Dispatcher
from bot.errors import StoreUnavailable
from bot.store import Store
from bot.store.threads import in_thread

log = logging.getLogger(__name__)

PRUNE_SECONDS = 3600.0  # between two searches for old rows
PRUNE_LIMIT = 2000  # rows of a table at once; the rest is for the next sweep


class Sweeper:
    """Each process may run one: a job that is enqueued twice is executed once."""

    def __init__(self, store: Store, dispatcher: Dispatcher, sweep_seconds: float, *, keep_days: float = 30.0) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._seconds = sweep_seconds
        self._keep_days = keep_days
        self._pruned = float("-inf")  # monotonic seconds, when no old rows were left

    async def run(self) -> None:
        """Sweep at once and then every `sweep_seconds`, until cancelled. Outages are logged."""
        while True:
            try:
                await self.sweep()
                await self.prune()
            except (StoreUnavailable, ConnectionError) as error:
                log.warning("the sweep was interrupted: %s", error)
            except Exception:
                log.exception("the sweep failed")
            await asyncio.sleep(self._seconds)

    async def sweep(self) -> tuple[str, ...]:
        """Enqueue all that is due; the job ids. Raises `StoreUnavailable`, or `ConnectionError` from the queue."""
        job_ids = await in_thread(self._store.due)
        for job_id in job_ids:
            await self._dispatcher.enqueue(job_id)
        if job_ids:
            log.info("swept: %s", ", ".join(job_ids))
        return job_ids

    async def prune(self) -> int:
        """Delete rows older than `keep_days`, some at a time; how many. Raises `StoreUnavailable`."""
        started = time.monotonic()
        if started - self._pruned < PRUNE_SECONDS:
            return 0
        gone = await in_thread(self._store.prune, self._keep_days, PRUNE_LIMIT)
        if gone < PRUNE_LIMIT:
            self._pruned = started
        if gone:
            log.info("pruned: %d rows older than %g days", gone, self._keep_days)
        return gone
