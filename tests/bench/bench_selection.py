"""How often the count picks a solving candidate: random, plain votes, CodeT and ours, on recorded vote matrices.

python -m tests.bench.bench_selection [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is not part of this repository. A file holds one task a line, as JSON: `samples` (the candidate of each
sample), `candidates` with `size`, `passes` (one 0/1 a test) and `solves` (used for scoring only), `test_copies`, and
`passes_on_stub` (one 0/1 a test). Tasks without a test are left out. Two sizes: everything, and 10 samples with 10
tests drawn 30 times. Ties of random, votes and CodeT count as an even draw among the best.
"""

import argparse
import gzip
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.solver.ballot import ALIKE, SUPPORT, Array, order, scores

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "TROOP_SELECTION_DATA"
DEFAULT = ROOT.parent / "shared" / "data" / "selection"
GRID = tuple((alike, support) for alike in (2.0, 4.0, 8.0, 32.0) for support in (0.4, 0.5, 0.6, 0.8, 1.0))
FOLDS = 10
RESAMPLES = 2000


@dataclass(frozen=True)
class Matrix:
    """One vote matrix, or a part of one."""

    passes: Array  # [candidates, tests]
    voting: np.ndarray  # [tests]: fails on the stub
    samples: Array  # [candidates]
    sizes: Array  # [candidates], characters
    solves: np.ndarray  # [candidates]

    @property
    def votes(self) -> Array:
        return np.asarray((self.passes * self.voting).sum(axis=1))


def read(lines: Iterable[str]) -> list[tuple[Matrix, np.ndarray, np.ndarray]]:
    """Each task with tests: its whole matrix, the candidate of each sample, the test of each copy."""
    tasks = []
    for line in lines:
        row: dict[str, Any] = json.loads(line)
        if not row["test_copies"]:
            continue
        samples = np.array(row["samples"], dtype=int)
        candidates = row["candidates"]
        matrix = Matrix(
            passes=np.array([[float(c) for c in candidate["passes"]] for candidate in candidates]),
            voting=np.array([c == "0" for c in row["passes_on_stub"]], dtype=bool),
            samples=np.bincount(samples, minlength=len(candidates)).astype(float),
            sizes=np.array([candidate["size"] for candidate in candidates], dtype=float),
            solves=np.array([candidate["solves"] for candidate in candidates], dtype=bool),
        )
        tasks.append((matrix, samples, np.repeat(np.arange(len(row["test_copies"])), row["test_copies"])))
    return tasks


def drawn(task: tuple[Matrix, np.ndarray, np.ndarray], k: int, t: int, rng: np.random.Generator) -> Matrix:
    """The matrix of k samples and t tests drawn without replacement."""
    matrix, samples, copies = task
    which, count = np.unique(rng.choice(samples, min(k, len(samples)), replace=False), return_counts=True)
    tests = np.unique(rng.choice(copies, min(t, len(copies)), replace=False))
    return Matrix(
        passes=matrix.passes[np.ix_(which, tests)],
        voting=matrix.voting[tests],
        samples=count.astype(float),
        sizes=matrix.sizes[which],
        solves=matrix.solves[which],
    )


def behaviours(matrix: Matrix) -> tuple[np.ndarray, Array]:
    """Which candidates pass just the same tests, and how many samples do, both `[candidates]`."""
    _, behaviour = np.unique(matrix.passes, axis=0, return_inverse=True)
    behaviour = behaviour.reshape(len(matrix.samples))
    return behaviour, np.bincount(behaviour, weights=matrix.samples)[behaviour]


def even_draw(matrix: Matrix, key: Array) -> float:
    """The chance to solve with an even draw among the candidates with the highest key."""
    return float(matrix.solves[key >= key.max() - 1e-9].mean())


def by_random(matrix: Matrix) -> float:
    return float((matrix.solves * matrix.samples).sum() / matrix.samples.sum())


