"""What `bench_waves` found, in numbers: policies in pairs at equal tokens, and the cascade's cost of a right answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.evaluation.estimates import RESAMPLES, Interval, shares
from bot.solver.ballot import Array
from tests.bench.wave_policies import (
    CORRECTED,
    FRESH,
    PARTICLES,
    POLICIES,
    WAVES,
    Draws,
    Spent,
    Tried,
    alone,
    cascade,
    small_alone,
)
from tests.bench.wave_record import Attempt

PAIRS = ((CORRECTED, FRESH), (WAVES, FRESH), (WAVES, CORRECTED), (PARTICLES, CORRECTED), (PARTICLES, FRESH))
ORDERS = 200  # in which a round's replies may have come


@dataclass(frozen=True)
class Later:
    """One task: the first wave, and what each policy drew after it."""

    task: str
    first: tuple[Attempt, ...]
    tried: dict[str, Tried]


def paid(tried: Tried) -> list[Attempt]:
    """All replies after the first wave."""
    return [attempt for drawn in tried.rounds for attempt in drawn]


def within(tried: Tried, tokens: int, rng: np.random.Generator) -> tuple[float, float]:
    """With so many generated tokens: the chance that a reply solves the task, and the mean number that do."""
    found = []
    for _ in range(ORDERS):
        replies = [drawn[i] for drawn in tried.rounds for i in rng.permutation(len(drawn))]
        ends = np.cumsum([attempt.tokens for attempt in replies])
        right = sum(attempt.solves for attempt, end in zip(replies, ends, strict=True) if end <= tokens)
        found.append((right > 0, right))
    solved, right = np.mean(found, axis=0)
    return float(solved), float(right)


def compared(tasks: Sequence[Later], ours: str, theirs: str) -> dict[str, Any]:
    """The first policy less the second, in points: with the first wave, without it, and right replies a task."""
    rng = np.random.default_rng(0)
    rows = []
    for task in tasks:
        tokens = min(sum(attempt.tokens for attempt in paid(task.tried[name])) for name in (ours, theirs))
        (a, more), (b, fewer) = (within(task.tried[name], tokens, rng) for name in (ours, theirs))
        open_ = not any(attempt.solves for attempt in task.first)
        rows.append((100 * (a - b) * open_, 100 * (a - b), more - fewer))
    names = ("coverage", "coverage without the first wave", "right replies a task")
    return {name: _spread(shares(column)) for name, column in zip(names, np.array(rows).T, strict=True)}


def _spread(interval: Interval) -> dict[str, float]:
    return {name: round(getattr(interval, name), 3) for name in ("value", "low", "high")}


def wave_figures(tasks: Sequence[Later]) -> dict[str, Any]:
    """The first wave, each policy, and the pairs."""
    solved = np.array([any(attempt.solves for attempt in task.first) for task in tasks])
    first = [attempt for task in tasks for attempt in task.first]
    policies = {}
    for policy in POLICIES:
        later = [paid(task.tried[policy]) for task in tasks]
        replies = [attempt for drawn in later for attempt in drawn]
        right = np.array([any(attempt.solves for attempt in drawn) for drawn in later])
        policies[policy] = {
            "coverage": round(100 * float((solved | right).mean()), 1),
            "replies": len(replies),
            "right": sum(attempt.solves for attempt in replies),
            "tokens": sum(attempt.tokens for attempt in replies),
            "computed": sum(attempt.computed for attempt in replies),
        }
    return {
        "tasks": [task.task for task in tasks],
        "first wave": {
            "coverage": round(100 * float(solved.mean()), 1),
            "replies": len(first),
            "right": sum(attempt.solves for attempt in first),
            "pass the examples": sum(attempt.passes for attempt in first),
            "tokens": sum(attempt.tokens for attempt in first),
            "computed": sum(attempt.computed for attempt in first),
        },
        "policies": policies,
        "pairs": {f"{ours} - {theirs}": compared(tasks, ours, theirs) for ours, theirs in PAIRS},
    }


def cascade_figures(draws: Sequence[Draws], size: float) -> dict[str, Any]:
    """Each way of the cascade: share solved, cost, and cost of a right answer, in tokens of the strong model."""
    ways: dict[str, list[Spent]] = {
        "strong alone": [alone(one.strong) for one in draws],
        "small alone": [small_alone(one) for one in draws],
        "small, then strong": [cascade(one) for one in draws],
        "small judged, then strong": [cascade(one, judges=True) for one in draws],
        "small, repaired, then strong": [cascade(one, repairs=True) for one in draws],
    }
    solved = {name: np.array([spent.solves for spent in way], dtype=float) for name, way in ways.items()}
    costs = {name: np.array([spent.strong + size * spent.small for spent in way]) for name, way in ways.items()}
    base = "strong alone"
    return {
        "tasks": len(draws),
        "size": round(size, 3),
        "ways": {
            name: {
                "solved": round(100 * float(solved[name].mean()), 1),
                "cost": round(float(costs[name].mean()), 1),
                "cost of a right answer": _ratio(costs[name], solved[name]),
                "solved less strong alone": _spread(shares(100 * (solved[name] - solved[base]))),
                "cost less strong alone": _spread(shares(costs[name] - costs[base])),
            }
            for name in ways
        },
    }


def _ratio(costs: Array, solved: Array) -> dict[str, float | None]:
    """Cost over right answers (arXiv 2504.13359), with its interval over the tasks; None: no right answer."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(costs), (RESAMPLES, len(costs)))
    sums, rights = costs[drawn].sum(axis=1), solved[drawn].sum(axis=1)
    ratios = np.where(rights > 0, sums / np.maximum(rights, 1), np.inf)
    value = costs.sum() / solved.sum() if solved.sum() else np.inf
    low, high = np.quantile(ratios, (0.025, 0.975), method="nearest")
    names = (("value", value), ("low", low), ("high", high))
    return {name: round(float(number), 1) if np.isfinite(number) else None for name, number in names}


