"""Whether sampling can stop early: rules against a fixed number of samples, replayed on recorded vote matrices.

python -m tests.bench.bench_stopping [--data FOLDER_OR_FILE] [--quick] [--json FILE]

The data is that of `bench_selection`. Each task's samples are drawn one after the other, each with one test, up to 32.
The rules are those of `TROOP_SOLVER_STOP` (`bot.solver.stopping`), each looking at the count when it does in a run;
what is chosen when one stops is compared with what 32 samples choose. A rule earns its place only if it keeps more than
the fixed number that costs as much, which stands beside it. Then the same for runs as large as they were recorded,
up to 64.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.evaluation.calibration import told
from bot.evaluation.selectors import Array, Integers, Recorded, behaviours, our_choice
from bot.records import StopRule
from bot.settings import SolverSettings
from bot.solver.confidence import SLOPE, log_odds, probability
from bot.solver.stopping import Seen, Stopping
from tests.bench.bench_selection import interval, replay

MOST, RECORDED, STEP = 32, 64, 4


@dataclass(frozen=True)
class Chosen:
    """What the count says after some samples."""

    candidate: int  # of the recorded matrix
    samples: int
    seen: Seen = field(default_factory=Seen)


SHIFT = SolverSettings().confidence_shift
SHORT = ((3, 8), (8, 16), (8, 32), (16, 32))  # of short-m@k: the m that end first of k

History = Mapping[int, Chosen]  # by how many samples there are: 4, 8, ...


def choose(task: Recorded, samples: Integers, tests: Integers) -> Chosen:
    """As `bot.solver.ballot.count` chooses."""
    matrix, which = task.part(samples, tests)
    first = our_choice(matrix)
    alike, votes = float(behaviours(matrix)[1][first]), float(matrix.votes[first])
    found = told(matrix)
    sure = probability(log_odds(found[0])) if found else 0.0
    speak = (matrix.passes[first] > 0) & matrix.voting
    apart = bool(speak.any()) and bool((matrix.passes[:, speak] == 0).any())
    new = float((matrix.samples == 1).sum() / matrix.samples.sum())
    return Chosen(int(which[first]), len(samples), Seen(votes, alike, sure, apart, new))


def histories(task: Recorded, rng: np.random.Generator, most: int = MOST) -> History:
    """One order of the task's samples and tests, and what is chosen along it."""
    samples = rng.permutation(task.candidate)[:most]
    tests = np.resize(rng.permutation(task.test), most)  # begins again where there are fewer
    return {n: choose(task, samples[:n], tests[:n]) for n in range(STEP, most + 1, STEP)}


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


RULES: dict[str, Stopping] = {
    "first-finish": Stopping(StopRule.FIRST_FINISH),
    "discovery": Stopping(StopRule.DISCOVERY, SolverSettings().stop_new),
    **{f"consensus {n}": Stopping(StopRule.CONSENSUS, n) for n in (3, 4, 6)},
    **{f"posterior {percent} %": Stopping(StopRule.POSTERIOR, percent / 100) for percent in (70, 80, 90)},
    # What runs of the solver ask, whose log-odds are halved and shifted: the same as a lower threshold.
    "posterior 80 %, of runs": Stopping(StopRule.POSTERIOR, probability((math.log(0.8 / 0.2) - SHIFT) / SLOPE)),
}


def stop(rule: Stopping, history: History) -> Chosen:
    """What is chosen where the rule stops, or at the end."""
    most = max(history)
    looks = list(rule.looks(most))
    return next((history[n] for n in looks[:-1] if rule.enough(history[n].seen, n, most)), history[looks[-1]])


def measure(tasks: Sequence[Recorded], orders: int, seed: int = 0) -> dict[str, Any]:
    """For each rule: mean samples, and the share of tasks solved against that of all samples, in points."""
    rng = np.random.default_rng(seed)
    runs = [[histories(task, rng) for _ in range(orders)] for task in tasks]
    solved: dict[str, Array] = {}
    rows: dict[str, Any] = {}

    def add(name: str, ends: Sequence[Sequence[Chosen]]) -> None:
        right = [[task.matrix.solves[end.candidate] for end in of] for of, task in zip(ends, tasks, strict=True)]
        solved[name] = np.array(right, dtype=float).mean(axis=1)
        used = float(np.mean([[end.samples for end in of] for of in ends]))
        rows[name] = {"samples": used, "solved": float(100 * solved[name].mean())}

    for n in range(STEP, MOST + 1, STEP):
        add(f"fixed, {n}", [[history[n] for history in of] for of in runs])
    for name, rule in RULES.items():
        add(name, [[stop(rule, history) for history in of] for of in runs])
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
    return {"tasks": len(tasks), "orders": orders, "rules": rows, "of all": whole_runs(tasks, orders, rng)}


def whole_runs(tasks: Sequence[Recorded], orders: int, rng: np.random.Generator) -> dict[str, Any]:
    """The rules on runs as large as they were recorded, up to 64: the share of the samples, and the points lost."""
    most = min(RECORDED, -(-max(len(task.candidate) for task in tasks) // STEP) * STEP)
    ends: dict[str, list[list[Chosen]]] = {name: [] for name in ("half", *RULES, "all")}
    for task in tasks:
        runs = [histories(task, rng, most) for _ in range(orders)]
        half = min(runs[0], key=lambda n: abs(n - min(most, len(task.candidate)) / 2))
        ends["half"].append([history[half] for history in runs])
        ends["all"].append([history[most] for history in runs])
        for name, rule in RULES.items():
            ends[name].append([stop(rule, history) for history in runs])
    right = {
        name: np.array(
            [[task.matrix.solves[end.candidate] for end in of] for of, task in zip(found, tasks, strict=True)]
        )
        for name, found in ends.items()
    }
    used = {name: np.mean([[end.samples for end in of] for of in found]) for name, found in ends.items()}
    rows = {}
    for name, found in right.items():
        lost = found.mean(axis=1) - right["all"].mean(axis=1)
        low, high = interval(lost, rng)
        share = float(used[name] / used["all"])
        rows[name] = {"share": share, "lost": 100 * float(lost.mean()), "low": 100 * low, "high": 100 * high}
    return {"samples": float(used["all"]), "rules": rows}


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found."""
    print(f"{figures['tasks']} tasks; solved in percent, and points lost against {MOST} samples")
    for name, row in figures["rules"].items():
        lost = f"{row['lost']:+5.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
        print(f"  {name:16s} {row['samples']:5.1f} samples  {row['solved']:5.1f}  {lost}")
    print(f"  runs as large as they were recorded, {figures['of all']['samples']:.1f} samples a task")
    for name, row in figures["of all"]["rules"].items():
        lost = f"{row['lost']:+5.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
        print(f"    {name:16s} {row['share']:4.0%}  {lost}")


def main() -> int:
    return replay(__doc__ or "", lambda tasks, quick: measure(tasks, orders=4 if quick else 20), show)


if __name__ == "__main__":
    raise SystemExit(main())
