"""Whether the probability of a verdict means what it says, on recorded vote matrices; prints its constants.

python -m tests.bench.bench_calibration [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`. Of each task, samples and tests are drawn in many sizes. The regression is fitted
on nine tenths of the tasks and read on the last, in turn. Beside it stand the constants in use, as they are and with
the shift of the log-odds that the same nine tenths ask for, the share of samples that behave as the winner does, taken
for a probability, and the share of right choices of all other tasks, which is always calibrated and says nothing. The
Brier score is the mean square of probability minus outcome: lower is better.

Then what labels of a repository are worth: its log-odds lie off by a number that the server does not know, a choice on
each of a few tasks is labelled, and the shift that the labels ask for is read on all other tasks.

Last, the default of `TROOP_SOLVER_CONFIDENCE_SHIFT`: the least that any model's whole runs in `tests/bench/matrices`
ask for, one choice a bug, since planted bugs are easier than people's. Of each model: how many of its choices are
right, what the constants expect, and what they expect with the least shift of the other models.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bot.evaluation.calibration import calibration_error, reliability, told
from bot.evaluation.selectors import Recorded, read_matrices
from bot.solver.ballot import Array
from bot.solver.confidence import WEIGHTS, log_odds, probability, shift_for
from tests.bench.bench_selection import OWN, find, lines_of, replay

FOLDS = 10
LEAST_SAMPLES, LEAST_TESTS = 4, 3
PENALTY = 20.0  # of the squared weights of standardised features: keeps a fit on few tasks from running away
STEPS = 50
OFF = (-1.5, 0.0, 1.5)  # log-odds
LABELS = (0, 1, 3, 10, 30)


def fit(rows: Array, right: Array) -> Array:
    """The weights of a logistic regression with a ridge penalty, by Newton's method; `rows[:, 0]` is 1."""
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    mean[0], scale[0] = 0.0, 1.0
    z = (rows - mean) / scale
    penalty = np.full(z.shape[1], PENALTY)
    penalty[0] = 0.0
    weights = np.zeros(z.shape[1])
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-(z @ weights)))
        gradient = z.T @ (p - right) + penalty * weights
        hessian = (z * (p * (1 - p) + 1e-9)[:, None]).T @ z + np.diag(penalty)
        weights = weights - np.linalg.solve(hessian, gradient)
    weights = weights / scale
    weights[0] -= (weights * mean).sum()
    return np.asarray(weights)


