"""Records deliveries and what was decided about them: each wholly or not at all, many in one transaction."""

import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, func, literal, or_, select, true, update
from sqlalchemy.engine import Connection, Row

from bot.lifecycle import ACTIVE, RunState
from bot.records import Record
from bot.store.base import Part, Wanted, free, plain, within
from bot.store.jobs import command_job, run_job
from bot.store.models import COMMAND, DELIVERY, RUN
from bot.store.renaming import ASK_RENAMED, MAY_BE_RENAMED, rename
from bot.webhook.decisions import Answer, CancelRun, Decision, Ignore, ReceiveCommand, StartRun, StopRuns

QUOTA_WINDOW = 3600.0  # seconds
TOGETHER_SECONDS = 0.5  # that deliveries in one transaction wait for a row; then each has its own
COMMANDS_PER_HOUR = 60  # of one person in one repository: each command costs a request to GitHub


# Statements of every delivery, made once: making them costs more than executing them.
_FORGET_STOPS = (
    update(RUN)
    .where(
        RUN.c.repository == bindparam("name"),
        RUN.c.issue_number == bindparam("number"),
        RUN.c.state == RunState.STOPPED,
        RUN.c.announce,
        free(RUN, bindparam("now")),
    )
    .values(announce=False)
)
_ACTIVE_RUN = (
    select(RUN)
    .where(
        RUN.c.repository == bindparam("name"),
        RUN.c.issue_number == bindparam("number"),
        RUN.c.state.in_(ACTIVE),
    )
    .with_for_update()
)


# Runs count for all only once their sender's permission was checked; until then, and if they were refused, for that
# sender alone, so that people who may not start runs can't use up the quota of those who may.
_COUNTED = (
    select(RUN.c.id)
    .where(
        RUN.c.repository == bindparam("name"),
        ~RUN.c.is_notice,
        within(RUN.c.created_at, bindparam("now"), QUOTA_WINDOW),
        or_(
            and_(RUN.c.attempt > 0, RUN.c.state.not_in((RunState.QUEUED, RunState.REFUSED))),
            RUN.c.sender == bindparam("sender"),
        ),
    )
    .limit(bindparam("most"))  # no more needs to be read
    .subquery()
)
_MADE = select(func.count()).select_from(_COUNTED).scalar_subquery()
_STOPS = exists().where(
    RUN.c.repository == bindparam("name"),
    RUN.c.issue_number == bindparam("number"),
    RUN.c.state == RunState.STOPPED,
    RUN.c.announce,
)
_HAD_RUN = exists().where(RUN.c.repository == bindparam("name"), RUN.c.issue_number == bindparam("number"))
_ACTIVE = _ACTIVE_RUN.cte("active")
_LOOK = select(_MADE.label("made"), _STOPS.label("stops"), MAY_BE_RENAMED.label("renamed"), _ACTIVE).select_from(
    select(literal(1).label("one")).subquery().outerjoin(_ACTIVE, true())
)
_QUOTA = select(_MADE)


class Accepted(Record):
    """What became of a delivery. Enqueue `job_id`; if that fails, the sweeper finds the row."""

    duplicate: bool  # the GUID was recorded before; nothing was done
    job_id: str | None = None
    note: str = ""  # for the log


class Arrived(Record):
    """A delivery, what was decided about it, and until when it waits for other writers (`time.monotonic()`)."""

    guid: str
    event: str
    action: str
    decision: Decision
    until: float | None = None


_BEFORE = Accepted(duplicate=True, note="received before")


class _Duplicate(Exception):
    """A GUID was recorded before: nothing of what its delivery came to is kept."""


