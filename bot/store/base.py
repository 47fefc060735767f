"""What the parts of the store share: the database, the operator's limits, and common conditions."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, or_, update
from sqlalchemy.engine import Connection

from bot.lifecycle import ACTIVE, STOPPABLE, RunState
from bot.records import ClaimedRun, Issue
from bot.store.database import Database
from bot.store.models import RUN

TEXT_LIMIT = 4000  # characters of a reason or a note


class Part:
    """Base of the parts of `Store`, one for each noun."""

    def __init__(self, database: Database, *, quota_runs_per_hour: int, max_crashes: int) -> None:
        self.database = database
        self.quota_runs_per_hour = quota_runs_per_hour
        self.max_crashes = max_crashes

    @staticmethod
    def moment(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    @staticmethod
    def end_values(now: float, state: RunState, reason: str, *, announce: bool) -> dict[str, Any]:
        """The columns of a run that ends now."""
        return {
            "state": state,
            "reason": plain(reason),
            "announce": announce,
            "lease_until": None,
            "worker": None,
            "updated_at": now,
            "finished_at": now,
        }

    def stop_row(self, tx: Connection, now: float, run_id: int, reason: str) -> bool:
        """Stop a run at once where no worker holds it (True); else ask its worker to."""
        stopped = tx.execute(
            update(RUN)
            .where(RUN.c.id == run_id, RUN.c.state.in_(STOPPABLE), free(RUN, now))
            .values(stop_reason=plain(reason), **self.end_values(now, RunState.STOPPED, reason, announce=True))
            .returning(RUN.c.id)
        ).first()
        if stopped is None:
            tx.execute(
                update(RUN)
                .where(RUN.c.id == run_id, RUN.c.state.in_(ACTIVE), RUN.c.stop_reason.is_(None))
                .values(stop_reason=plain(reason), updated_at=now)
            )
        return stopped is not None


def plain(text: str) -> str:
    """Text that any database stores: without NUL and lone surrogates (e.g. of file names), cut to `TEXT_LIMIT`."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()[:TEXT_LIMIT]


def free(table: Table, now: float) -> ColumnElement[bool]:
    """No worker holds it: it was never claimed, was given back, or its lease ran out."""
    return or_(table.c.lease_until.is_(None), table.c.lease_until < now)


def held(run_id: int, attempt: int) -> ColumnElement[bool]:
    """The fence: this attempt is the newest, was not given back, and the run has not ended."""
    return and_(RUN.c.id == run_id, RUN.c.attempt == attempt, RUN.c.lease_until.is_not(None), RUN.c.state.in_(ACTIVE))


def claimed_run(row: Any) -> ClaimedRun:
    return ClaimedRun(
        id=row.id,
        repository=row.repository,
        installation_id=row.installation_id,
        issue=Issue.model_validate_json(row.issue),
        sender=row.sender,
        labelled_at=Part.moment(row.labelled_at),
        state=RunState(row.state),
        attempt=row.attempt,
    )
