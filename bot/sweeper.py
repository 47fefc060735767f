"""Finds what the queue lost and enqueues it again; never executes anything itself."""

import asyncio
import logging

from bot.contracts import Dispatcher
from bot.errors import StoreUnavailable
from bot.store import Store
from bot.store.threads import in_thread

log = logging.getLogger(__name__)


class Sweeper:
    """Every process may run one: a job enqueued twice is executed once."""

    def __init__(self, store: Store, dispatcher: Dispatcher, sweep_seconds: float) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._seconds = sweep_seconds

    async def run(self) -> None:
        """Sweep at once and then every `sweep_seconds`, until cancelled. Outages are logged and survived."""
        while True:
            try:
                await self.sweep()
            except (StoreUnavailable, ConnectionError) as error:
                log.warning("the sweep was cut short: %s", error)
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
