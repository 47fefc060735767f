"""What people made of winners: the newest act counts, a choice stays, and each repository has its own."""

import pytest

from bot.lifecycle import RunState
from bot.records import Act, Judgement
from bot.store import Store
from tests.bot.queueing import queue_run

REPO = "octo/repo"


def counted(store: Store, issue: int = 1, repository: str = REPO, pull: int | None = 8) -> int:
    """A run that ended with a count, and with a pull request unless `pull` is None."""
    run_id = queue_run(store, issue, repository)
    claimed = store.claim_run(run_id, "w", 1000)
    assert claimed is not None
    url = None if pull is None else f"https://github.com/{repository}/pull/{pull}"
    state = RunState.ABSTAINED if pull is None else RunState.SOLVED
    for step in (RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES, RunState.MATRIX):
        store.advance(run_id, claimed.attempt, step)
    for step in (RunState.SELECTION, RunState.PUBLISHING):
        store.advance(run_id, claimed.attempt, step)
    store.finish(run_id, claimed.attempt, state, report_json="{}", pull_request_url=url)
    return run_id


def judge(store: Store, run_id: int, act: Act, **more: object) -> Judgement:
    values = {"odds": 0.5, "candidate": 1} | more
    store.judge(run_id, act, "ann", **values)  # type: ignore[arg-type]
    return next(one for one in store.judgements() if one.run_id == run_id)


def test_the_newest_act_counts(store: Store) -> None:
    run_id = counted(store)
    found = [
        judge(store, run_id, act).right
        for act in (Act.APPROVED, Act.CHANGES_REQUESTED, Act.CLOSED, Act.REOPENED, Act.MERGED, Act.MERGED, Act.REVERTED)
    ]
    assert found == [True, False, False, None, True, True, False]
    assert len(store.judgements()) == 1


def test_who_chose_another_behaviour_overruled_the_winner_whatever_comes_of_it(store: Store) -> None:
    run_id = counted(store)
    used = judge(store, run_id, Act.USED, candidate=3, overruled=True)
    assert (used.right, used.candidate, used.by) == (False, 3, "ann")
    assert [judge(store, run_id, act).right for act in (Act.MERGED, Act.REOPENED)] == [False, False]
    assert store.judgements()[0].candidate == 3
    assert judge(store, run_id, Act.USED, candidate=1).right, "the winner was chosen after all"
    assert judge(store, run_id, Act.CLOSED).right is False


def test_a_pull_request_belongs_to_the_newest_run_that_made_or_revised_it(store: Store) -> None:
    first = counted(store)
    assert store.run_of_pull(REPO, 8) == first
    assert [store.run_of_pull(*what) for what in ((REPO, 88), (REPO, 1), ("octo/other", 8))] == [None, None, None]
    second = counted(store)
    assert store.run_of_pull(REPO, 8) == second
    third = queue_run(store)
    assert store.run_of_pull(REPO, 8) == second, f"run {third} has no count yet"


def test_a_choice_after_an_abstention_names_the_pull_request(store: Store) -> None:
    run_id = counted(store, pull=None)
    url = f"https://github.com/{REPO}/pull/9"
    judge(store, run_id, Act.USED, candidate=2, overruled=True, pull_request_url=url)
    assert store.run_of_pull(REPO, 9) == run_id
    judge(store, run_id, Act.USED, pull_request_url="https://github.com/octo/repo/pull/10")
    assert store.run_of_pull(REPO, 9) == run_id, "the first stays"


def test_each_repository_has_its_own(store: Store) -> None:
    mine, other = counted(store), counted(store, repository="octo/other")
    judge(store, mine, Act.MERGED)
    judge(store, other, Act.CLOSED, odds=None)
    assert store.judged_repositories() == ("octo/other", REPO)
    assert [one.run_id for one in store.judgements(REPO)] == [mine]
    assert [one.run_id for one in store.judgements()] == [other, mine]
    assert [one.odds for one in store.judgements("octo/other")] == [None]
    assert store.forget_judgements(REPO) == 1
    assert [one.run_id for one in store.judgements()] == [other]


def test_only_the_newest_are_read(store: Store) -> None:
    runs = [counted(store, issue) for issue in (1, 2, 3)]
    for run_id in runs:
        judge(store, run_id, Act.MERGED)
    assert [one.run_id for one in store.judgements(limit=2)] == [runs[2], runs[1]]


def test_an_act_on_no_run_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        store.judge(4711, Act.MERGED, "ann", odds=None, candidate=1)
