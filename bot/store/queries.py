"""Queries of the sweeper and the status page. Nothing here changes a row."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select

from bot.lifecycle import ACTIVE, RunState
from bot.records import Again, Record, Trigger
from bot.sanitize import redact
from bot.store.base import Part, available, free
from bot.store.jobs import command_job, run_job
from bot.store.models import COMMAND, DELIVERY, REPORT, RUN


class RunInfo(Record):
    """A run as the status page shows it, without its report."""

    id: int
    repository: str
    repository_id: int | None = None
    installation_id: int | None = None  # None where a token is used
    issue_number: int
    issue_title: str
    sender: str
    state: RunState
    attempt: int
    crashes: int
    worker: str | None
    reason: str
    progress: str
    pull_request_url: str | None
    tokens: int = 0  # of all its calls, once it has ended
    cost: float = 0.0  # in the currency of the settings
    hold: str | None = None  # why it may not start yet
    retry_of: int | None
    goes_on_from: int | None = None  # the run whose attempts its own vote with
    stop_requested: bool
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


SHOWN = tuple(column for column in RUN.c if column.name not in ("issue", "wanted"))  # of the rows of lists


class DeliveryInfo(Record):
    """A delivery and what was done."""

    guid: str
    event: str
    action: str
    decision: str
    note: str
    job_id: str | None
    received_at: datetime


class Queries(Part):
    def due(self, now: float | None = None, limit: int = 1000) -> tuple[str, ...]:
        """Ids of the jobs that are due, the oldest first. `now` is in seconds since 1970.

        Runs and commands that no worker holds (never claimed, given back, or the lease ran out), and ends that the
        issue has not been told of.
        """
        with self.database.read() as tx:
            now = self.database.now(tx) if now is None else now
            runs = tx.execute(
                select(RUN.c.id, RUN.c.attempt)
                .where(or_(RUN.c.state.in_(ACTIVE), RUN.c.announce), free(RUN, now), available(RUN, now))
                .order_by(RUN.c.id)
                .limit(limit)
            )
            commands = tx.scalars(
                select(COMMAND.c.id)
                .where(~COMMAND.c.done, free(COMMAND, now), available(COMMAND, now))
                .order_by(COMMAND.c.id)
                .limit(limit)
            )
            return (*(command_job(id_) for id_ in commands), *(run_job(run.id, run.attempt) for run in runs))

    def runs(
        self,
        *,
        limit: int = 50,
        before: int | None = None,
        repository: str | None = None,
        issue_number: int | None = None,
        active: bool | None = None,
    ) -> tuple[RunInfo, ...]:
        """The newest first; `before` a run id, for the next page."""
        wanted = []
        if before is not None:
            wanted.append(RUN.c.id < before)
        if repository is not None:
            wanted.append(RUN.c.repository == repository)
        if issue_number is not None:
            wanted.append(RUN.c.issue_number == issue_number)
        if active is not None:
            wanted.append(RUN.c.state.in_(ACTIVE) if active else RUN.c.state.not_in(ACTIVE))
        query = select(*SHOWN).where(*wanted).order_by(RUN.c.id.desc()).limit(limit)
        with self.database.read() as tx:
            return tuple(run_info(row, self._secrets) for row in tx.execute(query))

    def run(self, run_id: int) -> RunInfo | None:
        with self.database.read() as tx:
            row = tx.execute(select(*SHOWN).where(RUN.c.id == run_id)).first()
            return None if row is None else run_info(row, self._secrets)

    def needs_label(self, run_id: int) -> bool:
        """Whether the run must not begin where the issue has none of our labels.

        Not one that a command, a mention or an assignment started, nor one that was asked for while the issue was being
        told that an earlier run stopped, since telling it takes the label off.
        """
        with self.database.read() as tx:
            run = tx.execute(select(RUN).where(RUN.c.id == run_id)).first()
            if run is None or run.retry_of is not None or run.asked_by != Trigger.LABEL:
                return False
            untold = tx.scalar(
                select(RUN.c.id)
                .where(
                    RUN.c.repository == run.repository,
                    RUN.c.issue_number == run.issue_number,
                    RUN.c.id < run_id,
                    RUN.c.state.in_((RunState.STOPPED, RunState.REFUSED)),
                    or_(RUN.c.updated_at > run.created_at, RUN.c.announce),
                )
                .limit(1)
            )
            return untold is None

    def report(self, run_id: int) -> str | None:
        """`records.Report` of an ended run, as JSON."""
        with self.database.read() as tx:
            return tx.scalar(select(REPORT.c.text).where(REPORT.c.run_id == run_id))

    def counts(self) -> dict[RunState, int]:
        """How many runs are in each state. Notices are not counted."""
        query = select(RUN.c.state, func.count()).where(~RUN.c.is_notice).group_by(RUN.c.state)
        with self.database.read() as tx:
            found = {RunState(state): count for state, count in tx.execute(query)}
        return {state: found.get(state, 0) for state in RunState}

    def deliveries(self, limit: int = 50) -> tuple[DeliveryInfo, ...]:
        """The newest first."""
        query = select(DELIVERY).order_by(DELIVERY.c.received_at.desc()).limit(limit)
        with self.database.read() as tx:
            return tuple(
                DeliveryInfo(
                    guid=row.guid,
                    event=row.event,
                    action=row.action,
                    decision=row.decision,
                    note=redact(row.note, self._secrets),
                    job_id=row.job_id,
                    received_at=self.moment(row.received_at),
                )
                for row in tx.execute(query)
            )


def run_info(row: Any, secrets: Collection[str]) -> RunInfo:
    """Of a row with the columns `SHOWN`. Its texts hold no secret, though they may be older than the setting."""
    again = None if row.again is None else Again.model_validate_json(row.again)
    return RunInfo(
        id=row.id,
        repository=row.repository,
        repository_id=row.repository_id,
        installation_id=row.installation_id,
        issue_number=row.issue_number,
        issue_title=redact(row.title, secrets),
        tokens=row.tokens,
        sender=row.sender,
        state=RunState(row.state),
        attempt=row.attempt,
        crashes=row.crashes,
        worker=row.worker,
        reason=redact(row.reason, secrets),
        progress=redact(row.progress, secrets),
        pull_request_url=row.pull_request_url,
        cost=row.cost,
        hold=None if row.hold is None else redact(row.hold, secrets),
        retry_of=row.retry_of,
        goes_on_from=again.of_run if again is not None and again.more else None,
        stop_requested=row.stop_reason is not None,
        created_at=Part.moment(row.created_at),
        updated_at=Part.moment(row.updated_at),
        finished_at=None if row.finished_at is None else Part.moment(row.finished_at),
    )
