import numpy as np
import pytest

from bot.evaluation.selectors import read_matrices
from tests.bench import bench_forecast as bench
from tests.bench.test_bench_selection import ROWS


def test_samples_are_drawn_once_each() -> None:
    tasks = read_matrices(ROWS)
    every = min(len(task.candidate) for task in tasks)
    counts = bench.drawn(tasks, every, np.random.default_rng(0))
    assert [samples for samples, _ in counts] == [every] * len(tasks)
    whole = [int(task.matrix.solves[task.candidate].sum()) for task in tasks]
    assert all(solving <= most for (_, solving), most in zip(counts, whole, strict=True))


def test_a_line_goes_on_as_its_last_points_do() -> None:
    counts = [(4, 4), (4, 1), (4, 0), (4, 0)]  # coverage at 2 and 4: 0.375 and 0.5
    assert bench.straight(counts, 8) == pytest.approx(0.625)
    assert bench.straight(counts, 10**6) == 1.0
