import numpy as np
import pytest

from bot.evaluation.selectors import read_matrices
from tests.bench import bench_forecast as bench
from tests.bench.forecast_ways import WAYS, straight
from tests.bench.test_bench_selection import ROWS


def test_samples_are_drawn_once_each() -> None:
    known = [bench.counts_of(task) for task in read_matrices(ROWS)]
    every = min(samples for samples, _ in known)
    first = bench.drawn(known, every, np.random.default_rng(0))
    assert [samples for samples, _ in first] == [every] * len(known)
    assert all(got == solving for (_, got), (samples, solving) in zip(first, known, strict=True) if samples == every)
    many = [bench.drawn([(10, 4)], 5, np.random.default_rng(seed))[0][1] for seed in range(400)]
    assert set(many) == {0, 1, 2, 3, 4}
    assert np.mean(many) == pytest.approx(2.0, abs=0.15)


def test_where_nothing_is_solved_nothing_is_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench.measure([(200, 0), (200, 0)], 3)
    assert found == {"tasks": 2, "samples": 200, "coverage": 0.0}
    bench.show(found)
    assert "200 samples cover 0.0 %" in capsys.readouterr().out


def test_what_evaluations_reported_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench.reported(3)["reported"]
    assert found
    for figures in found.values():
        assert abs(figures["100 samples"]["law"]["mean"]) < 0.5


def test_a_line_goes_on_as_its_last_points_do() -> None:
    counts = [(4, 4), (4, 1), (4, 0), (4, 0)]  # coverage at 2 and 4: 0.375 and 0.5
    assert straight(counts, 8) == pytest.approx(0.625)
    assert straight(counts, 10**6) == 1.0


@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"line"}))
def test_other_ways_are_right_where_what_they_assume_holds(way: str) -> None:
    rng = np.random.default_rng(0)
    rates = np.where(rng.random(4000) < 0.3, 0.0, rng.beta(0.5, 4.0, 4000))
    rates = rng.choice([0.05, 0.5], 4000) if way in ("mixture", "Chao") else rates  # Chao's: all unseen are alike
    rates = rng.beta(0.5, 4.0, 4000) if way == "beta" else rates
    counts = [(20, int(solving)) for solving in rng.binomial(20, rates)]
    assert WAYS[way](counts, 40) == pytest.approx(float(np.mean(1 - (1 - rates) ** 40)), abs=0.02)
    solved = float(np.mean([solving > 0 for _, solving in counts]))
    assert solved <= WAYS[way](counts, 400) <= 1
