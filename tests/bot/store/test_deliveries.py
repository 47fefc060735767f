import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import select, text, update

from bot.errors import StoreUnavailable
from bot.lifecycle import RunState
from bot.records import CommandName
from bot.store import Accepted, Arrived, Store, run_job
from bot.store.models import RUN
from bot.webhook.decisions import Answer, Ignore, ReceiveCommand, StartRun
from tests.bot.queueing import age, cancel, command, expire, queue_run, start, state_of
from tests.patience import until


def at_once(count: int, accept) -> list[Accepted]:
    """The results of `accept(0)`, `accept(1)`, ... called from as many threads at the same moment."""
    barrier = threading.Barrier(count)
    results: list[Accepted] = []

    def call(n: int) -> None:
        barrier.wait()
        results.append(accept(n))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_label_makes_a_queued_run_with_the_labelled_snapshot(store: Store):
    accepted = store.accept("g1", "issues", "labeled", start())
    assert accepted == Accepted(duplicate=False, job_id="run:1:0", note="run 1 is queued")
    run = store.claim_run(1, "w", 60)
    assert run is not None
    assert (run.issue, run.sender, run.labelled_at) == (start().issue, "ann", start().labelled_at)
    assert run.installation_id == 2**40
    [delivery] = store.deliveries()
    assert (delivery.guid, delivery.decision, delivery.job_id) == ("g1", "StartRun", "run:1:0")


def test_the_same_guid_fifty_times_at_once_is_one_row_and_one_run(store: Store):
    results = at_once(50, lambda _: store.accept("the-guid", "issues", "labeled", start()))
    assert len(results) == 50
    assert [r.job_id for r in results if not r.duplicate] == ["run:1:0"]
    assert len(store.deliveries()) == len(store.runs()) == 1


def test_fifty_guids_of_the_same_label_at_once_are_one_active_run(store: Store):
    results = at_once(50, lambda n: store.accept(f"g{n}", "issues", "labeled", start()))
    assert [r.job_id for r in results if r.job_id] == ["run:1:0"]
    assert not any(r.duplicate for r in results)
    assert (len(store.deliveries(100)), len(store.runs())) == (50, 1)


def test_an_ended_run_makes_room_for_another(store: Store):
    first = queue_run(store)
    run = store.claim_run(first, "w", 60)
    assert run is not None
    store.finish(first, run.attempt, RunState.FAILED)
    second = queue_run(store)
    assert second != first


