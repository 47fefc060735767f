import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.records import Abstention, Ballot, Doubt, Ending, Execution, NoWinner, OwnTests, OwnTestsReport, Repeated
from bot.solver.ballot import (
    abstention,
    clear_lead,
    count,
    credible,
    distinct_first,
    doubt,
    order,
    overruled,
    regressions,
    scores,
    typical,
    weighed,
)
from tests.bot.solver.ballots import ballot
from tests.fakes import FAILED, PASSED


def ranked(b: Ballot, own: OwnTestsReport | None = None) -> list[int]:
    return [standing.candidate for standing in count(b, own)]


def test_a_test_votes_only_where_it_fails_on_base() -> None:
    standings = count(ballot("+.?", "+..", "+++", "?++"))
    assert {s.candidate: s.votes for s in standings} == {0: 0, 1: 1, 2: 1}


def test_a_cell_that_could_not_be_run_is_no_vote() -> None:
    assert [s.votes for s in count(ballot("..", "?+"))] == [1]


def test_the_own_test_is_counted_apart() -> None:
    b = ballot("..", "+.", "++", authors=[[0], [7]])
    standings = {s.candidate: s for s in count(b)}
    assert (standings[0].votes, standings[0].own_votes) == (0, 1)
    assert (standings[1].votes, standings[1].own_votes) == (2, 0)


def test_a_test_that_somebody_else_wrote_too_is_a_vote() -> None:
    (standing,) = count(ballot(".", "+", authors=[[0, 5]]))
    assert (standing.votes, standing.own_votes) == (1, 0)


def test_trajectories_that_end_in_one_patch_vouch_for_each_other() -> None:
    (standing,) = count(ballot("..", "++", trajectories=[[0, 1]], authors=[[0], [1]]))
    assert (standing.votes, standing.own_votes) == (2, 0)


def test_without_authors_the_candidates_own_lists_say_whose_a_test_is() -> None:
    b = ballot("..+", "+++", "++.", authors=[[0], [0, 1], [9]]).model_copy(update={"authors": ()})
    standings = {s.candidate: s for s in count(b)}
    assert (standings[0].votes, standings[0].own_votes) == (1, 1)
    assert (standings[1].votes, standings[1].own_votes) == (2, 0)


def test_most_votes_win_where_samples_agree_alike() -> None:
    assert ranked(ballot("...", "+..", "+++", "++.")) == [1, 2, 0]


def test_agreeing_samples_outweigh_a_lone_extra_vote() -> None:
    b = ballot("." * 6, "++++++", "++++..", trajectories=[[0], [1, 2, 3, 4, 5, 6, 7, 8]])
    standings = count(b)
    assert [s.candidate for s in standings] == [1, 0]
    other = overruled(standings[0], standings)
    assert other is not None
    assert other.candidate == 0


def test_ties_go_to_the_larger_cluster() -> None:
    b = ballot("..", "+.", ".+", sizes=[5, 50], trajectories=[[0], [1, 2]])
    assert ranked(b) == [1, 0]


def test_then_ties_go_to_the_shorter_patch() -> None:
    assert ranked(ballot("..", "+.", ".+", sizes=[50, 5])) == [1, 0]
    assert ranked(ballot("..", "++", "++", sizes=[50, 5])) == [1, 0]


def test_among_many_that_behave_the_same_the_usual_length_wins() -> None:
    assert ranked(ballot(".", "+", "+", "+", "+", "+", sizes=[5, 40, 45, 50, 300]))[0] == 2


def test_the_author_of_a_good_test_is_not_worse_off_than_those_who_behave_the_same() -> None:
    b = ballot("...", "+++", "+++", sizes=[5, 50], authors=[[0], [7], [8]])
    assert ranked(b) == [0, 1]


def test_the_votes_of_a_behaviour_are_the_union_of_its_members_telling_tests() -> None:
    b = ballot("....", "++.+", ".+..", "++++", "++.+", authors=[[0], [1], [2], [3]])
    votes = {s.candidate: (s.votes, s.own_votes, s.cluster) for s in count(b)}
    assert votes == {0: (3, 0, 2), 1: (0, 1, 1), 2: (3, 1, 1), 3: (3, 0, 2)}


