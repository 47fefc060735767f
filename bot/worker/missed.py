"""Asks GitHub to deliver again what nobody took: the service was down, or answered with an error.

GitHub itself repeats no delivery, and keeps each for three days.
"""

import asyncio
import logging
from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from bot.errors import TroopError
from bot.forge.hook_deliveries import HookDeliveries, HookDelivery, Recent
from bot.settings import Settings
from bot.store import Store
from bot.store.threads import in_thread

log = logging.getLogger(__name__)

INTERVAL = 600.0  # seconds between two looks, and between two attempts at the same delivery
UNDER_WAY = 30.0  # seconds in which a delivery may not have its answer yet; GitHub waits for 10
AT_ONCE = 100  # redeliveries asked for in one look; the rest is for the next


class Source(Protocol):
    """GitHub's list; see `HookDeliveries`."""

    async def recent(self) -> Recent: ...

    async def ask_again(self, delivery_id: int) -> None: ...


class MissedDeliveries:
    """Several processes may run one: a delivery that comes twice is recorded once."""

    def __init__(
        self, store: Store, source: Source, *, interval: float = INTERVAL, under_way: float = UNDER_WAY
    ) -> None:
        self._store = store
        self._source = source
        self._interval = interval
        self._under_way = under_way
        self._trouble = ""  # that was logged last

    async def run(self) -> None:
        """Look at once and then every `interval` seconds, until cancelled. The same trouble is logged once."""
        while True:
            try:
                await self.look()
            except (TroopError, ConnectionError) as error:
                if str(error) != self._trouble:
                    log.warning("missed deliveries can't be asked for: %s", error)
                self._trouble = str(error)
            except Exception as error:
                if repr(error) != self._trouble:
                    log.exception("looking for missed deliveries failed")
                self._trouble = repr(error)
            else:
                self._trouble = ""
            await asyncio.sleep(self._interval)

    async def look(self) -> tuple[str, ...]:
        """Ask for what was missed; its GUIDs, oldest first. Raises as `Source`, and `StoreUnavailable`."""
        found = await self._source.recent()
        failed = missed(found.attempts, found.now, between=self._interval, under_way=self._under_way)
        recorded = await in_thread(self._store.recorded, [one.guid for one in failed])
        asked = [one for one in failed if one.guid not in recorded][:AT_ONCE]
        for one in asked:
            await self._source.ask_again(one.id)
        if asked:
            log.info("asked GitHub for %d missed deliveries again", len(asked))
        return tuple(one.guid for one in asked)


def missed(
    attempts: Collection[HookDelivery], now: datetime, *, between: float, under_way: float
) -> list[HookDelivery]:
    """The newest attempt of each delivery that never arrived, in the order in which they were first sent.

    Left out are those that may not have their answer yet, and those redelivered less than `between` seconds ago, by
    whichever process.
    """
    by_guid: dict[str, list[HookDelivery]] = {}
    for one in sorted(attempts, key=lambda one: (one.delivered_at, one.id)):
        by_guid.setdefault(one.guid, []).append(one)
    found = []
    for each in by_guid.values():
        newest = each[-1]
        age = (now - newest.delivered_at).total_seconds()
        waits = age < (between if newest.redelivery else under_way)
        if not waits and not any(one.arrived for one in each):
            found.append(newest)
    return found


def missed_deliveries(settings: Settings, store: Store) -> MissedDeliveries | None:
    """For the App of these settings; None without one, since a token's webhook keeps no list that it may read."""
    return MissedDeliveries(store, HookDeliveries(settings)) if settings.app_id else None
