"""Coverage with its uncertainty, the fitted law, and what it forecasts. Pure.

Intervals are central 95 % ones of a bootstrap over tasks: they say how far another draw of tasks of this kind could
come out elsewhere. Curves and the law are those of Large Language Monkeys (arXiv 2407.21787).
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bot.evaluation.coverage import Counts, PowerLaw, budget_for, fit, pass_at_k
from bot.records import Record

Array = npt.NDArray[np.float64]

TARGETS = (0.5, 0.8, 0.9, 0.95)  # of coverage, for the budget
RESAMPLES = 1000
_HELD_BACK = 10  # the law is checked: fitted to a tenth of the samples, it forecasts the coverage of all
_LEAST = 2  # samples that a fit needs


class Interval(Record):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Point(Record):
    """Coverage at k samples, and what the law says there; None without a law."""

    k: int
    coverage: Interval
    law: float | None


class Budget(Record):
    """The fewest samples that reach a coverage by the law; None where a million do not."""

    target: float
    samples: int | None
    low: int | None  # None: no limit
    high: int | None


class Forecast(Record):
    """The law of the first samples, held against the coverage that all samples have."""

    fitted: int  # samples a task that the law was fitted to
    k: int
    forecast: float
    measured: float

    @property
    def error(self) -> float:
        """Relative to what was measured; not a number where that is 0."""
        return (self.forecast - self.measured) / self.measured if self.measured else math.nan


class Estimates(Record):
    """All figures of coverage."""

    tasks: int
    samples: int  # of the task with the fewest
    solved: int  # tasks that any sample solves
    curve: tuple[Point, ...]
    a: float | None  # of the law, log coverage = a * k ** b
    b: float | None
    residual: float | None  # root mean square of the law's error on the curve, in coverage
    budgets: tuple[Budget, ...] = ()
    forecast: Forecast | None = None


def powers(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


def table(counts: Counts, ks: Sequence[int]) -> Array:
    """pass@k of each task, `[tasks, ks]`."""
    return np.array([[pass_at_k(samples, solving, k) for k in ks] for samples, solving in counts])


def estimate(counts: Counts, first: Counts | None = None, *, seed: int = 0) -> Estimates | None:
    """The figures of a finished or unfinished evaluation; None where a task has no sample yet.

    `counts`: samples and solving samples of each task. `first`: the same of the first tenth of the samples
    (`held_back` says how many), for the check of the forecast.
    """
    samples = min((drawn for drawn, _ in counts), default=0)
    if samples == 0:
        return None
    ks = powers(samples)
    each = table(counts, ks)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(counts), (RESAMPLES, len(counts)))
    means = each[drawn].mean(axis=1)  # [resamples, ks]
    lows, highs = np.quantile(means, (0.025, 0.975), axis=0)
    curve = each.mean(axis=0)
    law = _law(ks, curve)
    points = tuple(
        Point(
            k=k,
            coverage=Interval(value=float(curve[i]), low=float(lows[i]), high=float(highs[i])),
            law=law(k) if law else None,
        )
        for i, k in enumerate(ks)
    )
    residual = math.sqrt(float(np.mean([(law(k) - c) ** 2 for k, c in zip(ks, curve, strict=True)]))) if law else None
    return Estimates(
        tasks=len(counts),
        samples=samples,
        solved=sum(solving > 0 for _, solving in counts),
        curve=points,
        a=law.a if law else None,
        b=law.b if law else None,
        residual=residual,
        budgets=_budgets(ks, law, means) if law else (),
        forecast=check_forecast(first, samples, float(curve[-1])) if first else None,
    )


def held_back(samples: int) -> int:
    """How many of the samples the law is fitted to, to check its forecast; 0 where they are too few."""
    return samples // _HELD_BACK if samples // _HELD_BACK >= _LEAST else 0


def _law(ks: Sequence[int], curve: Array) -> PowerLaw | None:
    return fit([(k, float(c)) for k, c in zip(ks, curve, strict=True)])


def _budgets(ks: Sequence[int], law: PowerLaw, means: Array) -> tuple[Budget, ...]:
    laws = [found for row in means if (found := _law(ks, row))]
    budgets = []
    for target in TARGETS:
        each = sorted(math.inf if (k := budget_for(target, one)) is None else k for one in laws)
        low, high = each[int(0.025 * (len(each) - 1))], each[math.ceil(0.975 * (len(each) - 1))]
        budgets.append(Budget(target=target, samples=budget_for(target, law), low=_finite(low), high=_finite(high)))
    return tuple(budgets)


def _finite(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def check_forecast(first: Counts, k: int, measured: float) -> Forecast | None:
    """The law of the first samples at k samples, where so much was measured; None where they have no law."""
    fitted = min(drawn for drawn, _ in first)
    if fitted < _LEAST:
        return None
    ks = powers(fitted)
    law = _law(ks, table(first, ks).mean(axis=0))
    return Forecast(fitted=fitted, k=k, forecast=law(k), measured=measured) if law else None


def shares(values: Array, *, seed: int = 0) -> Interval:
    """The mean of a value of each task, `[tasks]`, with its interval."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(value=float(values.mean()), low=float(low), high=float(high))
