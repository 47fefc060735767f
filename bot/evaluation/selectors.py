"""Ways of choosing one candidate from a vote matrix, ours among them, and how often each chooses right. Pure.

A matrix says which test passes on which candidate; `solves` is for scoring alone. Ties of all but ours count as an even
draw among the best.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bot.solver.ballot import ALIKE, LENGTH, SUPPORT, Array, agreement, order, scores, typical, weighed

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """One vote matrix, or a part of one."""

    passes: Array  # [candidates, tests], 1 where the test passes
    voting: Bools  # [tests]: fails on the base commit, or on a function without a body
    samples: Array  # [candidates], how many samples are this candidate
    sizes: Array  # [candidates], characters
    solves: Bools  # [candidates]
    logprobs: Array | None = None  # [candidates], of the likeliest of its samples, mean of its tokens; None: not known
    rewards: Array | None = None  # [candidates], of a reward model; None: not asked
    breaks: Bools | None = None  # [candidates], tests or documented examples of the repository; None: nobody looked
    answers: Integers | None = None  # [candidates, calls], equal numbers for equal answers; None: nobody asked

    @property
    def votes(self) -> Array:
        """`[candidates]`"""
        return np.asarray((self.passes * self.voting).sum(axis=1))


@dataclass(frozen=True)
class Recorded:
    """A matrix as it was recorded, from which smaller ones are drawn."""

    matrix: Matrix
    candidate: Integers  # [samples]: the candidate of each
    test: Integers  # [copies]: the test of each copy that was written

    def draw(self, samples: int, tests: int, rng: np.random.Generator) -> Matrix:
        """The matrix of so many samples and tests, drawn without replacement."""
        chosen = rng.choice(self.candidate, min(samples, len(self.candidate)), replace=False)
        return self.part(chosen, rng.choice(self.test, min(tests, len(self.test)), replace=False))[0]

    def part(self, samples: Integers, tests: Integers) -> tuple[Matrix, Integers]:
        """The matrix of samples, given by their candidates, and of tests; and which candidates its rows are."""
        whole = self.matrix
        which, count = np.unique(samples, return_counts=True)
        columns = np.unique(tests)
        part = Matrix(
            passes=whole.passes[np.ix_(which, columns)],
            voting=whole.voting[columns],
            samples=count.astype(float),
            sizes=whole.sizes[which],
            solves=whole.solves[which],
            rewards=None if whole.rewards is None else whole.rewards[which],
            breaks=None if whole.breaks is None else whole.breaks[which],
            answers=None if whole.answers is None else whole.answers[which],
        )
        return part, which


def recorded(row: Mapping[str, Any]) -> Recorded:
    """From a row of a file: `samples`, `candidates` with `size`, `passes` and `solves`, `test_copies`,
    `passes_on_stub`, and where they are known `logprobs` of the samples, `rewards` of the candidates, `breaks` and
    `answers` of each; outcomes are strings of 0 and 1, one a test.
    """
    samples = np.array(row["samples"], dtype=np.int64)
    candidates = row["candidates"]
    tests = len(row["test_copies"])
    passes = [[float(outcome) for outcome in candidate["passes"]] for candidate in candidates]
    matrix = Matrix(
        passes=np.array(passes, dtype=np.float64).reshape(len(candidates), tests),
        voting=np.array([outcome == "0" for outcome in row["passes_on_stub"]], dtype=np.bool_),
        samples=np.bincount(samples, minlength=len(candidates)).astype(float),
        sizes=np.array([candidate["size"] for candidate in candidates], dtype=float),
        solves=np.array([candidate["solves"] for candidate in candidates], dtype=np.bool_),
        rewards=_rewards(row.get("rewards")),
        breaks=np.array([c["breaks"] for c in candidates], dtype=np.bool_) if "breaks" in candidates[0] else None,
        answers=np.array([c["answers"] for c in candidates], dtype=np.int64) if "answers" in candidates[0] else None,
        logprobs=_likeliest(samples, row.get("logprobs") or (), len(candidates)),
    )
    return Recorded(matrix, samples, np.repeat(np.arange(tests), row["test_copies"]))


def _rewards(found: Sequence[float] | None) -> Array | None:
    """Of the candidates; None where one is not known."""
    rewards = None if found is None else np.array(found, dtype=np.float64)
    return None if rewards is None or np.isnan(rewards).any() else rewards


def _likeliest(samples: Integers, logprobs: Sequence[float | None], candidates: int) -> Array | None:
    known = [one for one in logprobs if one is not None and not math.isnan(one)]
    if not known or len(known) < len(samples):
        return None
    best = np.full(candidates, -np.inf)
    np.maximum.at(best, samples, np.array(known))
    return best


def read_matrices(lines: Sequence[str]) -> list[Recorded]:
    """The matrices of a JSON-lines file; tasks without a test or a candidate are left out: nothing is chosen there."""
    rows = (json.loads(line) for line in lines)
    return [recorded(row) for row in rows if row["test_copies"] and row["candidates"]]


def behaviours(matrix: Matrix) -> tuple[Integers, Array]:
    """Which candidates pass just the same tests, and how many samples do, both `[candidates]`."""
    _, behaviour = np.unique(matrix.passes, axis=0, return_inverse=True)
    behaviour = behaviour.reshape(len(matrix.samples)).astype(np.int64)
    return behaviour, np.bincount(behaviour, weights=matrix.samples)[behaviour].astype(float)


def even_draw(matrix: Matrix, key: Array) -> float:
    """The chance to solve with an even draw among the candidates with the highest key."""
    return float(matrix.solves[key >= key.max() - 1e-9].mean())


def by_random(matrix: Matrix) -> float:
    """Any sample."""
    return float((matrix.solves * matrix.samples).sum() / matrix.samples.sum())


def by_majority(matrix: Matrix) -> float:
    """A sample of the behaviour that most samples have; no test is asked whether it reproduces the bug."""
    _, cluster = behaviours(matrix)
    weights = matrix.samples * (cluster >= cluster.max() - 1e-9)
    return float((matrix.solves * weights).sum() / weights.sum())


def by_votes(matrix: Matrix) -> float:
    """The most tests that fail without a fix and pass."""
    return even_draw(matrix, matrix.votes)


def by_codet(matrix: Matrix) -> float:
    """CodeT (arXiv 2207.10397) as its authors released it: the root of the cluster's samples, times its votes."""
    return even_draw(matrix, np.sqrt(behaviours(matrix)[1]) * matrix.votes)


