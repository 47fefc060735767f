"""Keeps the database and a run's allowance in step while the run goes on: what it has cost, and how much it may."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from bot.errors import LeaseLost, StoreUnavailable
from bot.llm.budget import Allowance
from bot.records import ClaimedRun
from bot.settings import SpendingSettings
from bot.store import Store, in_thread
from bot.tasks import under_way

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two looks; by what runs spend meanwhile, a day's cap may be exceeded


@contextlib.asynccontextmanager
async def accounted(store: Store, run: ClaimedRun, settings: SpendingSettings) -> AsyncIterator[Allowance]:
    """The run's allowance. What it spends is stored every few seconds and at the end, however the run ends."""
    allowance = Allowance(spent=await in_thread(store.cost, run.id))
    if not settings.prices:
        yield allowance
        return
    await _exchange(store, run, allowance)
    try:
        async with under_way(_keep(store, run, allowance)):
            yield allowance
    finally:
        with contextlib.suppress(LeaseLost, StoreUnavailable):  # then the next attempt stores it
            await asyncio.shield(_exchange(store, run, allowance))


async def _keep(store: Store, run: ClaimedRun, allowance: Allowance) -> None:
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            await _exchange(store, run, allowance)
        except StoreUnavailable as error:
            log.warning("run %d: its cost could not be stored; trying again: %s", run.id, error)
        except LeaseLost:
            return  # the lease's own renewal ends the run


async def _exchange(store: Store, run: ClaimedRun, allowance: Allowance) -> None:
    room = await in_thread(store.spend, run.id, run.attempt, allowance.spent)
    if room is not None:
        allowance.limit, allowance.why = room.limit, room.why
