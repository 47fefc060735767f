"""How well the law of a few samples forecasts the coverage of many, on recorded samples.

python -m tests.bench.bench_forecast [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`. Of each task some samples are drawn, the law of Large Language Monkeys is fitted
to their coverage as `troop eval` does, and what it says of all samples is held against what they solve. Baseline: the
line through the last two points of the same coverage, over the logarithm of the samples. Errors are relative.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bot.evaluation.coverage import Counts
from bot.evaluation.estimates import check_forecast, powers, table
from bot.evaluation.selectors import Recorded
from tests.bench.bench_selection import replay

FIRST = (5, 10, 20, 50)  # samples of each task


def drawn(tasks: Sequence[Recorded], samples: int, rng: np.random.Generator) -> Counts:
    """Samples and solving samples of each task."""
    parts = [rng.choice(task.candidate, samples, replace=False) for task in tasks]
    return [(samples, int(task.matrix.solves[part].sum())) for task, part in zip(tasks, parts, strict=True)]


def straight(first: Counts, k: int) -> float:
    """The line through the last two points."""
    ks = powers(first[0][0])[-2:]
    low, high = table(first, ks).mean(axis=0)
    slope = (high - low) / (math.log(ks[1]) - math.log(ks[0]))
    return min(1.0, float(high + slope * (math.log(k) - math.log(ks[1]))))


def measure(tasks: Sequence[Recorded], draws: int) -> dict[str, Any]:
    """Errors by the number of first samples: the mean of their size, what nine of ten stay below, their mean."""
    samples = min(len(task.candidate) for task in tasks)
    known = [(len(task.candidate), int(task.matrix.solves[task.candidate].sum())) for task in tasks]
    measured = float(table(known, [samples]).mean())
    figures: dict[str, Any] = {"tasks": len(tasks), "samples": samples, "coverage": measured}
    rng = np.random.default_rng(0)
    for number in [number for number in FIRST if number < samples]:
        errors: dict[str, list[float]] = {"law": [], "line": []}
        for _ in range(draws):
            first = drawn(tasks, number, rng)
            if (found := check_forecast(first, samples, measured)) is not None:
                errors["law"].append(found.error)
                errors["line"].append(straight(first, samples) / measured - 1)
        figures[f"{number} samples"] = {
            way: {
                "size": float(np.mean(np.abs(found))),
                "nine of ten below": float(np.quantile(np.abs(found), 0.9)),
                "mean": float(np.mean(found)),
            }
            for way, found in errors.items()
        }
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found."""
    print(f"{figures['tasks']} tasks; {figures['samples']} samples cover {100 * figures['coverage']:.1f} %")
    for number in FIRST:
        for way, row in figures.get(f"{number} samples", {}).items():
            print(
                f"    {way} of {number:3} samples: off by {100 * row['size']:4.1f} % on the average, nine of ten by "
                f"less than {100 * row['nine of ten below']:4.1f} %, mean {100 * row['mean']:+5.1f} %"
            )


def main() -> int:
    return replay(__doc__ or "", lambda tasks, quick: measure(tasks, draws=20 if quick else 200), show)


if __name__ == "__main__":
    raise SystemExit(main())
