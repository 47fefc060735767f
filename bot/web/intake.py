"""Records deliveries together: what arrives while one transaction is on its way to the disk shares the next.

An fsync, or a few round trips to PostgreSQL, cost the same for one delivery as for a hundred.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from bot.store import Accepted, Arrived

MOST = 64  # deliveries in a transaction


class IntakeStore(Protocol):
    """Blocks; it is called in a thread, by one group at a time."""

    def accept_all(self, arrived: Sequence[Arrived]) -> list[Accepted | Exception]: ...


class Intake:
    """For use from one event loop."""

    def __init__(self, store: IntakeStore) -> None:
        self._store = store
        self._waiting: list[tuple[Arrived, asyncio.Future[Accepted]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def accept(self, arrived: Arrived) -> Accepted:
        """Returns once it is durable. Raises what the store does, `StoreUnavailable` mostly."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrived, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="intake")
        return await future

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            arrived = [one for one, _ in group]
            found: Sequence[Accepted | Exception]
            try:
                found = await run_in_threadpool(self._store.accept_all, arrived)
            except Exception as error:
                found = [error] * len(group)
            for (_, future), result in zip(group, found, strict=True):
                if future.done():  # who waited has gone
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
