"""Ends that the issue has to be told of. Stored with the end itself, so that none is lost while GitHub is down."""

from sqlalchemy import select, update

from bot.lifecycle import RunState
from bot.records import ClaimedRun, Record
from bot.store.base import Part, available, claimed_run, free
from bot.store.models import RUN

# Seconds between attempts; after the last one, a day later, it is given up.
DELAYS = (10.0, 60.0, 300.0, 1800.0, *(3600.0,) * 23)


class Announcement(Record):
    """An ended run and what the issue is to be told. `is_notice`: no run was made, since the quota is used up."""

    run: ClaimedRun
    state: RunState
    reason: str
    is_notice: bool


class Announcements(Part):
    def claim_announcement(self, run_id: int, worker: str, lease_seconds: float) -> Announcement | None:
        """What is to be told of this run, if anything; held for `lease_seconds`, so that only one worker tells it."""
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(
                select(RUN)
                .where(RUN.c.id == run_id, RUN.c.announce, free(RUN, now), available(RUN, now))
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            if row.announce_tries > len(DELAYS):  # each attempt killed its worker
                tx.execute(update(RUN).where(RUN.c.id == run_id).values(announce=False, lease_until=None, worker=None))
                return None
            tx.execute(
                update(RUN)
                .where(RUN.c.id == run_id)
                .values(worker=worker, lease_until=now + lease_seconds, announce_tries=row.announce_tries + 1)
            )
            return Announcement(
                run=claimed_run(row), state=RunState(row.state), reason=row.reason, is_notice=row.is_notice
            )

    def announced(self, run_id: int) -> None:
        """The issue was told."""
        with self.database.write() as tx:
            tx.execute(
                update(RUN)
                .where(RUN.c.id == run_id, RUN.c.announce)
                .values(announce=False, lease_until=None, worker=None, updated_at=self.database.now(tx))
            )

    def announcement_failed(self, run_id: int) -> float | None:
        """The issue could not be told; the seconds until it is tried again, or None: given up."""
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(select(RUN).where(RUN.c.id == run_id, RUN.c.announce).with_for_update()).first()
            if row is None:
                return None
            delay = DELAYS[row.announce_tries - 1] if row.announce_tries <= len(DELAYS) else None
            tx.execute(
                update(RUN)
                .where(RUN.c.id == run_id)
                .values(
                    announce=delay is not None,
                    available_at=now + (delay or 0.0),
                    lease_until=None,
                    worker=None,
                    updated_at=now,
                )
            )
            return delay
