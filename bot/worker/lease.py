"""Work under a lease: the lease is renewed while the work goes on, and the work ends when the lease does."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bot.errors import RunStopped, StoreUnavailable
from bot.store.threads import in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_BEAT = 5.0  # seconds: a stop is noticed this soon, however long the lease is
CLEANUP = 30.0  # seconds that cancelled work may take to destroy its containers and the like


class ShuttingDown(Exception):
    """The process is to end; give the work back."""


async def under_lease(
    work: Coroutine[Any, Any, T], renew: Callable[[], str | None], *, lease_seconds: float, shutdown: asyncio.Event
) -> T:
    """The work's result. `renew` blocks; it lengthens the lease, returns a reason to stop, or raises `LeaseLost`.

    The work is cancelled, and its result dropped, where this raises `LeaseLost`, `RunStopped`, `ShuttingDown`, or
    `StoreUnavailable` (the lease could not be renewed in time, so that another worker may be at it already).
    """
    task = asyncio.create_task(work)
    heart = asyncio.create_task(_beat(renew, lease_seconds))
    shutting = asyncio.create_task(shutdown.wait())
    try:
        await asyncio.wait({task, heart, shutting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if heart.done():
            heart.result()  # raises what ended it
        raise ShuttingDown
    finally:
        helpers = {heart, shutting, task}
        for helper in helpers:
            helper.cancel()
        _, stuck = await asyncio.wait(helpers, timeout=CLEANUP)
        if stuck:
            log.error("cancelled work did not end within %g s", CLEANUP)
        for helper in helpers - stuck:
            if not helper.cancelled() and (error := helper.exception()) is not None:
                log.debug("ended with %r", error)  # retrieved, so that asyncio does not complain


async def _beat(renew: Callable[[], str | None], lease_seconds: float) -> None:
    beat = min(lease_seconds / 3, LONGEST_BEAT)
    renewed = time.monotonic()
    while True:
        await asyncio.sleep(beat)
        begun = time.monotonic()
        try:
            stop = await in_thread(renew)
        except StoreUnavailable as error:
            if time.monotonic() - renewed > lease_seconds:
                raise
            log.warning("the lease could not be renewed; trying again: %s", error)
            continue
        if stop is not None:
            raise RunStopped(stop)
        renewed = begun
