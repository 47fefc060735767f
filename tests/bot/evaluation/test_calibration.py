"""Fitting probabilities to choices, and measuring how far off they are."""

import numpy as np
import pytest

from bot.evaluation.calibration import calibration_error, fit, reliability, shift_for, told
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


def test_a_fit_finds_the_weights_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.ones(40_000), rng.normal(3.0, 2.0, 40_000), rng.normal(size=40_000)])
    true = np.array([-1.0, 0.5, -0.25])
    right = (rng.random(40_000) < 1 / (1 + np.exp(-(rows @ true)))).astype(float)
    assert fit(rows, right) == pytest.approx(true, abs=0.05)


def test_a_constant_column_and_one_outcome_do_not_break_it() -> None:
    found = fit(np.column_stack([np.ones(9), np.full(9, 2.0)]), np.ones(9))
    assert np.isfinite(found).all()


def test_the_error_is_how_far_probability_and_share_are_apart() -> None:
    expected = np.array([0.1] * 10 + [0.9] * 10)
    right = np.array([0.0] * 9 + [1.0] + [1.0] * 6 + [0.0] * 4)
    low, high = reliability(expected, right, bins=2)
    assert (low.expected, low.right) == pytest.approx((0.1, 0.1))
    assert (high.expected, high.right) == pytest.approx((0.9, 0.6))
    assert calibration_error((low, high)) == pytest.approx(0.15)
    assert calibration_error(()) == 0.0


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
