"""How the probability of a choice fares on recorded matrices."""

import numpy as np
import pytest

from bot.evaluation.calibration import calibration_error, errors_by_chance, reliability, right_by_chance, told
from bot.evaluation.selectors import Matrix
from bot.solver.confidence import features, log_odds, probability, shift_for


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


def test_the_error_is_how_far_probability_and_share_are_apart() -> None:
    expected = np.array([0.1] * 10 + [0.9] * 10)
    right = np.array([0.0] * 9 + [1.0] + [1.0] * 6 + [0.0] * 4)
    low, high = reliability(expected, right, bins=2)
    assert (low.expected, low.right) == pytest.approx((0.1, 0.1))
    assert (high.expected, high.right) == pytest.approx((0.9, 0.6))
    assert calibration_error((low, high)) == pytest.approx(0.15)
    assert calibration_error(()) == 0.0


def test_the_shift_brings_expectation_and_share_together_where_there_are_many() -> None:
    odds = log_odds(features(5, 10, 2, 4))
    right = [True] * 180 + [False] * 20
    shift = shift_for([odds] * 200, right)
    assert probability(odds, shift) == pytest.approx(0.9, abs=0.02)
    assert 0 < shift_for([odds], [True]) < shift
    assert shift_for([], []) == pytest.approx(0.0, abs=1e-5)
    assert shift_for([], [], 1.5) == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize("odds", [-9.0, 9.0])
def test_the_shift_is_found_where_all_was_expected_otherwise(odds: float) -> None:
    shift = shift_for([odds] * 200, [odds < 0] * 200)
    gradient = 200 * (probability(odds, shift) - (odds < 0)) + shift / 1.0
    assert gradient == pytest.approx(0.0, abs=1e-3)


def test_true_probabilities_have_an_error_too_where_choices_are_few() -> None:
    """It falls with the root of their number, and does not where they are of the same few tasks."""
    rng = np.random.default_rng(0)
    few, many = np.full(20, 0.8), np.full(2_000, 0.8)
    of_few = errors_by_chance(few, np.arange(20), rng)
    of_many = errors_by_chance(many, np.arange(2_000), rng)
    assert of_few.mean() == pytest.approx(
        0.04 * 0.8 + 0.32 * 0.3 + 0.64 * 0.2, abs=0.01
    )  # none, one, both right of two
    assert of_many.mean() == pytest.approx((0.8 * 0.2 / 200 * 2 / np.pi) ** 0.5, abs=0.002)
    assert errors_by_chance(many, np.arange(2_000) % 10, rng).mean() > 4 * of_many.mean()
    assert errors_by_chance(np.array([0.0, 1.0]), np.array([0, 1]), rng).max() == 0.0


@pytest.mark.parametrize(
    ("expected", "low", "high"),
    [
        ([0.5] * 10, 0.2, 0.8),  # of 10 coins 2 to 8 fall on one side, 97.9% of the time
        ([1.0, 1.0], 1.0, 1.0),
        ([0.0, 1.0], 0.5, 0.5),
        ([0.5], 0.0, 1.0),
    ],
)
def test_what_chance_leaves_of_the_share_that_is_right(expected: list[float], low: float, high: float) -> None:
    assert right_by_chance(expected) == (low, high)


def test_chance_leaves_it_within_its_bounds_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    expected = rng.random(30)
    low, high = right_by_chance(expected.tolist())
    shares = (rng.random((4_000, 30)) < expected).mean(axis=1)
    assert ((low <= shares) & (shares <= high)).mean() >= 0.94
    assert ((low < shares) & (shares < high)).mean() < 0.95, "no wider than they must be"