def by_b4(matrix: Matrix) -> float:
    """B4 (arXiv 2409.08692): the posterior of each cluster, with flat priors of all four rates."""
    return even_draw(matrix, b4(matrix))


def b4(matrix: Matrix) -> Array:
    """The logarithm of B4's posterior of a candidate's cluster, `[candidates]`.

    If a cluster is the correct one, the tests it passes are the correct ones. Then the other candidates pass correct
    tests at one rate and wrong tests at another, and there is a share of correct samples and one of correct tests;
    each of the four is integrated out over a flat prior, which leaves a beta function each.
    """
    passes = matrix.passes[:, matrix.voting]
    unique, cluster = np.unique(passes, axis=0, return_inverse=True)
    cluster = cluster.reshape(len(matrix.samples))
    n: Array = np.bincount(cluster, weights=matrix.samples).astype(float)  # [clusters]
    tests: Array = unique.sum(axis=1)  # [clusters], that each passes
    right = unique @ (unique.T @ n) - n * tests  # passes of others on the tests that the cluster passes
    wrong = (n * tests).sum() - n * tests - right  # passes of others on all other tests
    others: Array = n.sum() - n
    left: Array = passes.shape[1] - tests
    score = (
        _log_beta(right + 1, others * tests - right + 1)
        + _log_beta(wrong + 1, others * left - wrong + 1)
        + _log_beta(n + 1, others + 1)
        + _log_beta(tests + 1, left + 1)
    )
    return np.asarray(np.where(tests > 0, score, -np.inf)[cluster]) if tests.any() else np.zeros(len(cluster))


