"""Runs that commands start: the same issue again, with what somebody asks for."""

from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.engine import Connection

from bot.errors import RetryRefused
from bot.lifecycle import ACTIVE
from bot.records import Again, Cause, Issue, Revision
from bot.store.base import Wanted
from bot.store.deliveries import Deliveries
from bot.store.models import RUN, STEP
from bot.webhook.decisions import StartRun

DAY = 86_400.0  # seconds


class Restarts(Deliveries):
    def start_again(self, run_id: int, again: Again) -> int | None:
        """A new run for the issue of an ended one; its id, to be enqueued as `run_job(id)`.

        The same command starts one run, however often it is executed. None where the issue's run is still stopping: the
        new one starts once it has stopped. Raises `RetryRefused` where a run of the issue is active or the quota is
        spent, ValueError for an unknown run.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            old = tx.execute(select(RUN).where(RUN.c.id == run_id)).first()
            if old is None:
                raise ValueError(f"there is no run {run_id}")
            again = self.redacted(again)
            decision = self._same_issue(old, again)
            self.database.serialise(tx, old.repository)
            if (started := self._started_by(tx, again.command_id)) is not None:
                return started
            active = self._active(tx, old.repository, old.issue_number)
            if active is not None and active.stop_reason is None:
                raise RetryRefused(f"run {active.id} is still {active.state}; `/troop stop` it first")
            if self._quota_spent(tx, now, old.repository, again.sender):
                raise RetryRefused(f"{self.quota_notice()}; retry later")
            if again.more and not tx.scalar(select(exists().where(STEP.c.run_id == again.of_run))):
                raise RetryRefused(f"what the attempts of run {again.of_run} did is no longer kept; retry instead")
            if active is not None:
                self._remember(tx, active, Wanted(decision=decision, retry_of=run_id, again=again))
                return None
            new = self._insert_run(tx, now, decision, again=again, retry_of=run_id)
            assert new is not None, "inserted under the repository's lock, with no active run there"
            return new

    def revise(self, run_id: int, again: Again, *, most_a_day: int) -> int | None:
        """A run that revises a pull request of the run's issue; its id, to be enqueued.

        None where a run of the issue is active: the revision starts once that one has ended, together with all others
        that are asked for until then. What was asked for before starts nothing. Raises `RetryRefused` where the pull
        request was revised `most_a_day` times within a day or the quota is spent, ValueError for an unknown run.
        """
        again = self.redacted(again)
        asked = again.revision
        assert asked is not None, "a revision is of a pull request"
        with self.database.write() as tx:
            now = self.database.now(tx)
            old = tx.execute(select(RUN).where(RUN.c.id == run_id)).first()
            if old is None:
                raise ValueError(f"there is no run {run_id}")
            self.database.serialise(tx, old.repository)
            earlier = self._revisions(tx, old.repository, asked.pull)
            for row, revision in earlier:
                if set(asked.sources) <= set(revision.sources):
                    return int(row.id) if row.state in ACTIVE else None
            if asked.cause is Cause.CHECKS and any(revision.cause is Cause.CHECKS for _, revision in earlier):
                raise RetryRefused("failed checks have started a revision of this pull request before")
            active = self._active(tx, old.repository, old.issue_number)
            if asked.cause is Cause.CHECKS and active is not None:
                raise RetryRefused(f"run {active.id} is active, whose commit has checks of its own")
            if sum(abs(row.created_at - now) < DAY for row, _ in earlier) >= most_a_day:
                raise RetryRefused(
                    f"this pull request was revised {most_a_day} times within a day, which is what this server allows "
                    "(TROOP_REVISIONS_PER_DAY)"
                )
            if self._quota_spent(tx, now, old.repository, again.sender):
                raise RetryRefused(f"{self.quota_notice()}; ask again later")
            decision = self._same_issue(old, again)
            if active is None:
                return self._insert_run(tx, now, decision, again=again, retry_of=run_id)
            self._remember(tx, active, self._joined(active.wanted, decision, run_id, again))
            return None

    @staticmethod
    def _joined(wanted: str | None, decision: StartRun, run_id: int, again: Again) -> Wanted:
        """What starts after the active run: this revision, with one that waits already."""
        new = Wanted(decision=decision, retry_of=run_id, again=again)
        waiting = None if wanted is None else Wanted.model_validate_json(wanted)
        if waiting is None or waiting.again is None or waiting.again.revision is None:
            return new
        old = waiting.again.revision
        assert again.revision is not None, "a revision joins another"
        if old.pull != again.revision.pull or set(again.revision.sources) <= set(old.sources):
            return waiting
        joined = again.model_copy(
            update={
                "revision": old.joined(again.revision),
                "feedback": (*waiting.again.feedback, *again.feedback),
                "flags": tuple(sorted({*waiting.again.flags, *again.flags})),
            }
        )
        issue = waiting.decision.issue.with_feedback(again.feedback, again.flags)
        return new.model_copy(update={"again": joined, "decision": decision.model_copy(update={"issue": issue})})

    @staticmethod
    def _revisions(tx: Connection, repository: str, pull: int) -> list[tuple[Any, Revision]]:
        """The runs that revised the pull request."""
        rows = tx.execute(select(RUN).where(RUN.c.repository == repository, RUN.c.pull_number == pull))
        found = ((row, Again.model_validate_json(row.again).revision) for row in rows if row.again)
        return [(row, revision) for row, revision in found if revision is not None]

    def _same_issue(self, old: Any, again: Again) -> StartRun:
        return StartRun(
            repository=old.repository,
            installation_id=old.installation_id,
            issue=Issue.model_validate_json(old.issue).with_feedback(again.feedback, again.flags),
            sender=again.sender,
            labelled_at=self.moment(old.labelled_at),
            repository_id=old.repository_id,
        )

    def started_by(self, command_id: int) -> int | None:
        """The run that the command started, when it was executed before."""
        with self.database.read() as tx:
            return self._started_by(tx, command_id)

    @staticmethod
    def _started_by(tx: Connection, command_id: int) -> int | None:
        """The run that the command started, when it was executed before."""
        found = tx.scalar(select(RUN.c.id).where(RUN.c.command_id == command_id))
        return None if found is None else int(found)
