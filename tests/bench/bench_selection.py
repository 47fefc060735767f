"""How often the count picks a solving candidate: random, plain votes, CodeT, B4 and ours, on recorded vote matrices.

python -m tests.bench.bench_selection [--data FOLDER_OR_FILE] [--quick] [--json FILE]

Without --data it reads the matrices in `tests/bench/matrices` (planted bugs: `make acceptance`, with and without a
MODEL; below `functions`: `troop eval run humaneval --tests N`) and a set that is not part of this repository. A file
holds one task a line, as JSON: `samples` (the candidate of each sample), `candidates` with `size`, `passes` (one 0/1 a
test) and `solves` (used for scoring only), `test_copies`, and `passes_on_stub` (one 0/1 a test). Tasks without a test
are left out. Where `breaks` says of each candidate whether it breaks tests or documented examples of the repository,
ours is shown without those, too, and how many winners would be published and right. Two sizes: everything, and 10
samples with 10 tests drawn 30 times. Ties of all but ours count as an even draw among the best.
"""

import argparse
import gzip
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.evaluation.selectors import (
    METHODS,
    Matrix,
    Recorded,
    by_ours,
    our_choice,
    our_unbroken_choice,
    per_task,
    read_matrices,
)
from bot.solver.ballot import ALIKE, LENGTH, SUPPORT, Array

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "TROOP_SELECTION_DATA"
DEFAULT = ROOT.parent / "shared" / "data" / "selection"
OWN = Path(__file__).parent / "matrices"  # of runs of the solver
FUNCTIONS = OWN / "functions"  # by `troop eval run humaneval --tests ...`
ANSWERS = OWN / "answers"  # by the same, with what each candidate answers to calls that no test makes
GRID = tuple(
    (alike, support, length)
    for alike in (2.0, 4.0, 8.0)
    for support in (0.4, 0.6, 0.8, 1.0)
    for length in (0, 0.5, 1, 2)
)
FOLDS = 10
RESAMPLES = 2000


def interval(values: Array, rng: np.random.Generator) -> tuple[float, float]:
    """The central 95 % of the mean over tasks drawn again, with replacement."""
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def cross_validated(sizes: Sequence[Sequence[Sequence[Matrix]]], rng: np.random.Generator) -> list[Array]:
    """For each size, what each task comes to with the constants that are best on the other folds, `[tasks]`."""
    table = np.array(  # [grid, sizes, tasks]
        [[per_task(lambda m, p=point: by_ours(m, *p), views) for views in sizes] for point in GRID]  # type: ignore[misc]
    )
    tasks = table.shape[2]
    fold = rng.permutation(tasks) % FOLDS
    out = [np.zeros(tasks) for _ in sizes]
    for f in range(FOLDS):
        best = int(table[:, :, fold != f].mean(axis=(1, 2)).argmax())
        for size in range(len(sizes)):
            out[size][fold == f] = table[best, size, fold == f]
    return out


def measure(tasks: Sequence[Recorded], draws: int, seed: int = 0) -> dict[str, Any]:
    """All figures, in percent of tasks."""
    rng = np.random.default_rng(seed)
    views = {
        "all samples and tests": [[task.matrix] for task in tasks],
        "10 samples, 10 tests": [[task.draw(10, 10, rng) for _ in range(draws)] for task in tasks],
    }
    validated = cross_validated(list(views.values()), rng)
    figures: dict[str, Any] = {"tasks": len(tasks), "draws": draws, "in use": [ALIKE, SUPPORT, LENGTH]}
    for (name, view), ours in zip(views.items(), validated, strict=True):
        known = {method: per_task(function, view) for method, function in METHODS.items()}
        solved = {method: values for method, values in known.items() if np.isfinite(values).all()}
        solved["ours, cross-validated"] = ours
        rows = {}
        for method, values in solved.items():
            low, high = interval(values, rng)
            rows[method] = {"mean": values.mean() * 100, "low": low * 100, "high": high * 100}
        for other in ("votes", "CodeT", "B4"):
            gain = ours - solved[other]
            low, high = interval(gain, rng)
            rows[f"gain over {other}, cross-validated"] = {
                "mean": gain.mean() * 100,
                "low": low * 100,
                "high": high * 100,
            }
        figures[name] = rows
    if all(task.matrix.breaks is not None for task in tasks):
        matrices = [task.matrix for task in tasks]
        figures["winners"] = {
            "by votes alone": winners(matrices, our_choice),
            "of what breaks nothing": winners(matrices, our_unbroken_choice),
        }
    return figures


def winners(matrices: Sequence[Matrix], choice: Callable[[Matrix], int | None]) -> tuple[int, int]:
    """How many of the chosen a test speaks for, so that they would be published, and how many of these are right."""
    chosen = [(matrix, choice(matrix)) for matrix in matrices]
    published = [(matrix, i) for matrix, i in chosen if i is not None and matrix.votes[i] > 0]
    return len(published), sum(bool(matrix.solves[i]) for matrix, i in published)


def find(path: Path) -> list[Path]:
    """The data files at a path: itself, or a folder's `*.jsonl` and `*.jsonl.gz`."""
    return sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path] * path.exists()


def lines_of(path: Path) -> list[str]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [line for line in text.decode().splitlines() if line.strip()]


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found."""
    print(f"{figures['tasks']} tasks; share solved in percent, with 95 % intervals over tasks")
    for size in ("all samples and tests", "10 samples, 10 tests"):
        print(f"  {size}")
        for name, row in figures[size].items():
            print(f"    {name:36s} {row['mean']:5.1f}  ({row['low']:.1f} to {row['high']:.1f})")
    for name, (number, right) in figures.get("winners", {}).items():
        print(f"  winners {name}: {number}, {right} right")


def replay(
    about: str,
    measure: Callable[[Sequence[Recorded], bool], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
    last: Callable[[], dict[str, Any]] = dict,
) -> int:
    """The command of a benchmark over recorded matrices; its exit status. `measure` gets the tasks, and `--quick`;
    `last` measures and prints what goes over several files.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help=f"folder or file; default: ${VARIABLE}, else {DEFAULT.name} beside us, and {OWN.name}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    path = arguments.data or Path(os.environ.get(VARIABLE, DEFAULT))
    files = find(path) + ([] if arguments.data else find(OWN) + find(FUNCTIONS) + find(ANSWERS))
    if not files:
        print(f"no vote matrices at {path}: nothing was measured. Give their folder with --data or ${VARIABLE}.")
        return 2 if arguments.data else 0
    figures = {}
    for file in files:
        tasks = read_matrices(lines_of(file))
        if not tasks:
            print(f"{file.name} holds no task with tests", file=sys.stderr)
            return 2
        figures[file.name] = measure(tasks, arguments.quick)
        print(f"{file.name}: ", end="")
        show(figures[file.name])
    found = {"figures": figures, **last()}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def main() -> int:
    return replay(__doc__ or "", lambda tasks, quick: measure(tasks, draws=5 if quick else 30), show)


if __name__ == "__main__":
    raise SystemExit(main())
