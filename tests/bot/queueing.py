"""What the tests of the store, the queue and the worker say again and again."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

import sqlalchemy as sa

from bot.lifecycle import RunState
from bot.records import Again, Command, CommandName, Issue
from bot.store import Store, parse
from bot.store.models import COMMAND, RUN
from bot.webhook.decisions import CancelRun, ReceiveCommand, StartRun

REPOSITORY = "octo/repo"
_WORKERS = count()
LABELLED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def start(issue: int = 1, repository: str = REPOSITORY) -> StartRun:
    return StartRun(
        repository=repository,
        installation_id=2**40,
        issue=Issue(title="It breaks", body="when `f(0)`", number=issue),
        sender="ann",
        labelled_at=LABELLED_AT,
    )


def command(comment: int = 2**41, issue: int = 1, name: CommandName = CommandName.STATUS) -> ReceiveCommand:
    return ReceiveCommand(
        repository=REPOSITORY,
        installation_id=None,
        issue_number=issue,
        comment_id=comment,
        sender="ann",
        command=Command(name=name),
    )


def again(command_id: int = 1, sender: str = "ann", **more: Any) -> Again:
    return Again(command_id=command_id, sender=sender, **more)


def cancel(issue: int = 1) -> CancelRun:
    return CancelRun(repository=REPOSITORY, issue_number=issue, reason="the label was taken off")


def queue_run(store: Store, issue: int = 1, repository: str = REPOSITORY) -> int:
    """The id of a new queued run."""
    guid = f"{repository}-{issue}-{len(store.deliveries(10_000))}"
    accepted = store.accept(guid, "issues", "labeled", start(issue, repository))
    assert accepted.job_id is not None, accepted.note
    return parse(accepted.job_id).id


def queue_command(store: Store, comment: int = 2**41, issue: int = 1) -> int:
    accepted = store.accept(f"comment-{comment}", "issue_comment", "created", command(comment, issue))
    assert accepted.job_id is not None, accepted.note
    return parse(accepted.job_id).id


def claim(store: Store, run_id: int) -> int:
    """A worker that was not there before claims the run; the new attempt's number."""
    run = store.claim_run(run_id, f"w{next(_WORKERS)}", 60)
    assert run is not None
    return run.attempt


def expire(store: Store, run_id: int) -> None:
    """Let the run's lease have run out a second ago."""
    _set(store, RUN, run_id, lease_until=store_now(store) - 1)


def expire_command(store: Store, command_id: int) -> None:
    _set(store, COMMAND, command_id, lease_until=store_now(store) - 1)


def lease_left(store: Store, run_id: int) -> float:
    """Seconds."""
    return _left(store, RUN, run_id)


def command_lease_left(store: Store, command_id: int) -> float:
    return _left(store, COMMAND, command_id)


def make_available(store: Store, run_id: int) -> None:
    """Let the wait before the next attempt be over."""
    _set(store, RUN, run_id, available_at=store_now(store) - 1)


def age(store: Store, seconds: float) -> None:
    """Let all runs have been made that much earlier."""
    with store.database.write() as tx:
        tx.execute(sa.update(RUN).values(created_at=RUN.c.created_at - seconds))


def store_now(store: Store) -> float:
    with store.database.read() as tx:
        return store.database.now(tx)


def state_of(store: Store, run_id: int) -> RunState:
    info = store.run(run_id)
    assert info is not None
    return info.state


def _left(store: Store, table: sa.Table, row_id: int) -> float:
    with store.database.read() as tx:
        until = tx.execute(sa.select(table.c.lease_until).where(table.c.id == row_id)).scalar_one()
        return float(until) - store.database.now(tx)


def _set(store: Store, table: sa.Table, row_id: int, **values: object) -> None:
    with store.database.write() as tx:
        tx.execute(sa.update(table).where(table.c.id == row_id).values(**values))
