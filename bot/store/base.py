"""What the parts of the store share: the database, the operator's limits, and common conditions."""

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Float, Integer, Table, and_, literal, or_, select, update
from sqlalchemy.engine import Connection

from bot.lifecycle import ACTIVE, STOPPABLE, RunState
from bot.records import Again, ClaimedRun, Issue, Record, Trigger
from bot.sanitize.redact import redact_strings
from bot.settings import SpendingSettings
from bot.store.database import Database
from bot.store.models import RUN, STEP
from bot.webhook.decisions import StartRun

R = TypeVar("R", bound=Record)

BUILDS = "build/"  # begins the keys of steps that hold a `records.Build`
# Seconds: nothing is leased or put off for longer. What seems to be was written while the clock was ahead.
FAR = 7200.0
TEXT_LIMIT = 4000  # characters of a reason or a note


class Wanted(Record):
    """A run that somebody asked for while the issue's run was active: it starts once that one has ended."""

    decision: StartRun
    retry_of: int | None = None
    again: Again | None = None
    asked_at: float = 0.0  # when it arrived, by the database's clock; commands are executed in their order anyway
    only_if_stopped: bool = False  # the run goes on, unless a wish to stop it arrives that was made before this one

    def made_after(self, moment: datetime | None) -> bool:
        """Whether it is a label or the like that was put there after that moment of GitHub's clock."""
        return self.again is None and moment is not None and self.decision.labelled_at > moment


class Part:
    """Base of the parts of `Store`, one for each noun."""

    def __init__(
        self,
        database: Database,
        *,
        quota_runs_per_hour: int,
        max_crashes: int,
        spending: SpendingSettings | None = None,
        paused: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.database = database
        self.spending = spending or SpendingSettings()
        self.paused_by_setting = paused
        self.quota_runs_per_hour = quota_runs_per_hour
        self.max_crashes = max_crashes
        self._secrets = secrets

    def redacted(self, record: R) -> R:
        """What somebody wrote to us, as it is stored: they may have pasted a key."""
        return type(record).model_validate_json(
            json.dumps(redact_strings(record.model_dump(mode="json"), self._secrets))
        )

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

    def _insert_run(
        self,
        tx: Connection,
        now: float,
        decision: StartRun,
        state: RunState = RunState.QUEUED,
        again: Again | None = None,
        **values: object,
    ) -> int | None:
        """The new id, or None where the partial unique index holds an active run of the issue already."""
        if again is not None:
            values |= {"command_id": again.command_id, "again": again.model_dump_json()}
            values["pull_number"] = None if again.revision is None else again.revision.pull
        values |= {
            "repository": decision.repository,
            "repository_id": decision.repository_id,
            "issue_number": decision.issue.number,
            "installation_id": decision.installation_id,
            "issue": decision.issue.model_dump_json(),
            "title": plain(decision.issue.title),
            "sender": decision.sender,
            "labelled_at": decision.labelled_at.timestamp(),
            "asked_by": decision.trigger,
            "comment_id": decision.comment_id,
            "state": state,
            "available_at": now,
            "created_at": now,
            "updated_at": now,
        }
        row = tx.execute(self.database.insert_new(RUN), values).first()
        if row is not None and again is not None and again.more:
            self._go_on(tx, now, int(row.id), again.of_run)
        return None if row is None else int(row.id)

    def _go_on(self, tx: Connection, now: float, run_id: int, of_run: int) -> None:
        """Copy the journal of another run, but for what is made of all its attempts together."""
        anew: list[ColumnElement[bool]] = [STEP.c.key.in_(("report", "started"))]
        anew += [STEP.c.key.startswith(prefix, autoescape=True) for prefix in ("model/selection/", BUILDS)]
        kept = select(literal(run_id, Integer), STEP.c.key, STEP.c.payload, literal(0, Integer), literal(now, Float))
        kept = kept.where(STEP.c.run_id == of_run, ~or_(*anew))
        tx.execute(self.database.insert(STEP).from_select(["run_id", "key", "payload", "attempt", "created_at"], kept))

    def start_wanted(self, tx: Connection, now: float, ended: Any) -> int | None:
        """Insert the run that was asked for while the `ended` one was stopping; its id, None where there is none.

        Then the end of a stopped run is not announced: the issue is told of the run that goes on.
        """
        if ended.wanted is None:
            return None
        wanted = Wanted.model_validate_json(ended.wanted)
        stopped = self._state_of(tx, ended.id) == RunState.STOPPED
        new = None
        if stopped or not wanted.only_if_stopped:
            # Renamed meanwhile, perhaps.
            decision = wanted.decision.model_copy(update={"repository": ended.repository})
            new = self._insert_run(tx, now, decision, again=wanted.again, retry_of=wanted.retry_of)
        silenced = {"announce": False} if new is not None and stopped else {}
        tx.execute(update(RUN).where(RUN.c.id == ended.id).values(wanted=None, **silenced))
        return new

    @staticmethod
    def _state_of(tx: Connection, run_id: int) -> str | None:
        return tx.scalar(select(RUN.c.state).where(RUN.c.id == run_id))

    def stop_row(self, tx: Connection, now: float, run_id: int, reason: str, *, keep_wanted: bool = False) -> bool:
        """Stop a run at once where no worker holds it (True); else ask its worker to.

        What was asked for before is forgotten, since the last wish counts; `keep_wanted`: that one came later. The
        reason of the first who asked stays.
        """
        reason = tx.scalar(select(RUN.c.stop_reason).where(RUN.c.id == run_id)) or reason
        if not keep_wanted:
            tx.execute(update(RUN).where(RUN.c.id == run_id, RUN.c.wanted.is_not(None)).values(wanted=None))
        stopped = tx.execute(
            update(RUN)
            .where(RUN.c.id == run_id, RUN.c.state.in_(STOPPABLE), free(RUN, now))
            .values(
                stop_reason=plain(reason),
                available_at=now,  # one that waits would tell of its end only when the wait is over
                **self.end_values(now, RunState.STOPPED, reason, announce=True),
            )
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


def free(table: Table, now: Any) -> ColumnElement[bool]:
    """No worker holds it: it was never claimed, was given back, or its lease ran out."""
    until = table.c.lease_until
    return or_(until.is_(None), until < now, until > now + FAR)


def available(table: Table, now: float) -> ColumnElement[bool]:
    """It is not put off."""
    return or_(table.c.available_at <= now, table.c.available_at > now + FAR)


def within(column: ColumnElement[Any], now: Any, seconds: float) -> ColumnElement[bool]:
    """It is at most that long ago. What a clock that was ahead wrote is not."""
    return and_(column > now - seconds, column < now + seconds)


def held(run_id: int, attempt: int) -> ColumnElement[bool]:
    """The fence: this attempt is the newest, was not given back, and the run has not ended."""
    return and_(RUN.c.id == run_id, RUN.c.attempt == attempt, RUN.c.lease_until.is_not(None), RUN.c.state.in_(ACTIVE))


def claimed_run(row: Any) -> ClaimedRun:
    """Of a row with the columns of `RUN`."""
    return ClaimedRun(
        id=row.id,
        repository=row.repository,
        installation_id=row.installation_id,
        issue=Issue.model_validate_json(row.issue),
        sender=row.sender,
        labelled_at=Part.moment(row.labelled_at),
        state=RunState(row.state),
        attempt=row.attempt,
        again=None if row.again is None else Again.model_validate_json(row.again),
        trigger=Trigger(row.asked_by),
        comment_id=row.comment_id,
        repository_id=row.repository_id,
    )
