"""Wishes that arrive in another order than they were made in, as deliveries do: attacks 5, 6 and 36."""

import itertools
from datetime import timedelta

import pytest

from bot.lifecycle import RunState
from bot.records import Cause, CommandName, Feedback, Remark, Revision
from bot.store import Store, parse
from bot.webhook.decisions import StartRun
from tests.bot.queueing import LABELLED_AT, again, cancel, command, queue_run, start

SECONDS = {"on 1": 1, "off 2": 2, "on 3": 3, "off 4": 4}


def send(store: Store, issue: int, wish: str) -> None:
    at = LABELLED_AT + timedelta(seconds=SECONDS[wish])
    decision = (
        start(issue).model_copy(update={"labelled_at": at})
        if wish.startswith("on")
        else cancel(issue).model_copy(update={"at": at, "withdrawn": True})
    )
    action = "labeled" if isinstance(decision, StartRun) else "unlabeled"
    store.accept(f"{issue}-{wish}", "issues", action, decision)


def work(store: Store, issue: int, *, labelled: bool) -> bool:
    """Workers do what they are asked to: stop, or look at the issue's labels before they begin; whether one did."""
    for run in store.runs(issue_number=issue, active=True):
        if run.worker is None:
            claimed = store.claim_run(run.id, "w", 60)
            if claimed is not None and not labelled and store.needs_label(run.id):
                store.finish(run.id, claimed.attempt, RunState.STOPPED, announce=True)
            return True
        if run.stop_requested:
            store.finish(run.id, run.attempt, RunState.STOPPED, announce=True)
            return True
    return False


@pytest.mark.parametrize(("count", "works_after"), [(3, None), (3, 0), (3, 1), (4, 1)])
def test_attack_36_the_last_wish_counts_in_whatever_order_wishes_arrive(
    store: Store, count: int, works_after: int | None
):
    """`works_after`: after which arrival a worker holds the run."""
    wishes = list(SECONDS)[:count]
    store.quota_runs_per_hour = 10_000
    wrong = []
    for issue, order in enumerate(itertools.permutations(wishes), start=1):
        for number, wish in enumerate(order):
            send(store, issue, wish)
            if number == works_after:
                work(store, issue, labelled=max(order[: number + 1], key=SECONDS.get).startswith("on"))
        labelled = wishes[-1].startswith("on")
        while work(store, issue, labelled=labelled):
            pass
        if bool(store.runs(issue_number=issue, active=True)) != labelled:
            wrong.append((order, [run.state for run in store.runs(issue_number=issue)]))
    assert wrong == []


@pytest.mark.parametrize("held", [True, False])
def test_attack_36_a_label_that_comes_before_an_earlier_stop_is_carried_out_counts(store: Store, held: bool):
    """The command has to wait for a worker, which asks GitHub for its author's permission first."""
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60) if held else None
    job = parse(store.accept("c", "issue_comment", "created", command(name=CommandName.STOP)).job_id or "")
    send(store, 1, "on 3")
    asked = store.claim_command(job.id, "w", 60)
    assert asked is not None
    assert store.request_stop(first, "ann asked for it", asked_at=asked.asked_at)
    if claimed is not None:
        store.finish(first, claimed.attempt, RunState.STOPPED, announce=True)
    [following] = store.runs(active=True)
    assert following.id != first
    assert store.claim_announcement(first, "w", 60) is None, "it would take the new label off"


def test_a_label_that_comes_while_a_run_goes_on_starts_none_after_its_end(store: Store):
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    send(store, 1, "on 3")
    assert store.finish(first, claimed.attempt, RunState.FAILED) is None
    assert store.runs(active=True) == ()


def test_a_stop_after_that_label_counts(store: Store):
    first = queue_run(store)
    send(store, 1, "on 3")
    job = parse(store.accept("c", "issue_comment", "created", command(name=CommandName.STOP)).job_id or "")
    asked = store.claim_command(job.id, "w", 60)
    assert asked is not None
    assert store.request_stop(first, "ann asked for it", asked_at=asked.asked_at)
    assert store.runs(active=True) == ()


@pytest.mark.parametrize("taken_off", [False, True])
def test_a_label_while_a_revision_goes_on_is_a_wish_of_its_own(store: Store, taken_off: bool):
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    store.finish(first, claimed.attempt, RunState.FAILED)
    remark = Remark(thread=0, feedback=Feedback(author="ann", body="keep zero"))
    asked = Revision(pull=2, branch="troop/x", cause=Cause.REVIEW, sources=(1,), remarks=(remark,), at=LABELLED_AT)
    revising = store.revise(first, again(1, revision=asked), most_a_day=9)
    assert revising is not None
    claimed = store.claim_run(revising, "w", 60)
    assert claimed is not None
    send(store, 1, "on 3")
    if taken_off:
        send(store, 1, "off 4")
    assert store.renew(revising, claimed.attempt, 60) is None, "the revision goes on"
    following = store.finish(revising, claimed.attempt, RunState.FAILED)
    assert (following is None) is taken_off
