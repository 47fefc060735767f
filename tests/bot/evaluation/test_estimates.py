import math

import numpy as np
import pytest

from bot.evaluation.coverage import PowerLaw, coverage
from bot.evaluation.estimates import estimate, held_back, powers


def drawn(rates: np.ndarray, samples: int, seed: int = 0) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    return [(samples, int(rng.binomial(samples, rate))) for rate in rates]


RATES = np.random.default_rng(1).beta(0.3, 3.0, 200)  # many hard tasks, some easy ones


def test_nothing_is_estimated_before_each_task_has_a_sample():
    assert estimate([]) is None
    assert estimate([(3, 1), (0, 0)]) is None


def test_the_curve_is_the_unbiased_estimator_within_its_interval():
    counts = drawn(RATES, 64)
    found = estimate(counts)
    assert found is not None
    assert [point.k for point in found.curve] == powers(64) == [1, 2, 4, 8, 16, 32, 64]
    for point in found.curve:
        assert point.coverage.value == pytest.approx(coverage(counts, point.k))
        assert point.coverage.low < point.coverage.value < point.coverage.high
    assert found.solved == sum(solving > 0 for _, solving in counts)


def test_intervals_hold_the_true_coverage_about_as_often_as_they_say():
    true = 0.3 / 3.3  # the mean of the beta distribution
    held = 0
    for seed in range(30):
        rates = np.random.default_rng(100 + seed).beta(0.3, 3.0, 80)
        found = estimate(drawn(rates, 16, seed), seed=seed)
        assert found is not None
        held += found.curve[0].coverage.low <= true <= found.curve[0].coverage.high
    assert held >= 25


def test_the_law_is_found_again_and_its_budget_lies_in_its_interval():
    found = estimate(drawn(RATES, 64))
    assert found is not None
    assert found.a is not None
    assert found.b is not None
    assert found.residual is not None
    assert found.residual < 0.02
    law = PowerLaw(found.a, found.b)
    for budget in found.budgets:
        if budget.samples is None:
            continue
        assert law(budget.samples) >= budget.target
        assert budget.low is not None
        assert budget.low <= budget.samples
        assert budget.high is None or budget.samples <= budget.high


def test_the_forecast_is_held_against_what_was_drawn_later():
    samples = 200
    first = held_back(samples)
    assert first == 20
    rng = np.random.default_rng(3)
    outcomes = rng.random((len(RATES), samples)) < RATES[:, None]
    counts = [(samples, int(row.sum())) for row in outcomes]
    early = [(first, int(row[:first].sum())) for row in outcomes]
    found = estimate(counts, early)
    assert found is not None
    assert found.forecast is not None
    assert (found.forecast.fitted, found.forecast.k) == (20, 200)
    assert found.forecast.measured == pytest.approx(coverage(counts, 200))
    assert abs(found.forecast.error) < 0.1


@pytest.mark.parametrize("solving", [0, 8])
def test_all_or_nothing_has_no_law(solving: int):
    found = estimate([(8, solving)] * 5)
    assert found is not None
    assert found.a is None
    assert found.residual is None
    assert not found.budgets
    assert found.curve[-1].coverage.value == (solving > 0)


def test_uneven_samples_count_as_far_as_all_have_them():
    found = estimate([(8, 3), (5, 0)])
    assert found is not None
    assert found.samples == 5
    assert [point.k for point in found.curve] == [1, 2, 4, 5]


def test_few_samples_check_no_forecast():
    assert held_back(19) == 0
    found = estimate([(8, 3)], [(1, 0)])
    assert found is not None
    assert found.forecast is None


def test_a_forecast_of_nothing_has_no_error():
    from bot.evaluation.estimates import Forecast

    assert math.isnan(Forecast(fitted=2, k=20, forecast=0.1, measured=0.0).error)