_log_gamma = np.vectorize(math.lgamma, otypes=[float])


def _log_beta(a: Array, b: Array) -> Array:
    return np.asarray(_log_gamma(a) + _log_gamma(b) - _log_gamma(np.add(a, b)))


def our_order(matrix: Matrix, alike: float = ALIKE, support: float = SUPPORT, length: float = LENGTH) -> list[int]:
    """The candidates as `bot.solver.ballot.count` ranks them by their votes."""
    behaviour, cluster = behaviours(matrix)
    voting = matrix.passes * matrix.voting
    distance = typical(matrix.sizes, matrix.samples, matrix.votes)
    score = weighed(
        scores(voting, matrix.samples, matrix.votes, alike=alike, support=support), distance, behaviour, length
    )
    return order(score, cluster, matrix.sizes, distance, behaviour, _agreed(matrix, behaviour))


def _agreed(matrix: Matrix, behaviour: Integers) -> Array | None:
    """How far the others of its behaviour answer as each candidate does; None where nobody asked."""
    if matrix.answers is None:
        return None
    agreed = np.zeros(len(behaviour))
    for one in range(int(behaviour.max()) + 1):
        which = np.flatnonzero(behaviour == one)
        agreed[which] = agreement(matrix.answers[which].tolist(), matrix.samples[which])
    return agreed


def our_choice(matrix: Matrix, alike: float = ALIKE, support: float = SUPPORT, length: float = LENGTH) -> int:
    """The candidate that is ranked first."""
    return our_order(matrix, alike, support, length)[0]


def by_ours(matrix: Matrix, alike: float = ALIKE, support: float = SUPPORT, length: float = LENGTH) -> float:
    """As the solver chooses."""
    return float(matrix.solves[our_choice(matrix, alike, support, length)])


def by_ours_untold(matrix: Matrix) -> float:
    """As the solver chose before it asked what no test asks."""
    return math.nan if matrix.answers is None else by_ours(replace(matrix, answers=None))


def our_unbroken_choice(matrix: Matrix) -> int | None:
    """The candidate that is ranked first of those that break nothing; None where each breaks something, or nobody
    looked."""
    if matrix.breaks is None:
        return None
    return next((i for i in our_order(matrix) if not matrix.breaks[i]), None)


def by_ours_unbroken(matrix: Matrix) -> float:
    """As the solver chooses where the repository's tests and documented examples are known."""
    chosen = our_unbroken_choice(matrix)
    return math.nan if matrix.breaks is None else 0.0 if chosen is None else float(matrix.solves[chosen])


def by_logprob(matrix: Matrix) -> float:
    """Best of n: the sample that the model itself finds likeliest, a token on average; no test is asked."""
    return math.nan if matrix.logprobs is None else even_draw(matrix, matrix.logprobs)


def by_reward(matrix: Matrix) -> float:
    """Best of n by a reward model."""
    return math.nan if matrix.rewards is None else even_draw(matrix, matrix.rewards)


def by_any(matrix: Matrix) -> float:
    """Whether there is anything to choose."""
    return float(matrix.solves.any())


def per_task(method: Callable[[Matrix], float], views: Sequence[Sequence[Matrix]]) -> Array:
    """Mean over each task's draws, `[tasks]`."""
    return np.array([np.mean([method(matrix) for matrix in draws]) for draws in views])


METHODS: dict[str, Callable[[Matrix], float]] = {
    "random": by_random,
    "log-probability": by_logprob,
    "reward model": by_reward,
    "majority": by_majority,
    "votes": by_votes,
    "CodeT": by_codet,
    "B4": by_b4,
    "ours": by_ours,
    "ours, by tests alone": by_ours_untold,
    "ours, of what breaks nothing": by_ours_unbroken,
    "coverage": by_any,
}
