import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.evaluation.selectors import (
    METHODS,
    Matrix,
    b4,
    behaviours,
    by_majority,
    by_votes,
    our_choice,
    read_matrices,
    recorded,
)

UNKNOWN = (
    "log-probability",
    "reward model",
    "ours, by tests alone",
    "ours, of what breaks nothing",
)  # what they ask for is not in most


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
    for m in (
        matrix([""], [3], [True]),
        matrix(["", ""], [1, 2], [True, False]),
        matrix(["1"], [1], [True]),
        matrix(["00", "00"], [1, 3], [False, True]),
        matrix(["10", "01", "11"], [1, 1, 1], [False, False, True]),
    ):
        for name, method in METHODS.items():
            assert 0.0 <= method(m) <= 1.0 or (name in UNKNOWN and math.isnan(method(m)))


def test_the_likeliest_sample_is_chosen_and_equal_ones_are_drawn_from():
    found = recorded(row(logprobs=[-0.9, -0.2, -0.5, -0.8]))
    assert found.matrix.logprobs is not None
    assert found.matrix.logprobs.tolist() == [-0.9, -0.2, -0.8]
    assert METHODS["log-probability"](found.matrix) == 0.0
    assert METHODS["log-probability"](recorded(row(logprobs=[-0.2, -0.2, -0.5, -0.8])).matrix) == 0.5
    assert recorded(row(logprobs=[-0.9, None, -0.5, -0.8])).matrix.logprobs is None, "one is not known"
    part, _ = found.part(np.array([0, 1]), np.array([0]))
    assert part.logprobs is None, "which samples were drawn is not known"
    assert recorded(row(logprobs=[-0.9, math.nan, -0.5, -0.8])).matrix.logprobs is None, "one is no number"
    assert recorded(row(rewards=[0.1, math.nan, 0.5])).matrix.rewards is None
    assert METHODS["reward model"](recorded(row(rewards=[0.9, 0.1, 0.5])).matrix) == 1.0


def test_tasks_without_a_candidate_are_left_out():
    assert read_matrices([json.dumps(row(samples=[], candidates=[]))]) == []


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Lengths are all different, so that no choice is a matter of order."""
    candidates, tests = draw(st.integers(1, 7)), draw(st.integers(0, 6))
    bits = st.lists(st.booleans(), min_size=tests, max_size=tests)
    return Matrix(
        passes=np.array([draw(bits) for _ in range(candidates)], dtype=float).reshape(candidates, tests),
        voting=np.array(draw(bits), dtype=np.bool_),
        samples=np.array(draw(st.lists(st.integers(1, 9), min_size=candidates, max_size=candidates)), dtype=float),
        sizes=np.array(
            draw(st.lists(st.integers(1, 900), min_size=candidates, max_size=candidates, unique=True)), dtype=float
        ),
        solves=np.array(draw(st.lists(st.booleans(), min_size=candidates, max_size=candidates)), dtype=np.bool_),
        breaks=np.array(draw(st.lists(st.booleans(), min_size=candidates, max_size=candidates)), dtype=np.bool_),
    )


def changed(m: Matrix, rows: list[int], columns: list[int]) -> Matrix:
    passes = m.passes[rows][:, columns].reshape(len(rows), len(columns))
    breaks = None if m.breaks is None else m.breaks[rows]
    return Matrix(passes, m.voting[columns], m.samples[rows], m.sizes[rows], m.solves[rows], breaks=breaks)


@settings(max_examples=60, deadline=None)
@given(matrices(), st.randoms(use_true_random=False))
def test_no_way_of_choosing_looks_at_the_order(m: Matrix, rng) -> None:
    rows, columns = (rng.sample(range(n), n) for n in m.passes.shape)
    other = changed(m, rows, columns)
    assert rows[our_choice(other)] == our_choice(m)
    for name, method in METHODS.items():
        assert method(other) == pytest.approx(method(m), nan_ok=name in UNKNOWN)


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_all_tests_twice_and_a_test_that_all_pass_and_that_does_not_vote_change_nothing(m: Matrix) -> None:
    everything = list(range(len(m.samples)))
    columns = list(range(len(m.voting)))
    assert our_choice(changed(m, everything, columns * 2)) == our_choice(m)
    passed = Matrix(
        np.column_stack([m.passes, np.ones(len(everything))]), np.append(m.voting, False), m.samples, m.sizes, m.solves
    )
    assert our_choice(passed) == our_choice(m)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5))
def test_copies_with_tests_of_their_own_win_only_where_they_are_more(
    copies: int, theirs: int, honest: int, tests: int, spread: int
) -> None:
    """A model that writes one wrong behaviour again and again, with tests that speak for it and against all others."""
    rows = ["1" * theirs + "0" * tests, *["0" * theirs + "1" * tests] * spread]
    m = matrix(rows, [copies, *[honest] * spread], [False, *[True] * spread])
    right = bool(m.solves[our_choice(m)])
    if honest * spread > copies and tests > theirs:
        assert right
    if honest * spread < copies and tests < theirs:
        assert not right


def test_a_thousand_samples_of_one_patch_are_as_one_candidate_of_a_thousand():
    rows = ["110"] * 1_000 + ["011"] * 900
    many = matrix(rows, [1] * 1_900, [True] * 1_000 + [False] * 900)
    few = matrix(["110", "011"], [1_000, 900], [True, False])
    assert many.solves[our_choice(many)] == few.solves[our_choice(few)]
