"""Whether sampling can stop early: rules against a fixed number of samples, replayed on recorded vote matrices.

python -m tests.bench.bench_stopping [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`. Each task's samples are drawn one after the other, each with one test, up to 32.
After every four a rule sees the count so far and may stop; what is chosen then is compared with what 32 samples choose.
A rule earns its place only if it keeps more than the fixed number that costs as much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.evaluation.calibration import told
from bot.evaluation.selectors import Array, Integers, Recorded, behaviours, our_choice
from bot.solver.confidence import log_odds, probability
from tests.bench.bench_selection import interval, replay

MOST, STEP = 32, 4


@dataclass(frozen=True)
class Chosen:
    """What the count says after some samples."""

    candidate: int  # of the recorded matrix
    alike: float  # samples that behave as it does
    votes: float
    samples: int
    sure: float = 0.0  # the probability that it is right; 0 where no test speaks for it


SHORT = ((3, 8), (8, 16), (16, 32))  # of short-m@k: the m that end first of k

History = Sequence[Chosen]  # after 4, 8, ... samples
Rule = Callable[[History, Recorded], bool]  # whether to stop after the last


def choose(task: Recorded, samples: Integers, tests: Integers) -> Chosen:
    """As `bot.solver.ballot.count` chooses."""
    matrix, which = task.part(samples, tests)
    first = our_choice(matrix)
    alike, votes = float(behaviours(matrix)[1][first]), float(matrix.votes[first])
    found = told(matrix)
    return Chosen(int(which[first]), alike, votes, len(samples), probability(log_odds(found[0])) if found else 0.0)


def histories(task: Recorded, rng: np.random.Generator) -> History:
    """One order of the task's samples and tests, and what is chosen along it."""
    samples = rng.permutation(task.candidate)[:MOST]
    tests = np.resize(rng.permutation(task.test), MOST)  # begins again where there are fewer
    return [choose(task, samples[:n], tests[:n]) for n in range(STEP, MOST + 1, STEP)]


def fixed(samples: int) -> Rule:
    return lambda history, task: history[-1].samples >= samples


def finishes(history: History, task: Recorded) -> bool:
    """First finish: any candidate that a test speaks for."""
    return history[-1].votes > 0


def consensus(alike: int) -> Rule:
    """So many samples behave alike, and a test speaks for them."""
    return lambda history, task: history[-1].votes > 0 and history[-1].alike >= alike


def settled(times: int) -> Rule:
    """The same behaviour was chosen so many times in a row."""

    def rule(history: History, task: Recorded) -> bool:
        last = history[-1]
        rows = [task.matrix.passes[chosen.candidate] for chosen in history[-times:]]
        return len(rows) == times and last.votes > 0 and all(np.array_equal(row, rows[-1]) for row in rows)

    return rule


def sure(probability_: float) -> Rule:
    """The winner is right with that probability, by the count: `TROOP_SOLVER_STOP_AT`."""
    return lambda history, task: history[-1].sure >= probability_


def short(task: Recorded, m: int, k: int, rng: np.random.Generator) -> tuple[Chosen, float]:
    """short-m@k (arXiv 2505.17813): of k samples that begin together the m that end first, and what they cost: whole
    samples of the task's mean length. The length of its code stands for that of a reply; all others are broken off.
    """
    samples = rng.permutation(task.candidate)[:k]
    sizes = task.matrix.sizes[samples]
    first = np.argsort(sizes, kind="stable")[:m]
    cut = sizes[first].max()
    tests = np.resize(rng.permutation(task.test), len(first))
    cost = np.minimum(sizes, cut).sum() / max(1.0, task.matrix.sizes[task.candidate].mean())
    return choose(task, samples[first], tests), float(cost)


RULES: dict[str, Rule] = {
    **{f"fixed, {n}": fixed(n) for n in range(STEP, MOST + 1, STEP)},
    "first finish": finishes,
    "consensus of 3": consensus(3),
    "consensus of 4": consensus(4),
    "consensus of 6": consensus(6),
    **{f"sure, {percent} %": sure(percent / 100) for percent in (70, 80, 90)},
    "settled twice": settled(2),
    "settled 3 times": settled(3),
}


def stop(rule: Rule, history: History, task: Recorded) -> Chosen:
    """What is chosen where the rule stops, or at the end."""
    for n in range(1, len(history)):
        if rule(history[:n], task):
            return history[n - 1]
    return history[-1]


def measure(tasks: Sequence[Recorded], orders: int, seed: int = 0) -> dict[str, Any]:
    """For each rule: mean samples, and the share of tasks solved against that of all samples, in points."""
    rng = np.random.default_rng(seed)
    runs = [[histories(task, rng) for _ in range(orders)] for task in tasks]
    solved: dict[str, Array] = {}
    rows: dict[str, Any] = {}
    for name, rule in RULES.items():
        ends = [[stop(rule, history, task) for history in of] for of, task in zip(runs, tasks, strict=True)]
        used = np.mean([[end.samples for end in of] for of in ends])
        right = [[task.matrix.solves[end.candidate] for end in of] for of, task in zip(ends, tasks, strict=True)]
        solved[name] = np.array(right, dtype=float).mean(axis=1)
        rows[name] = {"samples": float(used), "solved": float(100 * solved[name].mean())}
    for m, k in SHORT:
        taken = [[short(task, m, k, rng) for _ in range(orders)] for task in tasks]
        chosen = [[task.matrix.solves[end.candidate] for end, _ in of] for of, task in zip(taken, tasks, strict=True)]
        solved[f"short-{m}@{k}"] = np.array(chosen, dtype=float).mean(axis=1)
        rows[f"short-{m}@{k}"] = {
            "samples": float(np.mean([[cost for _, cost in of] for of in taken])),
            "solved": float(100 * solved[f"short-{m}@{k}"].mean()),
        }
    whole = solved[f"fixed, {MOST}"]
    for name, row in rows.items():
        low, high = interval(solved[name] - whole, rng)
        row |= {"lost": row["solved"] - float(100 * whole.mean()), "low": 100 * low, "high": 100 * high}
    return {"tasks": len(tasks), "orders": orders, "rules": rows}


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found."""
    print(f"{figures['tasks']} tasks; solved in percent, and points lost against {MOST} samples")
    for name, row in figures["rules"].items():
        lost = f"{row['lost']:+5.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
        print(f"  {name:16s} {row['samples']:5.1f} samples  {row['solved']:5.1f}  {lost}")


def main() -> int:
    return replay(__doc__ or "", lambda tasks, quick: measure(tasks, orders=4 if quick else 20), show)


if __name__ == "__main__":
    raise SystemExit(main())