def by_votes(matrix: Matrix) -> float:
    return even_draw(matrix, matrix.votes)


def by_codet(matrix: Matrix) -> float:
    """CodeT (arXiv 2207.10397) as its authors released it: the root of the cluster's samples, times its votes."""
    return even_draw(matrix, np.sqrt(behaviours(matrix)[1]) * matrix.votes)


def by_ours(matrix: Matrix, alike: float = ALIKE, support: float = SUPPORT) -> float:
    """As `bot.solver.ballot.count` ranks."""
    behaviour, cluster = behaviours(matrix)
    voting = matrix.passes * matrix.voting
    score = scores(voting, matrix.samples, matrix.votes, alike=alike, support=support)
    return float(matrix.solves[order(score, cluster, matrix.sizes, matrix.samples, behaviour)[0]])


def by_any(matrix: Matrix) -> float:
    return float(matrix.solves.any())


METHODS: dict[str, Callable[[Matrix], float]] = {
    "random": by_random,
    "votes": by_votes,
    "CodeT": by_codet,
    "ours": by_ours,
    "coverage": by_any,
}


def per_task(method: Callable[[Matrix], float], views: Sequence[Sequence[Matrix]]) -> Array:
    """Mean over each task's draws, `[tasks]`."""
    return np.array([np.mean([method(matrix) for matrix in draws]) for draws in views])


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


def measure(tasks: Sequence[tuple[Matrix, np.ndarray, np.ndarray]], draws: int, seed: int = 0) -> dict[str, Any]:
    """All figures, in percent of tasks."""
    rng = np.random.default_rng(seed)
    views = {
        "all samples and tests": [[matrix] for matrix, _, _ in tasks],
        "10 samples, 10 tests": [[drawn(task, 10, 10, rng) for _ in range(draws)] for task in tasks],
    }
    validated = cross_validated(list(views.values()), rng)
    figures: dict[str, Any] = {"tasks": len(tasks), "draws": draws, "alike": ALIKE, "support": SUPPORT}
    for (name, view), ours in zip(views.items(), validated, strict=True):
        solved = {method: per_task(function, view) for method, function in METHODS.items()}
        solved["ours, cross-validated"] = ours
        rows = {}
        for method, values in solved.items():
            low, high = interval(values, rng)
            rows[method] = {"mean": values.mean() * 100, "low": low * 100, "high": high * 100}
        for other in ("votes", "CodeT"):
            gain = ours - solved[other]
            low, high = interval(gain, rng)
            rows[f"gain over {other}, cross-validated"] = {
                "mean": gain.mean() * 100,
                "low": low * 100,
                "high": high * 100,
            }
        figures[name] = rows
    return figures


def find(path: Path) -> list[Path]:
    """The data files at a path: itself, or a folder's `*.jsonl` and `*.jsonl.gz`."""
    return sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path] * path.exists()


def lines_of(path: Path) -> list[str]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [line for line in text.decode().splitlines() if line.strip()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help=f"folder or file; default: ${VARIABLE}, else {DEFAULT.name} beside us"
    )
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    path = arguments.data or Path(os.environ.get(VARIABLE, DEFAULT))
    files = find(path)
    if not files:
        print(f"no vote matrices at {path}: nothing was measured. Give their folder with --data or ${VARIABLE}.")
        return 2 if arguments.data else 0
    figures = {}
    for file in files:
        tasks = read(lines_of(file))
        if not tasks:
            print(f"{file.name} holds no task with tests", file=sys.stderr)
            return 2
        figures[file.name] = measure(tasks, draws=5 if arguments.quick else 30)
        print(f"{file.name}: {len(tasks)} tasks; share solved in percent, with 95 % intervals over tasks")
        for size in ("all samples and tests", "10 samples, 10 tests"):
            print(f"  {size}")
            for name, row in figures[file.name][size].items():
                print(f"    {name:36s} {row['mean']:5.1f}  ({row['low']:.1f} to {row['high']:.1f})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
