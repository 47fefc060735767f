import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.evaluation.coverage import PowerLaw, budget_for, coverage, fit, pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_against_every_possible_draw(n: int) -> None:
    for c in range(n + 1):
        solves = [i < c for i in range(n)]
        for k in range(1, n + 1):
            draws = list(itertools.combinations(solves, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_against_the_definition_in_whole_numbers(ncks: tuple[int, int, int]) -> None:
    n, c, k = ncks
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert pass_at_k(n, c, k) == pytest.approx(exact, abs=1e-9)


def test_many_samples_neither_overflow_nor_vanish() -> None:
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert pass_at_k(1_000_000, 10, 1) == pytest.approx(1e-5)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0), (0, 0, 1)])
def test_what_can_not_be_estimated_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)
    with pytest.raises(ValueError):
        coverage([], 1)


def test_coverage_is_the_mean_over_issues() -> None:
    assert coverage([(4, 0), (4, 4), (4, 1)], 1) == pytest.approx((0 + 1 + 0.25) / 3)


@given(st.floats(-5, -0.05), st.floats(-1.5, -0.05))
def test_the_fit_finds_the_law_that_made_the_points(a: float, b: float) -> None:
    law = PowerLaw(a, b)
    found = fit([(k, law(k)) for k in (1, 2, 4, 8, 16, 32, 64)])
    assert found is not None
    assert (found.a, found.b) == (pytest.approx(a, rel=1e-4), pytest.approx(b, rel=1e-4))


def test_points_without_a_place_on_the_law_are_left_out() -> None:
    law = PowerLaw(-2.0, -0.5)
    found = fit([(1, law(1)), (4, law(4)), (16, 1.0), (2, 0.0)])
    assert found is not None
    assert found.b == pytest.approx(-0.5)
    assert fit([(1, 0.5)]) is None
    assert fit([(1, 0.0), (4, 1.0)]) is None


@given(st.floats(-5, -0.05), st.floats(-1.5, -0.2), st.floats(0.05, 0.95))
def test_the_budget_is_the_fewest_samples_that_reach_the_target(a: float, b: float, target: float) -> None:
    law = PowerLaw(a, b)
    k = budget_for(target, law)
    if k is None:
        assert law(1_000_000) < target
    else:
        assert law(k) >= target
        assert k == 1 or law(k - 1) < target


def test_a_budget_that_no_number_reaches() -> None:
    assert budget_for(0.9, PowerLaw(-2.0, 0.0)) is None
    assert budget_for(0.9, PowerLaw(-2.0, -0.0001)) is None
    assert budget_for(0.1, PowerLaw(-2.0, 0.0)) == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        budget_for(1.0, PowerLaw(-1.0, -1.0))