def drawn(tasks: Sequence[Recorded], draws: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Features `[choices, 5]`, whether each choice is right, and its task."""
    rows, right, of = [], [], []
    for number, task in enumerate(tasks):
        for _ in range(draws):
            samples = between(LEAST_SAMPLES, len(task.candidate), rng)
            tests = between(LEAST_TESTS, len(task.test), rng)
            found = told(task.draw(samples, tests, rng))
            if found is not None:
                rows.append(found[0])
                right.append(float(found[1]))
                of.append(float(number))
    return np.array(rows), np.array(right), np.array(of)


def learning(odds: Array, right: Array, of: Array, repeats: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Calibration error and Brier score by how far the log-odds are off and how many labels there are."""
    places = [np.flatnonzero(of == task) for task in np.unique(of)]
    rows = []
    for off in OFF:
        told = odds - off
        for labels in (number for number in LABELS if number < len(places)):
            found = []
            for _ in range(repeats if labels else 1):
                order = rng.permutation(len(places))
                known = np.array([rng.choice(places[task]) for task in order[:labels]], dtype=int)
                rest = np.concatenate([places[task] for task in order[labels:]])
                shift = shift_for(told[known].tolist(), (right[known] > 0).tolist())
                expected = 1.0 / (1.0 + np.exp(-(told[rest] + shift)))
                brier = float(((expected - right[rest]) ** 2).mean())
                found.append((calibration_error(reliability(expected, right[rest])), brier))
            error, brier = np.mean(found, axis=0)
            rows.append({"off": off, "labels": labels, "error": float(error), "brier": float(brier)})
    return rows


def between(least: int, most: int, rng: np.random.Generator) -> int:
    """A number from `least` to `most`, small ones as likely as large ones on a logarithmic scale."""
    return int(np.exp(rng.uniform(np.log(min(least, most)), np.log(most + 0.99))))


def measure(tasks: Sequence[Recorded], quick: bool, seed: int = 0) -> dict[str, Any]:
    """All figures."""
    rng = np.random.default_rng(seed)
    rows, right, of = drawn(tasks, 10 if quick else 60, rng)
    fold = rng.permutation(len(tasks))[of.astype(int)] % FOLDS
    odds = rows @ np.array(WEIGHTS)
    expected, rate, shifted = np.zeros(len(right)), np.zeros(len(right)), np.zeros(len(right))
    for f in range(FOLDS):
        here = fold == f
        expected[here] = 1.0 / (1.0 + np.exp(-(rows[here] @ fit(rows[~here], right[~here]))))
        rate[here] = right[~here].mean()
        shifted[here] = odds[here] + shift_for(odds[~here].tolist(), (right[~here] > 0).tolist())
    share = np.exp(rows[:, 1])
    in_use, shifted = (1.0 / (1.0 + np.exp(-each)) for each in (odds, shifted))
    ways = {
        "ours, cross-validated": expected,
        "ours, in use": in_use,
        "ours, shifted": shifted,
        "share that behaves alike": share / (1 + share),
        "always the same": rate,
    }
    return {
        "tasks": len(tasks),
        "choices": len(right),
        "right": float(right.mean()),
        "weights": [round(float(weight), 3) for weight in fit(rows, right)],
        "in use": list(WEIGHTS),
        "ways": {
            name: {
                "error": calibration_error(reliability(way, right)),
                "brier": float(((way - right) ** 2).mean()),
            }
            for name, way in ways.items()
        },
        "learning": learning(np.log(expected / (1 - expected)), right, of, 20 if quick else 200, rng),
        "reliability": [part.model_dump() for part in reliability(expected, right)],
        "at most wrong": [threshold(expected, right, limit) for limit in (0.5, 0.4, 0.3, 0.2, 0.1)],
    }


def threshold(expected: Array, right: Array, limit: float) -> dict[str, float]:
    """What an operator gets who allows that share of wrong pull requests."""
    kept = expected >= 1.0 - limit
    return {
        "limit": limit,
        "kept": float(kept.mean()),
        "wrong": float(1.0 - right[kept].mean()) if kept.any() else 0.0,
        "right kept": float(right[kept].sum() / right.sum()),
    }


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found."""
    print(f"{figures['tasks']} tasks, {figures['choices']:,} choices, {figures['right']:.1%} right")
    print(f"  weights {figures['weights']}, in use {figures['in use']}")
    base = figures["ways"]["always the same"]["brier"]
    for name, row in figures["ways"].items():
        ratio = f"({row['brier'] / base:.2f} of always the same)"
        print(f"  {name:28s} calibration error {row['error']:.3f}, Brier score {row['brier']:.3f} {ratio}")
    for row in figures["learning"]:
        print(
            f"    off by {row['off']:+.1f}, {row['labels']:2d} labels: calibration error {row['error']:.3f}, "
            f"Brier score {row['brier']:.3f}"
        )
    for part in figures["reliability"]:
        print(f"    said {part['expected']:.0%}, right {part['right']:.0%} of {part['choices']:,}")
    for row in figures["at most wrong"]:
        print(
            f"  at least {1 - row['limit']:.0%} sure: {row['kept']:.0%} of the choices, {row['wrong']:.0%} of them "
            f"wrong, with {row['right kept']:.0%} of the right ones"
        )


def whole_runs() -> dict[str, Any]:
    """What the recorded runs of the solver ask for, model by model."""
    by_model = {file.stem: _choices(read_matrices(lines_of(file))) for file in find(OWN)}
    asked = {name: shift_for(odds, right) for name, (odds, right) in by_model.items()}
    models = {}
    for name, (odds, right) in by_model.items():
        others = min((shift for other, shift in asked.items() if other != name), default=0.0)
        models[name] = {
            "choices": len(odds),
            "right": sum(right),
            "expected": sum(map(probability, odds)),
            "shift": asked[name],
            "shift of others": others,
            "expected with it": sum(probability(one, others) for one in odds),
        }
    return {"runs": {"models": models, "least shift": min(asked.values())}}


def _choices(tasks: Sequence[Recorded]) -> tuple[list[float], list[bool]]:
    found = [one for task in tasks if (one := told(task.matrix)) is not None]
    return [log_odds(row) for row, _ in found], [right for _, right in found]


def show_runs() -> dict[str, Any]:
    """`whole_runs`, also printed."""
    found = whole_runs()
    print("the solver's whole runs on planted bugs, one choice a bug:")
    for name, row in found["runs"]["models"].items():
        print(
            f"  {name:22s} {row['right']} of {row['choices']} right, expected {row['expected']:.1f}, which asks for "
            f"{row['shift']:+.2f}; {row['expected with it']:.1f} with the others' {row['shift of others']:+.2f}"
        )
    return found


def main() -> int:
    return replay(__doc__ or "", measure, show, show_runs)


if __name__ == "__main__":
    raise SystemExit(main())
