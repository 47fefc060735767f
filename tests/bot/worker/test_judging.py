"""What people made of winners, and what that does to the next run's shift."""

from collections.abc import Sequence

import pytest

from bot.lifecycle import RunState
from bot.records import Act, Cause, Judgement, Report, Revision
from bot.settings import Settings, SolverSettings
from bot.solver.confidence import odds_of
from bot.store import Store
from bot.worker.executor import StoredRuns
from bot.worker.judging import Judging
from tests.bot.queueing import LABELLED_AT, REPOSITORY, again, queue_run, store_now
from tests.bot.sample import report
from tests.bot.worker.working import info

PULL = f"https://github.com/{REPOSITORY}/pull/8"
WINNER, ALIKE, OTHER = 0, 1, 2  # of CELLS, by their index in the ballot
CELLS = ((True, True, True, None), (True, True, True, None), (True, False, False, None))


def settings(**changes: object) -> Settings:
    return Settings.model_validate({"solver": SolverSettings(confidence_shift=0.25)} | changes)


def ended(store: Store, made: Report, issue: int = 1) -> int:
    run_id = queue_run(store, issue)
    claimed = store.claim_run(run_id, "w", 1000)
    assert claimed is not None
    for state in (RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES, RunState.MATRIX, RunState.SELECTION):
        store.advance(run_id, 1, state)
    store.advance(run_id, 1, RunState.PUBLISHING)
    solved = made.verdict.winner is not None
    state = RunState.SOLVED if solved else RunState.ABSTAINED
    store.finish(run_id, 1, state, report_json=made.model_dump_json(), pull_request_url=PULL if solved else None)
    return run_id


def runs(store: Store, **changes: object) -> StoredRuns:
    return StoredRuns(store, Judging(settings(**changes), store), 5)


def counted(**changes: object) -> Report:
    return report(cells=CELLS, **changes)  # type: ignore[arg-type]


async def test_a_merge_is_kept_with_what_the_count_said(store: Store) -> None:
    made = counted()
    run_id = ended(store, made)
    assert await runs(store).judge(REPOSITORY, 8, Act.MERGED, "ann")
    (kept,) = store.judgements(REPOSITORY)
    assert (kept.run_id, kept.right, kept.candidate, kept.by) == (run_id, True, 1, "ann")
    assert kept.odds == pytest.approx(odds_of(made.verdict.standing(WINNER), made.verdict.ballot))
    assert not await runs(store).judge(REPOSITORY, 9, Act.MERGED, "ann"), "not ours"


async def test_a_revision_of_a_pull_request_that_is_over_is_asked_to_stop(store: Store) -> None:
    run_id = ended(store, counted())
    asked = Revision(pull=8, branch="troop/issue-1", cause=Cause.REVIEW, sources=(1,), remarks=(), at=LABELLED_AT)
    revision = store.revise(run_id, again(sender="ann", revision=asked), most_a_day=5)
    assert revision is not None
    kept = runs(store)
    assert not await kept.stop_revision(REPOSITORY, 9, "ann closed it", asked_at=store_now(store))
    assert not await kept.stop_revision(REPOSITORY, 8, "before it was asked for", asked_at=store_now(store) - 60)
    assert await kept.stop_revision(REPOSITORY, 8, "ann closed it", asked_at=store_now(store))
    assert (info(store, revision).state, info(store, revision).reason) == (RunState.STOPPED, "ann closed it")
    assert not await kept.stop_revision(REPOSITORY, 8, "once more", asked_at=store_now(store))


@pytest.mark.parametrize(("chosen", "right"), [(WINNER, True), (ALIKE, True), (OTHER, False)])
async def test_who_chooses_another_behaviour_says_that_the_winner_was_wrong(
    store: Store, chosen: int, right: bool
) -> None:
    made = counted()
    ended(store, made)
    assert await runs(store).judge_choice(REPOSITORY, 1, chosen, "ann", PULL)
    (kept,) = store.judgements()
    assert (kept.right, kept.candidate) == (right, made.verdict.number(chosen))
    await runs(store).judge(REPOSITORY, 8, Act.MERGED, "ann")
    assert store.judgements()[0].right is right


async def test_a_choice_after_an_abstention_is_read_against_the_count(store: Store) -> None:
    made = counted(winner=None)
    ended(store, made)
    await runs(store).judge_choice(REPOSITORY, 1, OTHER, "ann", PULL)
    (kept,) = store.judgements()
    assert kept.right is False
    assert await runs(store).judge(REPOSITORY, 8, Act.CLOSED, "ann"), "the choice has told which pull request it is"


async def test_where_the_count_finds_nothing_credible_a_choice_says_nothing_of_it(store: Store) -> None:
    ended(store, report(cells=((False,) * 4,) * 3, winner=None))
    await runs(store).judge_choice(REPOSITORY, 1, 0, "ann", PULL)
    (kept,) = store.judgements()
    assert (kept.odds, kept.overruled) == (None, False)


async def test_the_operator_and_the_repository_may_opt_out(store: Store) -> None:
    ended(store, counted())
    assert not await runs(store, feedback=False).judge(REPOSITORY, 8, Act.MERGED, "ann")
    ended(store, counted(judged=False), issue=2)
    assert not await runs(store).judge(REPOSITORY, 8, Act.MERGED, "ann"), "the newest run's config counts"
    assert not await runs(store).judge_choice(REPOSITORY, 2, OTHER, "ann", PULL)
    assert store.judgements() == ()


async def shift(store: Store, *, wanted: bool = True, **changes: object) -> float:
    return (await Judging(settings(**changes), store).shift(REPOSITORY, wanted=wanted)).value


def judgements(store: Store, acts: Sequence[Act]) -> tuple[Judgement, ...]:
    for issue, act in enumerate(acts, start=1):
        store.judge(ended(store, counted(), issue), act, "ann", odds=0.0, candidate=1)
    return store.judgements()


async def test_the_shift_follows_what_became_of_winners_and_shrinks_where_little_is_known(store: Store) -> None:
    assert await shift(store) == pytest.approx(0.25, abs=1e-5), "the operator's"
    judgements(store, [Act.CLOSED])
    one = await shift(store)
    judgements(store, [Act.CLOSED] * 2)
    assert await shift(store) < one < 0.25
    assert await shift(store, feedback=False) == 0.25
    store.judge(1, Act.MERGED, "ann", odds=0.0, candidate=1)
    assert one < await shift(store), "the same run's newest act"


async def test_a_repository_that_opts_out_is_forgotten(store: Store) -> None:
    judgements(store, [Act.MERGED, Act.MERGED])
    assert await shift(store, wanted=False) == 0.25
    assert store.judgements() == ()
