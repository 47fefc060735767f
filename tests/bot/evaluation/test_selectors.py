import json
import math
from typing import Any

import numpy as np
import pytest

from bot.evaluation.selectors import METHODS, Matrix, b4, behaviours, by_majority, by_votes, read_matrices, recorded


def row(**changes: Any) -> dict[str, Any]:
    return {
        "task": "t",
        "samples": [0, 1, 1, 2],
        "candidates": [
            {"size": 10, "passes": "110", "solves": True},
            {"size": 20, "passes": "100", "solves": False},
            {"size": 30, "passes": "111", "solves": False},
        ],
        "test_copies": [1, 2, 1],
        "passes_on_stub": "001",
        **changes,
    }


def matrix(passes: list[str], samples: list[int], solves: list[bool]) -> Matrix:
    return Matrix(
        passes=np.array([[float(c) for c in line] for line in passes]),
        voting=np.ones(len(passes[0]), dtype=np.bool_),
        samples=np.array(samples, dtype=float),
        sizes=np.full(len(passes), 10.0),
        solves=np.array(solves),
    )


def test_a_row_becomes_a_matrix():
    found = recorded(row())
    assert found.matrix.samples.tolist() == [1, 2, 1]
    assert found.matrix.voting.tolist() == [True, True, False]  # what passes without a body votes for nobody
    assert found.matrix.votes.tolist() == [2, 1, 2]
    assert found.test.tolist() == [0, 1, 1, 2]


def test_tasks_without_tests_are_left_out():
    lines = [json.dumps(row()), json.dumps(row(test_copies=[], passes_on_stub=""))]
    assert len(read_matrices(lines)) == 1


def test_a_drawn_matrix_has_what_was_drawn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        small = recorded(row()).draw(2, 2, rng)
        assert small.samples.sum() == 2
        assert small.passes.shape == (len(small.samples), len(small.voting))
        assert 1 <= len(small.voting) <= 2
    assert recorded(row()).draw(99, 99, rng).samples.sum() == 4


def test_the_majority_is_of_behaviours_and_drawn_by_samples():
    m = matrix(["10", "10", "11"], [1, 2, 2], [True, False, True])
    assert behaviours(m)[1].tolist() == [3, 3, 2]
    assert by_majority(m) == pytest.approx(1 / 3)


def test_ties_are_an_even_draw():
    assert by_votes(matrix(["10", "01"], [5, 1], [True, False])) == 0.5


def direct_b4(passes: np.ndarray, chosen: int) -> float:
    """B4's posterior of one sample's cluster, from its definition: a likelihood for each cell, integrated by sums."""
    alike = (passes == passes[chosen]).all(axis=1)
    right = passes[chosen] == 1
    cells = passes[~alike]

    def beta(successes: float, failures: float) -> float:
        return math.lgamma(successes + 1) + math.lgamma(failures + 1) - math.lgamma(successes + failures + 2)

    return (
        beta(cells[:, right].sum(), (1 - cells[:, right]).sum())
        + beta(cells[:, ~right].sum(), (1 - cells[:, ~right]).sum())
        + beta(alike.sum(), (~alike).sum())
        + beta(right.sum(), (~right).sum())
    )


def test_b4_is_its_definition_on_every_sample():
    rng = np.random.default_rng(2)
    for _ in range(30):
        passes = (rng.random((6, 4)) < 0.5).astype(float)
        m = matrix(["".join(str(int(c)) for c in line) for line in passes], [1] * 6, [True] * 6)
        found = b4(m)
        for i in range(6):
            if passes[i].any():
                assert found[i] == pytest.approx(direct_b4(passes, i))
            elif passes.any():
                assert found[i] == -np.inf


def test_repeated_samples_count_as_often_in_b4():
    once = matrix(["110", "110", "001"], [1, 1, 1], [True] * 3)
    twice = matrix(["110", "001"], [2, 1], [True] * 2)
    assert b4(once)[[0, 2]] == pytest.approx(b4(twice))


def test_every_method_returns_a_chance_also_without_votes():
    unknown = ("log-probability", "reward model")  # what they ask for is not recorded here
    for m in (
        matrix(["1"], [1], [True]),
        matrix(["00", "00"], [1, 3], [False, True]),
        matrix(["10", "01", "11"], [1, 1, 1], [False, False, True]),
    ):
        for name, method in METHODS.items():
            assert 0.0 <= method(m) <= 1.0 or (name in unknown and math.isnan(method(m)))


def test_the_likeliest_sample_is_chosen_and_equal_ones_are_drawn_from():
    found = recorded(row(logprobs=[-0.9, -0.2, -0.5, -0.8]))
    assert found.matrix.logprobs is not None
    assert found.matrix.logprobs.tolist() == [-0.9, -0.2, -0.8]
    assert METHODS["log-probability"](found.matrix) == 0.0
    assert METHODS["log-probability"](recorded(row(logprobs=[-0.2, -0.2, -0.5, -0.8])).matrix) == 0.5
    assert recorded(row(logprobs=[-0.9, None, -0.5, -0.8])).matrix.logprobs is None, "one is not known"
    part, _ = found.part(np.array([0, 1]), np.array([0]))
    assert part.logprobs is None, "which samples were drawn is not known"
