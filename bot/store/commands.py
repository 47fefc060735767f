"""`/troop` commands: claimed with a lease, as runs are, and executed once."""

from collections.abc import Sequence

from sqlalchemy import FromClause, and_, exists, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from bot.errors import LeaseLost
from bot.lifecycle import RunState
from bot.records import ClaimedCommand, Command
from bot.store.base import Part, available, free, plain, within
from bot.store.models import COMMAND, RUN

PATIENCE = 600.0  # seconds that a command waits for earlier ones


class Commands(Part):
    def claim_command(self, command_id: int, worker: str, lease_seconds: float) -> ClaimedCommand | None:
        """Take the command, as a new attempt; None where it is done, another worker holds it, or an earlier command of
        the same conversation is not done: `/troop stop` and then `/troop retry` mean something in this order alone.

        A command whose worker died `max_crashes` times is given up.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(
                select(COMMAND)
                .where(
                    COMMAND.c.id == command_id,
                    ~COMMAND.c.done,
                    free(COMMAND, now),
                    available(COMMAND, now),
                    ~_waits(now),
                )
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            if row.lease_until is not None and row.worker != worker and row.attempt >= self.max_crashes:
                note = f"given up: its worker died, after {row.attempt} attempts"
                self._end(tx, now, COMMAND.c.id == command_id, note)
                return None
            tx.execute(
                update(COMMAND)
                .where(COMMAND.c.id == command_id)
                .values(attempt=row.attempt + 1, worker=worker, lease_until=now + lease_seconds)
            )
            newest = tx.execute(
                select(RUN.c.id, RUN.c.state)
                .where(RUN.c.repository == row.repository, RUN.c.issue_number == row.issue_number, ~RUN.c.is_notice)
                .order_by(RUN.c.id.desc())
                .limit(1)
            ).first()
            return ClaimedCommand(
                id=row.id,
                repository=row.repository,
                installation_id=row.installation_id,
                issue_number=row.issue_number,
                comment_id=row.comment_id,
                sender=row.sender,
                command=Command.model_validate_json(row.command),
                run_id=None if newest is None else newest.id,
                run_state=None if newest is None else RunState(newest.state),
                attempt=row.attempt + 1,
                asked_at=row.created_at,
                repository_id=row.repository_id,
            )

    def renew_command(self, command_id: int, attempt: int, lease_seconds: float) -> None:
        """Extend the lease. Raises `LeaseLost`."""
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(
                update(COMMAND)
                .where(_held(command_id, attempt))
                .values(lease_until=now + lease_seconds)
                .returning(COMMAND.c.id)
            ).first()
            if row is None:
                raise _lost(command_id, attempt)

    def finish_command(self, command_id: int, attempt: int, note: str = "") -> int | None:
        """The command is done, or failed for good; `note` says how. Raises `LeaseLost`.

        Returns the id of the next command of the same conversation, if it has waited for this one.
        """
        with self.database.write() as tx:
            if not self._end(tx, self.database.now(tx), _held(command_id, attempt), note):
                raise _lost(command_id, attempt)
            done = COMMAND.alias()
            following = tx.scalar(
                select(COMMAND.c.id)
                .join(done, _same_conversation(done))
                .where(done.c.id == command_id, COMMAND.c.id > command_id, ~COMMAND.c.done)
                .order_by(COMMAND.c.id)
                .limit(1)
            )
            return None if following is None else int(following)

    def postpone_command(
        self, command_id: int, attempt: int, reason: str, delays: Sequence[float], at_least: float = 0.0
    ) -> float | None:
        """Give it back for another attempt; the seconds until then. None, and nothing is changed, after too many.

        Raises `LeaseLost`.
        """
        if attempt > len(delays):
            return None
        delay = max(delays[attempt - 1], at_least)
        self._give_command_back(command_id, attempt, delay, reason)
        return delay

    def release_command(self, command_id: int, attempt: int) -> None:
        """Give it back, to be claimed at once. Raises `LeaseLost`."""
        self._give_command_back(command_id, attempt, 0.0, "")

    def _give_command_back(self, command_id: int, attempt: int, delay: float, note: str) -> None:
        with self.database.write() as tx:
            row = tx.execute(
                update(COMMAND)
                .where(_held(command_id, attempt))
                .values(lease_until=None, worker=None, note=plain(note), available_at=self.database.now(tx) + delay)
                .returning(COMMAND.c.id)
            ).first()
            if row is None:
                raise _lost(command_id, attempt)

    @staticmethod
    def _end(tx: Connection, now: float, where: ColumnElement[bool], note: str) -> bool:
        row = tx.execute(
            update(COMMAND)
            .where(where)
            .values(done=True, note=plain(note), lease_until=None, worker=None, finished_at=now)
            .returning(COMMAND.c.id)
        ).first()
        return row is not None


def _same_conversation(other: FromClause) -> ColumnElement[bool]:
    return and_(COMMAND.c.repository == other.c.repository, COMMAND.c.issue_number == other.c.issue_number)


def _waits(now: float) -> ColumnElement[bool]:
    """An earlier command of the conversation is not done; but nobody waits for one for longer than `PATIENCE`."""
    earlier = COMMAND.alias()
    return exists().where(
        _same_conversation(earlier),
        earlier.c.id < COMMAND.c.id,
        ~earlier.c.done,
        within(earlier.c.created_at, now, PATIENCE),
    )


def _held(command_id: int, attempt: int) -> ColumnElement[bool]:
    return and_(
        COMMAND.c.id == command_id,
        COMMAND.c.attempt == attempt,
        COMMAND.c.lease_until.is_not(None),
        ~COMMAND.c.done,
    )


def _lost(command_id: int, attempt: int) -> LeaseLost:
    return LeaseLost(f"command {command_id} is no longer held by its attempt {attempt}")
