"""Other ways to forecast coverage than the law: from how many of the first samples solve each task, by name.

Each takes the same number of first samples of every task and says which share of the tasks any of `k` samples solves.
Those that know how likely a task without a solving sample is to be solved later add that to what is solved already.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from bot.evaluation.coverage import Counts
from bot.evaluation.estimates import powers, table
from bot.solver.ballot import Array

_gamma_ln = np.vectorize(math.lgamma, otypes=[float])
_A, _B = np.geomspace(0.01, 5, 36)[:, None], np.geomspace(0.1, 3000, 40)  # of beta distributions, a grid
_ZEROS = np.linspace(0.0, 0.9, 10)[:, None, None]  # share of tasks that no sample ever solves
_RATES = 60  # of the mixture, on a grid
_STEPS = 300  # of expectation and maximisation


def straight(first: Counts, k: int) -> float:
    """The line through the last two points of the coverage, over the logarithm of the samples."""
    ks = powers(first[0][0])[-2:]
    low, high = table(first, ks).mean(axis=0)
    slope = (high - low) / (math.log(ks[1]) - math.log(ks[0]))
    return min(1.0, float(high + slope * (math.log(k) - math.log(ks[1]))))


def _beta_ln(a: Array, b: Array) -> Array:
    return np.asarray(_gamma_ln(a) + _gamma_ln(b) - _gamma_ln(a + b))


@functools.cache
def _likelihoods(samples: int) -> Array:
    """Logarithm of the chance that c of the samples solve, but for its binomial coefficient, `[c, a, b]`."""
    return np.stack([_beta_ln(_A + c, _B + samples - c) - _beta_ln(_A, _B) for c in range(samples + 1)])


@functools.cache
def _never(samples: int, k: int) -> Array:
    """Chance that a task that none of the samples solves is solved by none of k either, `[a, b]`."""
    return np.asarray(np.exp(_beta_ln(_A, _B + k) - _beta_ln(_A, _B + samples)))


def _solving(first: Counts) -> tuple[int, Array, float]:
    """The samples of a task; tasks by how many of these solve them, `[samples + 1]`; the share that is solved."""
    samples = first[0][0]
    tasks = np.bincount([solving for _, solving in first], minlength=samples + 1).astype(float)
    return samples, tasks, float(1 - tasks[0] / tasks.sum())


def beta(first: Counts, k: int) -> float:
    """Rates of a beta distribution, the likeliest."""
    samples, tasks, solved = _solving(first)
    fit = np.tensordot(tasks, _likelihoods(samples), 1)
    return solved + (1 - solved) * (1 - float(_never(samples, k).flat[fit.argmax()]))


def beta_with_zeros(first: Counts, k: int) -> float:
    """The same where a share of the tasks is never solved (Kazdan et al., arXiv 2510.05197, and zeros beside it)."""
    samples, tasks, solved = _solving(first)
    chances = _likelihoods(samples)
    none = (1 - _ZEROS) * np.exp(chances[0])
    fit = tasks[0] * np.log(_ZEROS + none) + tasks[1:].sum() * np.log1p(-_ZEROS)
    fit = fit + np.tensordot(tasks[1:], chances[1:], 1)
    later = none / (_ZEROS + none) * (1 - _never(samples, k))
    return solved + (1 - solved) * float(later.flat[fit.argmax()])


def mixture(first: Counts, k: int) -> float:
    """Any distribution of rates, the likeliest (Kiefer and Wolfowitz 1956), by expectation and maximisation."""
    samples, tasks, solved = _solving(first)
    rates = np.concatenate([[0.0], np.geomspace(0.1 / samples, 0.999, _RATES)])
    c = np.arange(samples + 1)[:, None]
    chances = rates**c * (1 - rates) ** (samples - c)
    chances /= chances.max(axis=1, keepdims=True)
    weights = np.full(len(rates), 1 / len(rates))
    for _ in range(_STEPS):
        shares = chances * weights
        weights = tasks @ (shares / shares.sum(axis=1, keepdims=True)) / tasks.sum()
    of_none = chances[0] * weights / (chances[0] @ weights)
    return solved + (1 - solved) * float(of_none @ (1 - (1 - rates) ** (k - samples)))


def good_toulmin(first: Counts, k: int) -> float:
    """Unseen species (Good and Toulmin 1956), smoothed beyond a doubling (Orlitsky et al. 2016), between what is solved
    and all."""
    samples, tasks, solved = _solving(first)
    times = (k - samples) / samples
    tails = np.ones(samples)  # the chance that a binomial number is at least 1, 2, ...
    if times > 1:
        most = max(1, int(0.5 * math.log2(samples * times**2 / (times - 1))))
        p = 2 / (2 + times)
        each = [math.comb(most, j) * p**j * (1 - p) ** (most - j) for j in range(most + 1)]
        tails = np.array([sum(each[i:]) for i in range(1, samples + 1)])
    new = -float(np.sum((-times) ** np.arange(1.0, samples + 1) * tails * tasks[1:]))
    return min(1.0, max(solved, solved + new / float(tasks.sum())))


def chao(first: Counts, k: int) -> float:
    """Unseen species by those seen once and twice (Chao 1984), and how fast they turn up (Chao et al. 2009)."""
    samples, tasks, solved = _solving(first)
    once, twice = tasks[1], tasks[2]
    unseen = min(float(tasks[0]), once * (once - 1) / (2 * (twice + 1)))
    if unseen <= 0:
        return solved
    rate = once / (samples * unseen + once)
    return float(solved + unseen * (1 - (1 - rate) ** (k - samples)) / tasks.sum())


WAYS: dict[str, Callable[[Counts, int], float]] = {
    "line": straight,
    "beta": beta,
    "beta with zeros": beta_with_zeros,
    "mixture": mixture,
    "Good-Toulmin": good_toulmin,
    "Chao": chao,
}
