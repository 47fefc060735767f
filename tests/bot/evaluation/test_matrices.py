"""Vote matrices of runs in the form that ways of choosing are compared on."""

import json
import math

from bot.evaluation.matrices import line_of
from bot.evaluation.selectors import METHODS, read_matrices
from bot.records import Ballot, Candidate, Patch, Test


def ballot(*candidates: Candidate) -> Ballot:
    """Tests 0 and 1 fail on the base commit, 2 passes there, and 3 could not be run there."""
    return Ballot(
        candidates=candidates,
        tests=tuple(Test(path=f"{i}.py", text=str(i)) for i in range(4)),
        base=(False, False, True, None),
        cells=((True, None, True, True),) * len(candidates),
        authors=((0, 3), (1,), (2,), ()),
    )


def candidate(*trajectories: int, **more: object) -> Candidate:
    return Candidate(patch=Patch(changes=(), diff="+12345\n"), trajectories=trajectories, **more)  # type: ignore[arg-type]


def test_a_run_is_a_line_of_the_benchmarks_form() -> None:
    found = json.loads(line_of("a:b", ballot(candidate(0, 2), candidate(1, sources=("x.diff",))), [True, False]))
    assert found == {
        "task": "a:b",
        "samples": [0, 0, 1, 1],
        "candidates": [{"size": 5, "passes": "1011", "solves": True}, {"size": 5, "passes": "1011", "solves": False}],
        "test_copies": [2, 1, 1, 1],
        "passes_on_stub": "0011",
    }
    (recorded,) = read_matrices([json.dumps(found)])
    assert recorded.matrix.votes.tolist() == [1, 1]
    assert recorded.test.tolist() == [0, 0, 1, 2, 3]


def test_what_may_not_win_is_left_out() -> None:
    cheat, merged = candidate(0, disqualified="changes conftest.py"), candidate(parents=(0, 1))
    assert json.loads(line_of("t", ballot(cheat, candidate(1), merged), [True, False, True]))["candidates"] == [
        {"size": 5, "passes": "1011", "solves": False}
    ]
    assert line_of("t", ballot(cheat, merged), [True, True]) == ""
    assert line_of("t", ballot(), []) == ""


def test_what_breaks_something_of_the_repositorys_is_recorded_and_can_be_left_out() -> None:
    b = ballot(candidate(0, 2), candidate(1), candidate(disqualified="changes conftest.py"))
    (recorded,) = read_matrices([line_of("t", b, [False, True, False], broken={0, 2})])
    assert recorded.matrix.breaks is not None
    assert recorded.matrix.breaks.tolist() == [True, False]
    assert (METHODS["ours"](recorded.matrix), METHODS["ours, of what breaks nothing"](recorded.matrix)) == (0.0, 1.0)
    (all_break,) = read_matrices([line_of("t", b, [True, True, False], broken={0, 1})])
    assert METHODS["ours, of what breaks nothing"](all_break.matrix) == 0.0
    (unknown,) = read_matrices([line_of("t", b, [True, True, False])])
    assert math.isnan(METHODS["ours, of what breaks nothing"](unknown.matrix))