def test_a_disqualified_twin_vouches_for_no_test_and_is_not_alike() -> None:
    b = ballot("..", "++", "++", authors=[[0], [1]], disqualified={1: "changes conftest.py"})
    votes = {s.candidate: (s.votes, s.own_votes, s.cluster) for s in count(b)}
    assert votes == {0: (1, 1, 1), 1: (0, 0, 1)}


def test_who_touched_a_judge_comes_last_without_votes_and_lends_no_weight() -> None:
    b = ballot(
        "..", "++", "+.", ".+",
        trajectories=[list(range(10, 30)), [1, 2], [3]],
        disqualified={0: "changes conftest.py"},
    )  # fmt: skip
    standings = count(b)
    assert [s.candidate for s in standings] == [1, 2, 0]
    assert standings[-1].disqualified == "changes conftest.py"
    assert (standings[-1].votes, standings[-1].own_votes, standings[-1].score) == (0, 0, 0.0)
    without = count(ballot("..", "+.", ".+", trajectories=[[1, 2], [3]], sizes=[21, 22]))
    assert [s.score for s in standings[:2]] == [s.score for s in without]


def own(base: OwnTests, **after: OwnTests) -> OwnTestsReport:
    candidates = tuple((int(name[1:]), result) for name, result in after.items())
    return OwnTestsReport(command=("pytest",), base=base, candidates=candidates)


def test_of_equal_scores_who_mends_an_own_test_is_first() -> None:
    base = OwnTests(execution=FAILED, failures=("t.py::known",))
    better = OwnTests(execution=PASSED, failures=(), passed=("t.py::known",))
    alike = ballot("..", "++", "++", "+.", sizes=[20, 20, 20])
    assert [s.candidate for s in count(alike, own(base, c0=base, c1=base, c2=base))] == [0, 1, 2]
    first, *_ = count(alike, own(base, c0=base, c1=better, c2=base))
    assert (first.candidate, first.mended) == (1, ("t.py::known",))
    assert [s.candidate for s in count(alike, own(base, c0=base, c1=base, c2=better))] == [0, 1, 2]


def test_a_regression_demotes_below_all_without() -> None:
    report = own(OwnTests(execution=PASSED, failures=()), c0=OwnTests(execution=FAILED, failures=("t.py::a",)))
    standings = count(ballot("...", "+++", "+.."), report)
    assert [(s.candidate, s.regressions) for s in standings] == [(1, ()), (0, ("t.py::a",))]


def test_what_failed_before_is_no_regression() -> None:
    before = OwnTests(execution=FAILED, failures=("a", "b"))
    assert regressions(own(before, c0=OwnTests(execution=FAILED, failures=("b", "a"))), 0) == ()
    assert regressions(own(before, c0=OwnTests(execution=FAILED, failures=("b", "c"))), 0) == ("c",)


def test_a_failing_test_that_the_candidate_brings_is_no_regression() -> None:
    before = OwnTests(execution=PASSED, failures=())
    report = own(before, c0=OwnTests(execution=FAILED, failures=("tests/new.py::a", "tests/old.py::b")))
    assert regressions(report, 0, ("tests/new.py", "a.py")) == ("tests/old.py::b",)


def test_without_names_the_exit_code_decides() -> None:
    assert regressions(own(OwnTests(execution=PASSED, failures=()), c0=OwnTests(execution=FAILED)), 0) == (
        "pytest: exit 1",
    )
    assert regressions(own(OwnTests(execution=FAILED), c0=OwnTests(execution=FAILED)), 0) == ()


def test_own_tests_that_end_as_if_they_could_not_be_run_are_broken() -> None:
    gone = OwnTests(execution=Execution(ending=Ending.UNAVAILABLE, exit_code=127))
    assert regressions(own(OwnTests(execution=PASSED, failures=()), c0=gone), 0) == (
        "pytest: unavailable, before its end",
    )
    assert regressions(own(gone, c0=gone), 0) == ()
    assert regressions(own(OwnTests(execution=PASSED, failures=())), 0) == ()
    assert regressions(None, 0) == ()


def test_nothing_to_count() -> None:
    assert count(ballot("..")) == ()
    assert abstention((), ballot("..")) == Abstention(cause=NoWinner.NO_CANDIDATE)
    assert [s.votes for s in count(ballot("", "", ""))] == [0, 0]