class Deliveries(Part):
    def accept(
        self, guid: str, event: str, action: str, decision: Decision, *, patience: float | None = None
    ) -> Accepted:
        """`accept_all` with one delivery, which waits for other writers for `patience` seconds at most."""
        until = None if patience is None else time.monotonic() + patience
        arrived = Arrived(guid=guid, event=event, action=action, decision=decision, until=until)
        [found] = self.accept_all([arrived])
        if isinstance(found, Exception):
            raise found
        return found

    def accept_all(self, arrived: Sequence[Arrived]) -> list[Accepted | Exception]:
        """Record deliveries in their order; what became of each, all durable by now. Never raises.

        All in one transaction, hence one fsync. Where one of them can't be recorded, or waited long enough for other
        writers, each has a transaction of its own and that one's exception is returned: `StoreUnavailable`, mostly.

        While a run of an issue is active, no second one is made. Beyond the quota none is made either; the first time
        in an hour a row in state REFUSED is stored instead, which a worker turns into a comment (`is_notice`).
        """
        try:
            return [*self._together(arrived)]
        except _Duplicate:
            if len(arrived) == 1:
                return [_BEFORE]
        except Exception as error:
            if len(arrived) == 1:
                return [error]
        return [found for one in arrived for found in self.accept_all([one])]

    def _together(self, arrived: Sequence[Arrived]) -> list[Accepted]:
        ends = [one.until for one in arrived if one.until is not None]
        patience = max(0.0, min(ends) - time.monotonic()) if ends else None
        if len(arrived) > 1 and not self.database.sqlite:  # of what one waits for, the others need not know
            patience = TOGETHER_SECONDS if patience is None else min(patience, TOGETHER_SECONDS)
        with self.database.write(patience) as tx:
            now = self._begin(tx, arrived)
            # Alone, it is cheaper to find out at the end.
            before = self._known(tx, [one.guid for one in arrived]) if len(arrived) > 1 else set()
            found: list[Accepted] = []
            rows = []
            for one in arrived:
                accepted = _BEFORE if one.guid in before else self._act(tx, now, one.decision)
                found.append(accepted)
                if one.guid not in before:
                    values = {"guid": one.guid, "event": one.event, "action": one.action, "received_at": now}
                    outcome = {"note": plain(accepted.note), "job_id": accepted.job_id}
                    rows.append(values | outcome | {"decision": type(one.decision).__name__})
                before.add(one.guid)
            # Last, with what became of them: one statement less. A second one of a GUID waits here for the first.
            if rows and len(tx.execute(self.database.insert_new(DELIVERY), rows).all()) < len(rows):
                raise _Duplicate
            return found

    def _begin(self, tx: Connection, arrived: Sequence[Arrived]) -> float:
        """The moment, once the repositories are this transaction's alone."""
        named = [one.decision for one in arrived if isinstance(one.decision, StartRun | ReceiveCommand | CancelRun)]
        return self.database.serialise(tx, *{decision.repository for decision in named})

    def _act(self, tx: Connection, now: float, decision: Decision) -> Accepted:
        match decision:
            case StartRun():
                return self._start(tx, now, decision)
            case ReceiveCommand():
                self._follow_rename(tx, decision)
                return self._receive(tx, now, decision)
            case CancelRun():
                self._follow_rename(tx, decision)
                return self._cancel(tx, now, decision)
            case StopRuns():
                return self._stop_all(tx, now, decision)
            case Answer():
                return Accepted(duplicate=False, note=decision.message)
            case Ignore():
                return Accepted(duplicate=False, note=decision.reason)

    @staticmethod
    def _follow_rename(tx: Connection, decision: ReceiveCommand | CancelRun) -> None:
        asked = {"by_id": decision.repository_id, "name": decision.repository}
        if decision.repository_id is not None and tx.scalar(ASK_RENAMED, asked):
            rename(tx, asked)

    def check_writable(self, patience: float) -> None:
        """Raises `StoreUnavailable` where no delivery could be recorded within so many seconds. Changes nothing, but
        goes to the disk as a delivery does: a transaction that is rolled back may not notice what is wrong with it."""
        self.database.check_room()
        with self.database.write(patience) as tx:
            values = {"guid": f"trial-{uuid.uuid4()}", "event": "", "action": "", "received_at": self.database.now(tx)}
            tx.execute(self.database.insert_new(DELIVERY), values | {"note": "", "job_id": None, "decision": ""})
            tx.execute(delete(DELIVERY).where(DELIVERY.c.guid == values["guid"]))

    def rename(self, repository_id: int, name: str) -> None:
        """Give what is recorded of the repository the name that it has now."""
        with self.database.write() as tx:
            self.database.serialise(tx, name)
            rename(tx, {"by_id": repository_id, "name": name})

    def recorded(self, guids: Collection[str]) -> frozenset[str]:
        """Those among the deliveries that were recorded. Raises `StoreUnavailable`."""
        with self.database.read() as tx:
            return frozenset(self._known(tx, sorted(guids)))

    @staticmethod
    def _known(tx: Connection, guids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(guids), 500):  # SQLite bounds the parameters of a statement
            some = guids[start : start + 500]
            found.update(tx.scalars(select(DELIVERY.c.guid).where(DELIVERY.c.guid.in_(some))))
        return found

    def quota_notice(self) -> str:
        return f"this repository has used its quota of {self.quota_runs_per_hour} runs an hour"

    def _start(self, tx: Connection, now: float, decision: StartRun) -> Accepted:
        comments = tuple(self.redacted(comment) for comment in decision.issue.comments)  # of a mention
        decision = decision.model_copy(update={"issue": decision.issue.model_copy(update={"comments": comments})})
        asked = {"name": decision.repository, "number": decision.issue.number, "sender": decision.sender, "now": now}
        asked |= {"by_id": decision.repository_id, "most": self.quota_runs_per_hour}
        for _ in range(2):  # another look finds the run that began while this one waited for the one before it to end
            found = tx.execute(_LOOK, asked).one()
            if found.renamed:
                rename(tx, asked)
                found = tx.execute(_LOOK, asked).one()
            if found.id is not None and found.stop_reason is None and found.pull_number is None:
                self._remember(tx, found, Wanted(decision=decision, asked_at=now, only_if_stopped=True))
                return Accepted(duplicate=False, note=f"run {found.id} of this issue is {found.state} already")
            if decision.in_passing and tx.scalar(select(_HAD_RUN), asked):
                return Accepted(duplicate=False, note="a mention within a sentence; the issue has had a run")
            if found.made >= self.quota_runs_per_hour:
                return self._over_quota(tx, now, decision)
            if found.id is not None:
                if not self._remember(tx, found, Wanted(decision=decision, asked_at=now)):
                    return Accepted(duplicate=False, note=f"it was asked for before run {found.id} was")
                now_at = "stopping" if found.stop_reason is not None else "revising a pull request"
                said = f"run {found.id} is {now_at}; a new run starts once it has ended"
                return Accepted(duplicate=False, note=said)
            if found.stops:
                self._forget_stops(tx, now, decision)
            run_id = self._insert_run(tx, now, decision)
            if run_id is not None:
                return Accepted(duplicate=False, job_id=run_job(run_id), note=f"run {run_id} is queued")
        return Accepted(duplicate=False, note="a run of this issue is active already")

    def _over_quota(self, tx: Connection, now: float, decision: StartRun) -> Accepted:
        told = tx.scalar(
            select(RUN.c.id).where(
                RUN.c.repository == decision.repository,
                RUN.c.sender == decision.sender,
                RUN.c.is_notice,
                within(RUN.c.created_at, now, QUOTA_WINDOW),
            )
        )
        if told is not None:
            return Accepted(duplicate=False, note=f"{self.quota_notice()}; the notice has been sent")
        reason = f"{self.quota_notice()}; label the issue again later, or ask the operator for a higher quota"
        run_id = self._insert_run(
            tx, now, decision, state=RunState.REFUSED, is_notice=True, announce=True, reason=reason, finished_at=now
        )
        assert run_id is not None, "an ended run conflicts with nothing"
        return Accepted(duplicate=False, job_id=run_job(run_id), note=f"{self.quota_notice()}; run {run_id} says so")

    @staticmethod
    def _remember(tx: Connection, active: Any, wanted: Wanted) -> bool:
        """Remember what is asked for while a run is active; whether it is later than what was asked for until now.

        Deliveries arrive in any order: a label is later than others, and than the one that made the run, by its time.
        """
        if wanted.again is None:
            made = wanted.decision.labelled_at
            waiting = None if active.wanted is None else Wanted.model_validate_json(active.wanted)
            the_same = made.timestamp() == active.labelled_at and wanted.only_if_stopped
            if made.timestamp() < active.labelled_at or the_same:
                return False
            if waiting is not None and (waiting.again is not None or waiting.made_after(made)):
                return waiting.again is not None
        tx.execute(update(RUN).where(RUN.c.id == active.id).values(wanted=wanted.model_dump_json()))
        return True

    @staticmethod
    def _forget_stops(tx: Connection, now: float, decision: StartRun) -> None:
        """Don't tell of stopped runs of the issue any more, which would take the label off the new one."""
        tx.execute(_FORGET_STOPS, {"name": decision.repository, "number": decision.issue.number, "now": now})

    def _quota_spent(self, tx: Connection, now: float, repository: str, sender: str) -> bool:
        """Whether the sender may start no more."""
        asked = {"name": repository, "sender": sender, "now": now, "most": self.quota_runs_per_hour}
        return int(tx.scalar(_QUOTA, asked) or 0) >= self.quota_runs_per_hour

    def _active(self, tx: Connection, repository: str, issue_number: int) -> "Row[tuple[object, ...]] | None":
        """The issue's run, locked: it can't end before this transaction does, with a wish that nobody reads."""
        asked = {"name": repository, "number": issue_number}
        found = tx.execute(_ACTIVE_RUN, asked).first()
        if found is not None or self.database.sqlite:  # which has one writer
            return found
        # Where it ended while this waited for the lock, only a second look sees the run that began then.
        return tx.execute(_ACTIVE_RUN, asked).first()

    def _receive(self, tx: Connection, now: float, decision: ReceiveCommand) -> Accepted:
        received = tx.scalar(
            select(func.count())
            .select_from(COMMAND)
            .where(
                COMMAND.c.repository == decision.repository,
                COMMAND.c.sender == decision.sender,
                within(COMMAND.c.created_at, now, QUOTA_WINDOW),
            )
        )
        if int(received or 0) >= COMMANDS_PER_HOUR:
            return Accepted(duplicate=False, note=f"{decision.sender} has used {COMMANDS_PER_HOUR} commands this hour")
        values = {
            "source": decision.source,
            "comment_id": decision.comment_id,
            "repository": decision.repository,
            "repository_id": decision.repository_id,
            "installation_id": decision.installation_id,
            "issue_number": decision.issue_number,
            "sender": decision.sender,
            "command": self.redacted(decision.command).model_dump_json(),
            "available_at": now,
            "created_at": now,
        }
        row = tx.execute(self.database.insert_new(COMMAND), values).first()
        if row is None:
            return Accepted(duplicate=False, note=f"{decision.source} {decision.comment_id} was received before")
        return Accepted(
            duplicate=False, job_id=command_job(row.id), note=f"command {row.id} is queued: {decision.command.name}"
        )

    def _cancel(self, tx: Connection, now: float, decision: CancelRun) -> Accepted:
        row = tx.execute(
            select(RUN)
            .where(
                RUN.c.repository == decision.repository,
                RUN.c.issue_number == decision.issue_number,
                RUN.c.state.in_(ACTIVE),
            )
            .with_for_update()
        ).first()
        if row is None:
            return Accepted(duplicate=False, note=f"{decision.reason}; no run is active")
        if decision.at is not None and decision.at.timestamp() < row.labelled_at:
            return Accepted(duplicate=False, note=f"{decision.reason} before run {row.id} was asked for")
        if decision.withdrawn and row.pull_number is not None:
            return self._withdraw(tx, row, decision)
        later = row.wanted is not None and Wanted.model_validate_json(row.wanted).made_after(decision.at)
        stopped = self.stop_row(tx, now, row.id, decision.reason, keep_wanted=later)
        following = self.start_wanted(tx, now, row) if stopped and later else None
        ended = run_job(row.id, row.attempt) if stopped else None  # its end is to be announced
        return Accepted(
            duplicate=False,
            job_id=ended if following is None else run_job(following),
            note=f"{decision.reason}; run {row.id} is {'stopped' if stopped else 'asked to stop'}",
        )

    @staticmethod
    def _withdraw(tx: Connection, row: Any, decision: CancelRun) -> Accepted:
        """Forget the run that a label asked for while a revision goes on, which a review asked for and which stays."""
        wanted = None if row.wanted is None else Wanted.model_validate_json(row.wanted)
        forgotten = wanted is not None and wanted.again is None and not wanted.made_after(decision.at)
        if forgotten:
            tx.execute(update(RUN).where(RUN.c.id == row.id).values(wanted=None))
        what = "no new run starts after it" if forgotten else "nothing changes"
        return Accepted(duplicate=False, note=f"{decision.reason}; run {row.id} is a revision, and {what}")

    def _stop_all(self, tx: Connection, now: float, decision: StopRuns) -> Accepted:
        """What was asked for later stays: the App may be installed again."""
        theirs = [RUN.c.installation_id == decision.installation_id, RUN.c.state.in_(ACTIVE)]
        if decision.repository_ids is not None:
            theirs.append(RUN.c.repository_id.in_(decision.repository_ids))
        if decision.at is not None:
            theirs.append(RUN.c.labelled_at <= decision.at.timestamp())
        found = tx.scalars(select(RUN.c.id).where(*theirs).order_by(RUN.c.id).with_for_update()).all()
        for run_id in found:
            self.stop_row(tx, now, run_id, decision.reason)
        return Accepted(duplicate=False, note=f"{decision.reason}; {len(found)} runs are stopped, or asked to stop")
