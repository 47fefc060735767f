"""Runs work under a lease: renews the lease meanwhile, and cancels the work when the lease is lost."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bot.errors import RunStopped, StoreUnavailable
from bot.store.threads import in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_BEAT = 5.0  # seconds between renewals at most, so that a stop is noticed soon
CLEANUP = 30.0  # seconds that cancelled work may take to destroy its containers and the like


class ShuttingDown(Exception):
    """The process is ending; the job is given back."""


async def under_lease(
    work: Coroutine[Any, Any, T], renew: Callable[[], str | None], *, lease_seconds: float, shutdown: asyncio.Event
) -> T:
    """The work's result. `renew` blocks: it extends the lease, returns a reason to stop, or raises `LeaseLost`.

    The work is cancelled, and its result dropped, where this raises `LeaseLost`, `RunStopped`, `ShuttingDown`, or
    `StoreUnavailable` (the lease was not renewed in time, so another worker may have taken the job).
    """
    task = asyncio.create_task(work)
    heart = asyncio.create_task(_beat(renew, lease_seconds))
    shutting = asyncio.create_task(shutdown.wait())
    try:
        await asyncio.wait({task, heart, shutting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if heart.done():
            heart.result()  # raises its error
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