def test_a_delivery_is_not_recorded_where_its_run_can_not_be(store: Store, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("killed between the two inserts")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_insert_run", broken)
        with pytest.raises(RuntimeError, match="between"):
            store.accept("g", "issues", "labeled", start())
    assert store.deliveries() == ()
    assert not store.accept("g", "issues", "labeled", start()).duplicate


def test_hundreds_of_labels_in_a_minute_are_the_quota_and_one_notice(store: Store):
    for n in range(300):
        store.accept(f"g{n}", "issues", "labeled", start(issue=n))
    *notices, third, second, first = store.runs(limit=500)
    assert [run.state for run in (first, second, third)] == [RunState.QUEUED] * 3
    [notice] = notices
    assert notice.state is RunState.REFUSED
    assert "3 runs an hour" in notice.reason
    assert run_job(notice.id) in store.due()
    assert store.counts()[RunState.REFUSED] == 0  # a notice is no run
    assert not store.accept("other", "issues", "labeled", start(repository="octo/other")).duplicate
    assert store.runs(repository="octo/other")[0].state is RunState.QUEUED


def test_the_notice_is_due_once_an_hour_also_when_labels_come_at_once(store: Store):
    for n in range(3):
        queue_run(store, issue=n)
    results = at_once(20, lambda n: store.accept(f"g{n}", "issues", "labeled", start(issue=100 + n)))
    assert sum(r.job_id is not None for r in results) == 1
    age(store, 3601)
    for n in range(4):
        store.accept(f"later{n}", "issues", "labeled", start(issue=200 + n))
    states = [run.state for run in store.runs()]
    assert states.count(RunState.QUEUED) == 6
    assert states.count(RunState.REFUSED) == 2


def test_cancelling_stops_a_queued_run_at_once(store: Store):
    run_id = queue_run(store)
    accepted = store.accept("c", "issues", "unlabeled", cancel())
    assert state_of(store, run_id) is RunState.STOPPED
    assert accepted.job_id == run_job(run_id)  # its end is to be announced
    assert store.claim_run(run_id, "w", 60) is None


def test_cancelling_asks_the_worker_of_a_running_one(store: Store):
    run_id = queue_run(store)
    run = store.claim_run(run_id, "w", 60)
    assert run is not None
    assert store.accept("c", "issues", "unlabeled", cancel()).job_id is None
    assert state_of(store, run_id) is RunState.QUEUED
    assert store.renew(run_id, run.attempt, 60) == "the label was taken off"


def test_cancelling_a_run_whose_worker_died_stops_it(store: Store):
    run_id = queue_run(store)
    assert store.claim_run(run_id, "w", 60)
    expire(store, run_id)
    store.accept("c", "issues", "unlabeled", cancel())
    assert state_of(store, run_id) is RunState.STOPPED


def test_cancelling_what_is_not_there_is_only_noted(store: Store):
    accepted = store.accept("c", "issues", "closed", cancel())
    assert accepted == Accepted(duplicate=False, note="the label was taken off; no run is active")


def test_a_comment_is_one_command_however_often_it_is_delivered(store: Store):
    assert store.accept("g1", "issue_comment", "created", command(comment=7)).job_id == "command:1"
    assert store.accept("g2", "issue_comment", "created", command(comment=7)).job_id is None
    assert store.accept("g3", "issue_comment", "created", command(comment=8, name=CommandName.STOP)).job_id


def test_a_flood_of_commands_by_one_person_stops_nobody_else(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bot.store.deliveries.COMMANDS_PER_HOUR", 5)
    flood = [store.accept(f"g{n}", "issue_comment", "created", command(comment=n)) for n in range(10)]
    assert [accepted.job_id is not None for accepted in flood] == [True] * 5 + [False] * 5
    assert flood[-1].note == "ann has used 5 commands this hour"
    stop = command(comment=99, name=CommandName.STOP).model_copy(update={"sender": "ben"})
    assert store.accept("ben", "issue_comment", "created", stop).job_id is not None


@pytest.mark.parametrize(
    ("decision", "note"),
    [(Answer(message="pong"), "pong"), (Ignore(reason="a bot"), "a bot")],
    ids=["answer", "ignore"],
)
def test_what_asks_for_nothing_is_recorded(store: Store, decision, note):
    assert store.accept("g", "ping", "", decision) == Accepted(duplicate=False, note=note)
    assert store.deliveries()[0].note == note


def test_a_label_that_comes_while_the_stopped_run_ends_is_not_lost(store: Store):
    run_id = queue_run(store)
    assert store.claim_run(run_id, "w", 60) is not None  # so that it is asked to stop, not stopped
    store.request_stop(run_id, "enough")
    results: list[Accepted] = []
    labelling = threading.Thread(target=lambda: results.append(store.accept("g9", "issues", "labeled", start())))
    with store.database.write() as tx:  # as `finish` does
        tx.execute(select(RUN).where(RUN.c.id == run_id).with_for_update())
        labelling.start()
        if not store.database.sqlite:  # where it has looked already
            until(lambda: waits_for_a_lock(store))
        end = store.end_values(store.database.now(tx), RunState.STOPPED, "enough", announce=True)
        tx.execute(update(RUN).where(RUN.c.id == run_id).values(**end))
    labelling.join()
    assert [accepted.job_id for accepted in results] == [run_job(run_id + 1)]


def waits_for_a_lock(store: Store) -> bool:
    with store.database.read() as tx:
        return bool(tx.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def test_a_delivery_reads_no_more_of_a_repository_that_has_had_many_runs(tmp_path: Path):
    """By what SQLite plans to do: each look at runs goes by an index, to the issue or to the quota's window."""
    store = Store.open(f"sqlite:///{tmp_path}/store.sqlite3")
    asked: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    def statements(decision: StartRun | ReceiveCommand, guid: str) -> int:
        before = len(asked)
        store.accept(guid, "issues", "labeled", decision.model_copy(update={"repository_id": 7}))
        return len(asked) - before

    sa.event.listen(store.database.engine, "before_cursor_execute", note)
    assert statements(start(), "g1") <= 4, "one of them is `BEGIN`"
    assert statements(command(), "g2") <= 5
    sa.event.remove(store.database.engine, "before_cursor_execute", note)
    looks = [
        (text, values) for text, values in asked if " run" in text and text.startswith(("SELECT", "UPDATE", "WITH"))
    ]
    assert len(looks) >= 2
    with store.database.engine.connect() as connection:
        for text, values in looks:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()  # type: ignore[arg-type]
            steps = " | ".join(str(row[-1]) for row in plan)
            assert "SCAN run" not in steps, (text, steps)
            if "created_at" not in text.partition("WHERE")[2]:  # the window is bounded by its limit
                assert any(name in steps for name in ("run_by_issue", "run_by_repository_id", "one_active")), steps
    store.close()


def arrived(guid: str, decision: StartRun | ReceiveCommand | Answer | Ignore) -> Arrived:
    return Arrived(guid=guid, event="issues", action="labeled", decision=decision)


def test_deliveries_together_are_one_transaction_and_each_what_it_is_alone(store: Store):
    store.accept("g1", "issues", "labeled", start())
    commits: list[object] = []
    sa.event.listen(store.database.engine, "commit", commits.append)
    found = store.accept_all(
        [
            arrived("g1", start()),  # of before
            arrived("g2", start()),  # a run is active
            arrived("g3", start(issue=2)),
            arrived("g3", start(issue=3)),  # twice within
            arrived("g4", command()),
            arrived("g5", Answer(message="pong")),
            arrived("g6", start(issue=2, repository="octo/other")),
            arrived("g7", cancel(issue=2)),
        ]
    )
    assert len(commits) == 1
    assert [one if isinstance(one, Exception) else (one.duplicate, one.job_id) for one in found] == [
        (True, None),
        (False, None),
        (False, "run:2:0"),
        (True, None),
        (False, "command:1"),
        (False, None),
        (False, "run:3:0"),
        (False, "run:2:0"),
    ]
    assert [run.state for run in store.runs()] == [RunState.QUEUED, RunState.STOPPED, RunState.QUEUED]
    assert sorted(one.guid for one in store.deliveries()) == [f"g{n}" for n in range(1, 8)]


def test_commands_that_arrive_together_keep_their_order(store: Store):
    found = store.accept_all([arrived(f"g{n}", command(comment=2**41 + n)) for n in range(20)])
    assert [one.job_id for one in found if isinstance(one, Accepted)] == [f"command:{n}" for n in range(1, 21)]


def test_one_that_can_not_be_recorded_fails_alone(store: Store):
    bad = start(issue=2).model_copy(update={"installation_id": 2**70})
    found = store.accept_all([arrived("g1", start()), arrived("g2", bad), arrived("g3", start(issue=3))])
    assert [isinstance(one, Accepted) for one in found] == [True, False, True]
    assert sorted(one.guid for one in store.deliveries()) == ["g1", "g3"]
    assert [run.issue_number for run in store.runs()] == [3, 1]


def test_groups_of_several_processes_with_the_same_deliveries_record_each_once(database_url: str):
    """Web processes beside each other, as at a redelivery: no deadlock, no second run."""
    stores = [Store.open(database_url, quota_runs_per_hour=1000) for _ in range(4)]
    groups = [[arrived(f"g{n}", start(issue=n, repository=f"octo/{n % 5}")) for n in range(1, 31)] for _ in stores]
    for number, group in enumerate(groups):
        group.sort(key=lambda one, number=number: hash((one.guid, number)))  # type: ignore[misc]
    told: list[Accepted | Exception] = []
    together: list[list[Accepted | Exception]] = []
    at_once(len(stores), lambda n: together.append(stores[n].accept_all(groups[n])) or Accepted(duplicate=False))
    for one in together:
        told += one
    assert all(isinstance(one, Accepted) for one in told), told
    assert len({one.job_id for one in told if isinstance(one, Accepted) and one.job_id}) == 30
    assert sum(not one.duplicate for one in told if isinstance(one, Accepted)) == 30
    assert len(stores[0].runs(limit=100)) == 30
    for store in stores:
        store.close()


@pytest.mark.service
def test_who_waits_for_a_row_on_postgresql_holds_up_no_other(postgres_url: str):
    store = Store.open(postgres_url)
    first = queue_run(store)
    with store.database.write() as other:
        other.execute(select(RUN).where(RUN.c.id == first).with_for_update())
        until = time.monotonic() + 1.0
        waits = arrived("g1", cancel()).model_copy(update={"until": until})
        found = store.accept_all([waits, arrived("g2", start(issue=2))])
    assert isinstance(found[0], StoreUnavailable)
    assert isinstance(found[1], Accepted)
    assert found[1].job_id == "run:2:0"
    store.close()
