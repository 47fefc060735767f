"""Whether the probability of a verdict means what it says, on recorded vote matrices; prints its constants.

python -m tests.bench.bench_calibration [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`. Of each task, samples and tests are drawn in many sizes. The regression is fitted
on nine tenths of the tasks and read on the last, in turn. Beside it stand the constants in use, as they are, with the
shift of the log-odds that the same nine tenths ask for, and as of runs of the solver (`SLOPE`), the share of samples
that behave as the winner does, taken for a probability, and the share of right choices of all other tasks, which is
always calibrated and says nothing. The Brier score is the mean square of probability minus outcome: lower is better.

Then what labels of a repository are worth: its log-odds lie off by a number that the server does not know, a choice on
each of a few tasks is labelled, and the shift that the labels ask for is read on all other tasks.

Few tasks give an error even to probabilities that are true: beside each error stands the one that chance gives them,
where all choices hang together no more than by chance and where those on one task are right or wrong together, and how
often in that case chance alone gives as large an error.

Last, the default of `TROOP_SOLVER_CONFIDENCE_SHIFT`: the least that any model's whole runs in `tests/bench/matrices`
ask for, one choice a bug, since planted bugs are easier than people's. Of each model: how many of its choices are
right, what the constants expect, and what they expect with the least shift of the other models, with the calibration
error of that and how many such runs it takes to show an error of 0.05; beside it the constants as they are of
functions, and always the others' share, which knows nothing of a run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bot.evaluation.calibration import calibration_error, errors_by_chance, reliability, told
from bot.evaluation.selectors import Recorded, read_matrices
from bot.solver.ballot import Array
from bot.solver.confidence import SLOPE, WEIGHTS, log_odds, probability, shift_for
from tests.bench.bench_selection import OWN, find, lines_of, replay

FOLDS = 10
LEAST_SAMPLES, LEAST_TESTS = 4, 3
PENALTY = 20.0  # of the squared weights of standardised features: keeps a fit on few tasks from running away
STEPS = 50
OFF = (-1.5, 0.0, 1.5)  # log-odds
LABELS = (0, 1, 3, 10, 30)
# Of the log-odds.
SLOPES = {"as of functions": 1.0, "half": 0.5, "in use": SLOPE, "always the others' share": 0.0, "a tenth": 0.1}
RUN_BINS, GOAL = 5, 0.05  # of whole runs, which are few; the calibration error to be shown


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
    expected, rate, shifted, of_runs = (np.zeros(len(right)) for _ in range(4))
    for f in range(FOLDS):
        here = fold == f
        expected[here] = 1.0 / (1.0 + np.exp(-(rows[here] @ fit(rows[~here], right[~here]))))
        rate[here] = right[~here].mean()
        known = (right[~here] > 0).tolist()
        shifted[here] = odds[here] + shift_for(odds[~here].tolist(), known)
        of_runs[here] = SLOPE * odds[here] + shift_for((SLOPE * odds[~here]).tolist(), known)
    share = np.exp(rows[:, 1])
    in_use, shifted, of_runs = (1.0 / (1.0 + np.exp(-each)) for each in (odds, shifted, of_runs))
    ways = {
        "ours, cross-validated": expected,
        "ours, in use": in_use,
        "ours, shifted": shifted,
        "ours, shifted, as of runs": of_runs,
        "share that behaves alike": share / (1 + share),
        "always the same": rate,
    }
    return {
        "tasks": len(tasks),
        "choices": len(right),
        "right": float(right.mean()),
        "weights": [round(float(weight), 3) for weight in fit(rows, right)],
        "in use": list(WEIGHTS),
        "ways": {name: _read(way, right, of, rng) for name, way in ways.items()},
        "learning": learning(np.log(expected / (1 - expected)), right, of, 20 if quick else 200, rng),
        "reliability": [part.model_dump() for part in reliability(expected, right)],
        "at most wrong": [threshold(expected, right, limit) for limit in (0.5, 0.4, 0.3, 0.2, 0.1)],
    }


def _read(expected: Array, right: Array, of: Array, rng: np.random.Generator, bins: int = 10) -> dict[str, float]:
    """How the probabilities fare, and what chance does to true ones."""
    error = calibration_error(reliability(expected, right, bins))
    together = errors_by_chance(expected, of, rng, bins)
    return {
        "error": error,
        "by chance": float(errors_by_chance(expected, np.arange(len(of)), rng, bins).mean()),
        "by chance, tasks together": float(together.mean()),
        "as large by chance": float((together >= error - 1e-9).mean()),
        "brier": float(((expected - right) ** 2).mean()),
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
        chance = f"({row['by chance']:.3f} to {row['by chance, tasks together']:.3f} by chance alone)"
        print(f"  {name:28s} calibration error {row['error']:.3f} {chance}, Brier score {row['brier']:.3f} {ratio}")
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
    asked = {name: shift_for([SLOPE * one for one in odds], right) for name, (odds, right) in by_model.items()}
    models = {}
    for name, (odds, right) in by_model.items():
        others = min((shift for other, shift in asked.items() if other != name), default=0.0)
        models[name] = {
            "choices": len(odds),
            "right": sum(right),
            "expected": sum(map(probability, odds)),
            "shift": asked[name],
            "shift of others": others,
            "expected with it": sum(probability(SLOPE * one, others) for one in odds),
        }
    return {"runs": {"models": models, "least shift": min(asked.values()), "together": _together(by_model)}}


def _together(by_model: dict[str, tuple[list[float], list[bool]]]) -> dict[str, Any]:
    """How the probabilities fare on all runs, each read with the least shift of the other models."""
    rng = np.random.default_rng(0)
    right = np.array([float(one) for _, outcomes in by_model.values() for one in outcomes])
    ways: dict[str, Any] = {}
    for way, slope in SLOPES.items():
        expected = []
        for name, (odds, _) in by_model.items():
            others = [found for other, found in by_model.items() if other != name]
            shift = min((shift_for([slope * one for one in told], known) for told, known in others), default=0.0)
            expected += [probability(slope * one, shift) for one in odds]
        read = np.array(expected)
        ways[way] = _read(read, right, np.arange(len(read)), rng, RUN_BINS)
        many = (n for n in range(1, 100) if _by_chance(np.tile(read, n), rng) <= GOAL)
        ways[way]["enough"] = next(many, 100) * len(read)
    return ways


def _by_chance(expected: Array, rng: np.random.Generator) -> float:
    return float(errors_by_chance(expected, np.arange(len(expected)), rng, RUN_BINS).mean())


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
    for way, row in found["runs"]["together"].items():
        print(
            f"  {way:24s} calibration error {row['error']:.3f} ({row['by chance']:.3f} by chance alone, as large in "
            f"{row['as large by chance']:.0%}), Brier score {row['brier']:.3f}; {GOAL} would take {row['enough']} runs"
        )
    return found


def main() -> int:
    return replay(__doc__ or "", measure, show, show_runs)


if __name__ == "__main__":
    raise SystemExit(main())
