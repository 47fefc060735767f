from typing import Any

import pytest

from bot.errors import RetryRefused
from bot.lifecycle import RunState
from bot.records import Again, Cause, Feedback, Issue, Remark, Revision
from bot.records.issue import FEEDBACK_LIMIT, MOST_FEEDBACK
from bot.store import Store, run_job
from tests.bot.queueing import LABELLED_AT, again, age, command, queue_run

WORDS = (Feedback(author="ann", body="keep negative numbers"),)


def test_start_again_makes_a_new_run_of_the_same_snapshot(store: Store):
    first = queue_run(store)
    with pytest.raises(RetryRefused, match=f"run {first} is still queued; `/troop stop` it first"):
        store.start_again(first, again())
    store.request_stop(first, "enough")
    second = store.start_again(first, again())
    info = store.run(second)
    assert info is not None
    assert (info.state, info.retry_of) == (RunState.QUEUED, first)
    assert run_job(second) in store.due()
    with pytest.raises(ValueError, match="there is no run 99"):
        store.start_again(99, again())


def test_start_again_counts_against_the_quota(store: Store):
    run_id = queue_run(store)
    for command_id in range(2):
        store.request_stop(run_id, "enough")
        run_id = store.start_again(run_id, again(command_id))
    store.request_stop(run_id, "enough")
    with pytest.raises(RetryRefused, match="3 runs an hour"):
        store.start_again(run_id, again(9))


def test_a_command_that_is_executed_twice_starts_one_run(store: Store):
    first = queue_run(store)
    store.request_stop(first, "enough")
    second = store.start_again(first, again(7))
    assert store.start_again(first, again(7)) == second, "while it is active"
    store.request_stop(second, "enough")
    assert store.start_again(second, again(7)) == second, "and once it has ended"
    assert len(store.runs()) == 2


def test_words_go_to_the_new_run_and_stay_for_those_after_it(store: Store):
    first = queue_run(store)
    store.request_stop(first, "enough")
    second = store.start_again(first, again(1, "bea", feedback=WORDS, flags=("an HTML comment",)))
    claimed = store.claim_run(second, "w", 60)
    assert claimed is not None
    assert (claimed.sender, claimed.issue.feedback, claimed.issue.flags) == ("bea", WORDS, ("an HTML comment",))
    assert claimed.again is not None
    assert claimed.again.command_id == 1
    store.finish(second, claimed.attempt, RunState.STOPPED)
    third = store.claim_run(store.start_again(second, again(2)), "w", 60)
    assert third is not None
    assert third.issue.feedback == WORDS


def test_words_given_while_a_run_stops_are_not_lost(store: Store):
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    store.request_stop(first, "enough")
    assert store.start_again(first, again(1, feedback=WORDS)) is None
    assert store.start_again(first, again(1, feedback=WORDS)) is None, "executed twice"
    following = store.finish(first, claimed.attempt, RunState.STOPPED)
    assert following is not None
    second = store.claim_run(following, "w", 60)
    assert second is not None
    assert second.issue.feedback == WORDS


def test_more_attempts_go_on_with_the_journal_of_the_run(store: Store):
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    for key in (
        "seed",
        "issue",
        "model/trajectory/0/edit/1/ab",
        "sandbox/cd",
        "model/selection/1/ef",
        "report",
        "started",
        "build/1/00",
    ):
        store.put_step(first, claimed.attempt, key, f'{{"of": "{key}"}}')
    store.finish(first, claimed.attempt, RunState.FAILED)
    second = store.start_again(first, again(1, more=2, of_run=first))
    assert second is not None
    assert set(store.step_keys(second)) == {"seed", "issue", "model/trajectory/0/edit/1/ab", "sandbox/cd"}
    assert store.get_step(second, "issue") == '{"of": "issue"}'
    (info, earlier) = store.runs()
    assert (info.goes_on_from, earlier.goes_on_from) == (first, None)
    assert store.start_again(second, again(1, more=2, of_run=first)) == second, "executed twice"
    store.request_stop(second, "enough")
    with pytest.raises(RetryRefused, match="run 99 did is no longer kept"):
        store.start_again(second, again(2, more=2, of_run=99))


def test_feedback_is_bounded():
    issue = Issue(title="t", body="b")
    for n in range(MOST_FEEDBACK + 5):
        issue = issue.with_feedback([Feedback(author="ann", body=f"{n} {'x' * 2 * FEEDBACK_LIMIT}")])
    assert len(issue.feedback) == MOST_FEEDBACK
    assert issue.feedback[-1].body.startswith(f"{MOST_FEEDBACK + 4} ")
    assert {len(one.body) for one in issue.feedback} == {FEEDBACK_LIMIT}


