"""How well the law of a few samples forecasts the coverage of many, on recorded samples.

python -m tests.bench.bench_forecast [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`, and what `troop eval run` reported (`tests/bench/coverage`). Of each task some
samples are drawn, the law of Large Language Monkeys is fitted to their coverage as `troop eval` does, and what it says
of all samples is held against what they solve, beside other ways to say it (`tests.bench.forecast_ways`). Errors are
relative.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bot.evaluation.coverage import Counts
from bot.evaluation.estimates import check_forecast, table
from bot.evaluation.figures import Figures
from bot.evaluation.selectors import Recorded
from tests.bench.bench_selection import replay
from tests.bench.forecast_ways import WAYS

FIRST = (5, 10, 20, 50, 100)  # samples of each task
REPORTS = Path(__file__).parent / "coverage"  # `report.json` of evaluations, by name
DRAWS = 200
MANY = 8  # tasks like each, to tell the law's error from that of few tasks


def counts_of(task: Recorded) -> tuple[int, int]:
    """Samples of a recorded task, and how many solve it."""
    return len(task.candidate), int(task.matrix.solves[task.candidate].sum())


def drawn(counts: Counts, number: int, rng: np.random.Generator) -> Counts:
    """So many samples of each task, drawn without replacement, and how many of them solve it."""
    return [(number, int(rng.hypergeometric(solving, samples - solving, number))) for samples, solving in counts]


def measure(known: Counts, draws: int) -> dict[str, Any]:
    """Errors by the number of first samples: the mean of their size, what nine of ten stay below, their mean."""
    samples = min(number for number, _ in known)
    measured = float(table(known, [samples]).mean())
    figures: dict[str, Any] = {"tasks": len(known), "samples": samples, "coverage": measured}
    rng = np.random.default_rng(0)
    for number in [number for number in FIRST if number < samples]:
        errors: dict[str, list[float]] = {"law": [], **{way: [] for way in WAYS}}
        for _ in range(draws):
            first = drawn(known, number, rng)
            if (found := check_forecast(first, samples, measured)) is not None:
                errors["law"].append(found.error)
                for way, forecast in WAYS.items():
                    errors[way].append(forecast(first, samples) / measured - 1)
        if not errors["law"]:  # no draw has a solving sample
            continue
        figures[f"{number} samples"] = {
            way: {
                "size": float(np.mean(np.abs(found))),
                "nine of ten below": float(np.quantile(np.abs(found), 0.9)),
                "mean": float(np.mean(found)),
                "share of draws": len(found) / draws,  # others have too few solving samples for a law
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
                f"    {way:15} of {number:3} samples: off by {100 * row['size']:4.1f} % on the average, nine of ten by "
                f"less than {100 * row['nine of ten below']:4.1f} %, mean {100 * row['mean']:+5.1f} %"
            )


def reported(draws: int = DRAWS) -> dict[str, Any]:
    """The same of what evaluations reported."""
    figures = {}
    for path in sorted(REPORTS.glob("*.json")):
        report = Figures.model_validate_json(path.read_text())
        counts = [(task.samples, task.solving) for task in report.tasks]
        for name, known in ((path.name, counts), (f"{path.name}, {MANY} of each task", counts * MANY)):
            print(f"{name}: ", end="")
            figures[name] = measure(known, draws)
            show(figures[name])
    return {"reported": figures}


def main() -> int:
    return replay(
        __doc__ or "",
        lambda tasks, quick: measure([counts_of(task) for task in tasks], 20 if quick else DRAWS),
        show,
        reported,
    )


if __name__ == "__main__":
    raise SystemExit(main())
