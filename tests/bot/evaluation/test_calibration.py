"""How the probability of a choice fares on recorded matrices."""

import numpy as np
import pytest

from bot.evaluation.calibration import shift_for, told
from bot.evaluation.selectors import Matrix
from bot.solver.confidence import features, probability


def matrix(passes: list[list[int]], samples: list[int], solves: list[int], stub: list[int] | None = None) -> Matrix:
    fails = np.array(stub or [0] * len(passes[0])) == 0
    return Matrix(
        passes=np.array(passes, dtype=float),
        voting=fails,
        samples=np.array(samples, dtype=float),
        sizes=np.full(len(samples), 10.0),
        solves=np.array(solves, dtype=bool),
    )


def test_our_choice_is_told_as_the_solver_would_tell_it() -> None:
    found = told(matrix([[1, 1, 1], [1, 0, 1]], [3, 1], [1, 0], stub=[0, 0, 1]))
    assert found == (features(3, 4, 2, 2), True)
    assert told(matrix([[0, 1]], [4], [1], stub=[0, 1])) is None, "no test speaks for it"


def test_the_shift_brings_expectation_and_share_together_where_there_are_many() -> None:
    row = features(5, 10, 2, 4)
    right = [True] * 180 + [False] * 20
    shift = shift_for([row] * 200, right)
    assert probability(row, shift) == pytest.approx(0.9, abs=0.02)
    assert abs(shift_for([row], [True])) < abs(shift)
    assert shift_for([], []) == 0.0