@pytest.mark.parametrize(
    ("b", "cause", "doubts"),
    [
        (ballot("", ""), NoWinner.NO_TEST, {Doubt.NO_VOTE: 1}),
        (ballot("??", "??"), NoWinner.NOTHING_RAN, {Doubt.NO_VOTE: 1}),
        (ballot("+", "+"), NoWinner.NOT_REPRODUCED, {Doubt.NO_VOTE: 1}),
        (ballot("..", "..", ".."), NoWinner.NOT_CREDIBLE, {Doubt.NO_VOTE: 2}),
        (
            ballot("..", "+.", "..", authors=[[0], [1]]),
            NoWinner.NOT_CREDIBLE,
            {Doubt.OWN_TEST_ONLY: 1, Doubt.NO_VOTE: 1},
        ),
        (
            ballot(".", "+", disqualified={0: "changes conftest.py"}),
            NoWinner.NOT_CREDIBLE,
            {Doubt.DISQUALIFIED: 1},
        ),
    ],
)
def test_abstaining_has_its_cause(b: Ballot, cause: NoWinner, doubts: dict[Doubt, int]) -> None:
    standings = count(b)
    found = abstention(standings, b)
    assert found is not None
    assert (found.cause, dict(found.doubts), found.missing) == (cause, doubts, None)
    assert all(doubt(s, b) for s in standings)
    assert credible(standings, b) == ()


def test_regressions_make_abstain_where_there_is_nothing_else() -> None:
    b = ballot(".", "+")
    standings = count(b, own(OwnTests(execution=PASSED, failures=()), c0=OwnTests(execution=FAILED, failures=("a",))))
    assert abstention(standings, b) == Abstention(cause=NoWinner.NOT_CREDIBLE, doubts=((Doubt.REGRESSIONS, 1),))
    assert doubt(standings[0], b) is Doubt.REGRESSIONS


def test_one_trajectory_alone_may_stand_on_its_own_test() -> None:
    b = ballot(".", "+", authors=[[0]])
    standings = count(b)
    assert (standings[0].votes, standings[0].own_votes) == (0, 1)
    assert abstention(standings, b) is None


def test_finalists_are_distinct_behaviours_first() -> None:
    b = ballot("...", "+++", "+++", "++.", "...", sizes=[21, 22, 20, 23])
    standings = count(b)
    assert [s.candidate for s in distinct_first(credible(standings, b), b, 3)] == [0, 2, 1]


def test_a_clear_lead_needs_samples_score_and_votes() -> None:
    def lead(b: Ballot) -> bool:
        return clear_lead(credible(count(b), b), b)

    assert lead(ballot("....", "++++", "+...", trajectories=[[0, 1, 2], [3]]))
    assert not lead(ballot("....", "++++", "+...", trajectories=[[0, 1], [3]]))  # too few samples
    assert not lead(ballot("....", "++++", "+++.", trajectories=[[0, 1, 2], [3]]))  # too close
    assert not lead(ballot("." * 9, "++++++++.", "+++++++++", trajectories=[list(range(30)), [90]]))  # more votes
    assert lead(ballot(".", "+"))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_order_of_candidates_and_tests_changes_nothing(candidates: int, tests: int, rng) -> None:
    base = "".join(rng.choice("..+?") for _ in range(tests))
    rows = ["".join(rng.choice("+++.?") for _ in range(tests)) for _ in range(candidates)]
    sizes = rng.sample(range(10, 500), candidates)
    samples = [[100 * i + k for k in range(rng.randint(1, 4))] for i in range(candidates)]
    b = ballot(base, *rows, sizes=sizes, trajectories=samples)
    shuffled = rng.sample(range(candidates), candidates)
    columns = rng.sample(range(tests), tests)
    c = ballot(
        "".join(base[t] for t in columns),
        *["".join(rows[i][t] for t in columns) for i in shuffled],
        sizes=[sizes[i] for i in shuffled],
        trajectories=[samples[i] for i in shuffled],
    )
    assert [(s.size, s.votes, s.cluster) for s in count(b)] == [(s.size, s.votes, s.cluster) for s in count(c)]


def test_scores_against_the_definition_by_hand() -> None:
    passes = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=float)
    samples = np.array([2, 1, 4], dtype=float)
    near = 0.5**4  # one of two votes shared
    expected = [2 * (2 + near) ** 0.6, 1 * (1 + 2 * near) ** 0.6, 0.0]
    assert scores(passes, samples, passes.sum(axis=1)) == pytest.approx(expected)