def summary(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `make bench`'s table."""
    rows = []
    if waves := figures.get("waves"):
        rate = {name: 1000 * row["right"] / max(1, row["tokens"]) for name, row in waves["policies"].items()}
        for ours, theirs in ((WAVES, FRESH), (PARTICLES, CORRECTED)):
            figure, baseline = f"{rate[ours]:.2f} right replies/1,000 tokens", f"{theirs}: {rate[theirs]:.2f}"
            rows.append((ours, figure, baseline, rate[ours] / rate[theirs] if rate[theirs] else 0.0))
    if found := figures.get("cascade"):
        cost = {name: row["cost"] / max(1e-9, row["solved"] / 100) for name, row in found["ways"].items()}
        ours, theirs = "small, then strong", "strong alone"
        figure, baseline = f"{cost[ours]:.0f} tokens/right answer", f"{theirs}: {cost[theirs]:.0f}"
        rows.append((f"cascade: {ours}", figure, baseline, cost[ours] / cost[theirs]))
    return [dict(zip(("name", "figure", "baseline", "ratio"), row, strict=True)) for row in rows]


def show(figures: dict[str, Any]) -> None:
    """Print all."""
    if waves := figures.get("waves"):
        print(f"{len(waves['tasks'])} of {figures['asked']['hard']} hard tasks; coverage in percent")
        for name, row in {"first wave": waves["first wave"], **waves["policies"]}.items():
            print(
                f"  {name:26s} {row['coverage']:5.1f}  {row['right']:4d} of {row['replies']:4d} replies right, "
                f"{row['tokens']:,} tokens generated, {row['computed']:,} of prompts computed"
            )
        print("at equal tokens, less (95 % interval)")
        for name, row in waves["pairs"].items():
            print(f"  {name:50s} {', '.join(f'{what} {_words(one)}' for what, one in row.items())}")
    if found := figures.get("cascade"):
        print(
            f"cascade on {found['tasks']} tasks; cost in tokens of the strong model, one of the small {found['size']}"
        )
        for name, row in found["ways"].items():
            print(
                f"  {name:30s} solved {row['solved']:5.1f} % ({_words(row['solved less strong alone'])}), "
                f"cost {row['cost']:6.1f} ({_words(row['cost less strong alone'])}), "
                f"of a right answer {_plain(row['cost of a right answer'])}"
            )


def _words(interval: dict[str, float]) -> str:
    return f"{interval['value']:+.2f} ({interval['low']:+.2f} to {interval['high']:+.2f})"


def _plain(interval: dict[str, float | None]) -> str:
    return " ".join(f"{name} {number}" for name, number in interval.items())
