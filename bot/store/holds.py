"""Why a run may not start yet: Troop is paused, or a day's or month's cap is reached. Runs under way go on."""

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from bot.lifecycle import RunState
from bot.records import Record
from bot.store.base import free, plain
from bot.store.models import PAUSE, RUN
from bot.store.spending import Spending, resets, utc

AGAIN = 60.0  # seconds between two looks at a run that waits: settings may have changed


class Hold(Record):
    """Why no run starts, in words that stay the same while it is so, and until when (seconds since 1970)."""

    reason: str
    until: float


class Pause(Record):
    """The switch of the database. `at` is in seconds since 1970."""

    reason: str
    by: str
    at: float


class Holds(Spending):
    def hold(self, repository: str) -> Hold | None:
        """Why a run of the repository may not start now; None where it may."""
        with self.database.read() as tx:
            return self.hold_of(tx, self.database.now(tx), repository)

    def hold_of(self, tx: Connection, now: float, repository: str) -> Hold | None:
        if (pause := self._pause(tx)) is not None or self.paused_by_setting:
            why = f": {pause.reason.rstrip('.')}" if pause is not None and pause.reason else ""
            return Hold(
                reason=f"Troop is paused by its operator{why}; the run starts when it goes on", until=now + AGAIN
            )
        for cap, spent in self.windows(tx, now, repository):
            if spent >= cap.amount:
                reset = resets(cap.window, now)
                words = f"{cap.words} is reached; the run starts when it resets, on {utc(reset):%-d %B %Y at %H:%M} UTC"
                return Hold(reason=words, until=reset)
        return None

    def still_held(self, tx: Connection, now: float, row: Any) -> bool:
        """Whether a run that waits, and whose issue has been told why, goes on waiting for the same reason."""
        if row.state != RunState.QUEUED or row.hold is None or row.stop_reason is not None:
            return False
        hold = self.hold_of(tx, now, row.repository)
        if hold is None or hold.reason != row.hold:
            return False
        tx.execute(update(RUN).where(RUN.c.id == row.id).values(available_at=min(hold.until, now + AGAIN)))
        return True

    # -- the switch

    def pause(self, reason: str = "", by: str = "") -> None:
        """Start no run any more, until `resume`. Paused already: only the reason changes."""
        with self.database.write() as tx:
            values = {"reason": plain(reason), "paused_by": plain(by), "paused_at": self.database.now(tx)}
            insert = self.database.insert(PAUSE).values(id=1, **values)
            tx.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))

    def resume(self) -> int:
        """Start runs again; how many wait. They are looked at at once, and wait on where a cap is reached."""
        with self.database.write() as tx:
            now = self.database.now(tx)
            tx.execute(delete(PAUSE))
            waiting = (RUN.c.state == RunState.QUEUED, RUN.c.hold.is_not(None), free(RUN, now))
            return tx.execute(update(RUN).where(*waiting).values(available_at=now)).rowcount

    def paused(self) -> Pause | None:
        """What `pause` stored. The setting TROOP_PAUSED is apart from it."""
        with self.database.read() as tx:
            return self._pause(tx)

    @staticmethod
    def _pause(tx: Connection) -> Pause | None:
        row = tx.execute(select(PAUSE)).first()
        return None if row is None else Pause(reason=row.reason, by=row.paused_by, at=row.paused_at)
