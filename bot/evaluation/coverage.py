"""Coverage: the share of issues that any of k samples solves, its law, and the budget that follows from it. Pure.

After Large Language Monkeys (arXiv 2407.21787): the unbiased estimator of pass@k (Chen et al., arXiv 2107.03374) and
the exponentiated power law, log coverage = a * k ** b.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Counts = Sequence[tuple[int, int]]  # of each issue: samples drawn, samples that solve it


def pass_at_k(samples: int, solving: int, k: int) -> float:
    """The chance that k of the samples, drawn without replacement, hold a solving one: 1 - C(n-c, k) / C(n, k).

    As a product of small terms, so that nothing overflows. Raises `ValueError` where there are fewer than k samples:
    then it can't be estimated without bias.
    """
    if not 0 <= solving <= samples:
        raise ValueError(f"{solving} of {samples} samples can't solve anything")
    if not 0 < k <= samples:
        raise ValueError(f"k must be from 1 to the {samples} samples, not {k}")
    if samples - solving < k:
        return 1.0
    misses = np.arange(samples - solving + 1, samples + 1)
    return float(1.0 - np.prod(1.0 - k / misses))


def coverage(counts: Counts, k: int) -> float:
    """Mean of `pass_at_k` over the issues. Raises `ValueError` without any."""
    if not counts:
        raise ValueError("coverage needs at least one issue")
    return float(np.mean([pass_at_k(samples, solving, k) for samples, solving in counts]))


@dataclass(frozen=True)
class PowerLaw:
    """coverage(k) = exp(a * k ** b), with a below 0; b below 0 where more samples help."""

    a: float
    b: float

    def __call__(self, k: float) -> float:
        return math.exp(self.a * k**self.b)


def fit(points: Sequence[tuple[int, float]]) -> PowerLaw | None:
    """The law through (k, coverage) points, by least squares of log(-log coverage) over log k.

    In these coordinates it is a straight line. Coverage of exactly 0 or 1 has no logarithm there and is left out; None
    where fewer than two different k remain.
    """
    usable = [(math.log(k), math.log(-math.log(c))) for k, c in points if k > 0 and 0.0 < c < 1.0]
    if len({x for x, _ in usable}) < 2:
        return None
    x, y = np.array(usable).T
    b, intercept = np.polyfit(x, y, 1)
    return PowerLaw(a=-math.exp(float(intercept)), b=float(b))


def budget_for(target: float, law: PowerLaw, most: int = 1_000_000) -> int | None:
    """The fewest samples that reach the coverage by the law; None where not even `most` do.

    Raises `ValueError` for a target outside (0, 1).
    """
    if not 0.0 < target < 1.0:
        raise ValueError(f"the target must lie between 0 and 1, not {target}")
    if law(1) >= target:
        return 1
    if law.b >= 0:
        return None
    exponent = math.log(math.log(target) / law.a) / law.b  # log k
    if exponent > math.log(most) + 1e-9:
        return None
    k = max(1, math.floor(math.exp(exponent)))
    while law(k) < target:  # rounding
        k += 1
    return k if k <= most else None
