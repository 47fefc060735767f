import sqlalchemy as sa

from bot.lifecycle import RunState
from bot.store import Store
from bot.store.models import COMMAND, DELIVERY, RUN, STEP
from tests.bot.queueing import queue_command, queue_run

DAYS = 86_400.0


def ended(store: Store, issue: int) -> int:
    """A failed run with two steps and a report."""
    run_id = queue_run(store, issue=issue)
    assert store.claim_run(run_id, "w", 60)
    for key in ("a", "b"):
        store.put_step(run_id, 1, key, "1")
    store.finish(run_id, 1, RunState.FAILED, report_json="{}")
    return run_id


def back(store: Store, days: float, **columns: sa.Column[object]) -> None:
    """Let all rows of each column's table have been that much earlier."""
    with store.database.write() as tx:
        for column in columns.values():
            tx.execute(sa.update(column.table).values({column: column - days * DAYS}))


def left(store: Store, table: sa.Table) -> int:
    with store.database.read() as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_what_is_old_goes_and_runs_with_their_reports_stay(store: Store):
    old = ended(store, 1)
    command = queue_command(store)
    claimed = store.claim_command(command, "w", 60)
    assert claimed is not None
    store.finish_command(command, claimed.attempt)
    back(store, 31, run=RUN.c.finished_at, delivery=DELIVERY.c.received_at, command=COMMAND.c.finished_at)
    young, waiting = ended(store, 2), queue_run(store, issue=3)
    assert store.claim_run(waiting, "w", 60)
    store.put_step(waiting, 1, "a", "1")
    assert store.prune(30) == 2 + 2 + 1
    assert store.prune(30) == 0
    assert store.step_keys(old) == ()
    assert store.report(old) == "{}"
    assert (store.step_keys(young), store.step_keys(waiting)) == (("a", "b"), ("a",))
    assert (left(store, DELIVERY), left(store, COMMAND), left(store, RUN)) == (2, 0, 3)


def test_a_command_that_waits_is_never_old(store: Store):
    queue_command(store)
    back(store, 1000, command=COMMAND.c.created_at)
    assert store.prune(30) == 0
    assert left(store, COMMAND) == 1


def test_no_more_than_the_limit_at_once(store: Store):
    ended(store, 1)
    back(store, 31, run=RUN.c.finished_at)
    assert [store.prune(30, limit=1) for _ in range(3)] == [1, 1, 0]
    assert left(store, STEP) == 0