def test_typical_is_the_distance_to_the_median_of_what_tests_speak_for() -> None:
    sizes, ones = np.array([9.0, 99.0, 999.0, 4.0]), np.ones(4)
    assert typical(sizes, ones, np.array([1.0, 1, 1, 0])) == pytest.approx([np.log(10), 0, np.log(10), np.log(20)])
    assert typical(sizes, np.array([1.0, 1, 3, 9]), np.array([1.0, 1, 1, 0]))[2] == 0  # as many samples as votes
    assert typical(sizes, ones, np.array([1.0, 1, 3, 0]))[2] == 0
    assert typical(sizes, ones, np.zeros(4))[:2] == pytest.approx([np.log(10) / 2] * 2)  # no votes: of all patches
    assert typical(sizes[:1], np.zeros(1), np.zeros(1)) == [0]


def test_a_behaviour_counts_less_where_all_its_patches_are_of_an_unusual_length() -> None:
    behaviour = np.array([0, 0, 1, 2])
    distance = np.array([np.log(2), np.log(4), 0, np.log(2)])
    assert weighed(np.array([6.0, 6, 2, 4]), distance, behaviour, 1.0) == pytest.approx([3, 3, 2, 2])
    assert weighed(np.array([6.0, 6, 2, 4]), distance, behaviour, 0.0) == pytest.approx([6, 6, 2, 4])
    assert order(np.array([3.0, 3, 2, 2]), np.ones(4), np.array([9.0, 7, 8, 5]), distance, behaviour) == [0, 1, 3, 2]
    far = ballot("....", "++++", "+++.", "+++.", "+++.", sizes=[900, 30, 31, 32])
    assert ranked(far)[0] == 3
    assert ranked(ballot("....", "++++", "+++.", sizes=[40, 30]))[0] == 0


@pytest.mark.slow
def test_a_thousand_by_a_thousand_is_counted() -> None:
    rng = np.random.default_rng(0)
    rows = ["".join(r) for r in np.where(rng.random((1000, 1000)) < 0.5, "+", ".")]
    assert len(count(ballot("." * 1000, *rows))) == 1000


def with_output(b: Ballot, *outputs: str) -> Ballot:
    """The ballot whose tests printed that on the base commit."""
    executions = tuple(FAILED.model_copy(update={"output": output}) for output in outputs)
    return b.model_copy(update={"executions": executions, "base_executions": tuple(range(len(executions)))})


NO_VERSION = "Traceback ...\nModuleNotFoundError: No module named 'pkg._version'\n"


def test_the_module_that_most_tests_lack_is_a_fact_of_the_abstention() -> None:
    b = with_output(ballot("..", "..", ".."), NO_VERSION, NO_VERSION)
    found = abstention(count(b), b)
    assert found is not None
    assert found.missing == Repeated(text="ModuleNotFoundError: No module named 'pkg._version'", times=2, of=2)


@pytest.mark.parametrize(
    "b",
    [
        with_output(ballot("..", "..", ".."), "AssertionError", "AssertionError"),
        with_output(ballot("..", "..", ".."), NO_VERSION, "AssertionError"),  # not most of them
        with_output(ballot("++", "++", "++"), NO_VERSION, NO_VERSION),
        with_output(ballot("..", "+.", "..", authors=[[0], [1]]), NO_VERSION, NO_VERSION),  # a test passes somewhere
        ballot("..", "..", ".."),
    ],
)
def test_else_no_module_is_to_blame(b: Ballot) -> None:
    found = abstention(count(b), b)
    assert found is not None
    assert found.missing is None


def test_the_memory_of_the_scores_does_not_grow_with_the_square_of_the_candidates() -> None:
    """A run may have thousands of candidates; a whole table of how alike each two are would take gigabytes."""
    rng = np.random.default_rng(0)
    passes = (rng.random((3_000, 40)) < 0.5).astype(float)
    tracemalloc.start()
    try:
        found = scores(passes, np.ones(3_000), passes.sum(axis=1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000 * 3_000 * 8
    few = scores(passes[:2], np.ones(2), passes[:2].sum(axis=1))
    both, either = (passes[0] * passes[1]).sum(), np.maximum(passes[0], passes[1]).sum()
    alike = (both / either) ** 4
    assert few == pytest.approx(passes[:2].sum(axis=1) * (1 + alike) ** 0.6)
    assert len(found) == 3_000