# -- revisions


def revision(*sources: int, pull: int = 8, cause: Cause = Cause.REVIEW) -> Revision:
    remarks = tuple(Remark(thread=n, feedback=Feedback(author="ann", body=f"remark {n}")) for n in sources)
    return Revision(pull=pull, branch="troop/x", cause=cause, sources=sources, remarks=remarks, at=LABELLED_AT)


def asked(command_id: int, *sources: int, **more: Any) -> Again:
    made = revision(*sources, **more)
    return again(command_id, feedback=tuple(one.feedback for one in made.remarks), revision=made)


def end(store: Store, run_id: int, state: RunState = RunState.STOPPED) -> int | None:
    claimed = store.claim_run(run_id, "w", 60)
    assert claimed is not None
    return store.finish(run_id, claimed.attempt, state)


def test_a_revision_is_a_run_of_the_issue(store: Store):
    first = queue_run(store)
    end(store, first)
    second = store.revise(first, asked(1, 11), most_a_day=5)
    assert second is not None
    claimed = store.claim_run(second, "w", 60)
    assert claimed is not None
    assert (claimed.revision, claimed.conversation, claimed.issue.number) == (revision(11), 8, 1)
    assert [one.body for one in claimed.issue.feedback] == ["remark 11"]


def test_reviews_that_come_while_a_run_is_active_are_one_more_run(store: Store):
    first = queue_run(store)
    end(store, first)
    second = store.revise(first, asked(1, 11), most_a_day=5)
    assert second is not None
    for command_id, source in ((2, 12), (3, 13), (2, 12)):  # the last one is executed twice
        assert store.revise(first, asked(command_id, source), most_a_day=5) is None
    third = end(store, second)
    assert third is not None
    claimed = store.claim_run(third, "w", 60)
    assert claimed is not None
    assert claimed.revision is not None
    assert claimed.revision.sources == (12, 13)
    assert [one.body for one in claimed.issue.feedback] == ["remark 12", "remark 13"]
    assert claimed.again is not None
    assert [one.body for one in claimed.again.feedback] == ["remark 12", "remark 13"]


def test_a_review_starts_one_run_however_often_it_is_executed(store: Store):
    first = queue_run(store)
    end(store, first)
    second = store.revise(first, asked(1, 11), most_a_day=5)
    assert store.revise(first, asked(1, 11), most_a_day=5) == second, "while it is active"
    assert second is not None
    end(store, second)
    assert store.revise(first, asked(1, 11), most_a_day=5) is None, "and once it has ended"
    assert len(store.runs()) == 2


def test_revisions_of_a_pull_request_have_a_limit_a_day(store: Store):
    first = queue_run(store)
    end(store, first)
    second = store.revise(first, asked(1, 11), most_a_day=1)
    assert second is not None
    end(store, second)
    with pytest.raises(RetryRefused, match="revised 1 times within a day"):
        store.revise(first, asked(2, 12), most_a_day=1)
    age(store, 2 * 86_400)
    assert store.revise(first, asked(2, 12), most_a_day=1) is not None


def test_failed_checks_revise_a_pull_request_once_and_never_wait(store: Store):
    first = queue_run(store)
    with pytest.raises(RetryRefused, match="is active"):
        store.revise(first, asked(1, 11, cause=Cause.CHECKS), most_a_day=5)
    assert end(store, first) is None, "nothing waited"
    second = store.revise(first, asked(2, 12, cause=Cause.CHECKS), most_a_day=5)
    assert second is not None
    assert store.revise(first, asked(2, 12, cause=Cause.CHECKS), most_a_day=5) == second, "executed twice"
    end(store, second)
    with pytest.raises(RetryRefused, match="have started a revision of this pull request before"):
        store.revise(first, asked(3, 13, cause=Cause.CHECKS), most_a_day=5)
    assert store.revise(first, asked(4, 14, cause=Cause.CHECKS, pull=9), most_a_day=5) is not None


def test_a_review_and_a_comment_may_have_the_same_number(store: Store):
    review = command().model_copy(update={"source": "review"})
    assert store.accept("a", "issue_comment", "created", command()).job_id == "command:1"
    assert store.accept("b", "pull_request_review", "submitted", review).job_id == "command:2"
    assert store.accept("c", "pull_request_review_comment", "created", review).job_id is None
