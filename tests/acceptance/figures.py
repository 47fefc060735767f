"""The results for people: a table, a plot, and the snippet for the README."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.evaluation.coverage import budget_for, fit
from bot.evaluation.estimates import powers
from bot.settings import SolverSettings
from bot.solver.ballot import count
from bot.solver.confidence import confidence
from bot.solver.profile import ResolvedSolver
from tests.acceptance.recount import at, solving
from tests.acceptance.solving import ballot_of

SHOWN = (1, 4, 16, 64)


def measure(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All figures of a finished (or unfinished) run."""
    samples = min(record["samples"] for record in records)
    curve = at(records, powers(samples))
    law = fit([(int(row["k"]), row["coverage"]) for row in curve])
    outcomes = Counter(record["outcome"] for record in records)
    right = sum(r["winner"] is not None and r["candidates"][r["winner"]]["solves"] for r in records)
    return {
        "bugs": len(records),
        "packages": dict(Counter(record["id"].partition(":")[0] for record in records)),
        "samples": samples,
        "curve": curve,
        "law": {"a": law.a, "b": law.b} if law else None,
        "budget_for_80_percent": budget_for(0.8, law) if law else None,
        "solved_by_any": sum(solving(record) > 0 for record in records),
        "runs": dict(outcomes),
        "runs_right": right,
        "runs_expected": sum(expected(r) for r in records if r["winner"] is not None),
        "seconds": wall_seconds(records),
        "prompt_tokens": sum(record["usage"]["prompt_tokens"] for record in records),
        "completion_tokens": sum(record["usage"]["completion_tokens"] for record in records),
    }


def expected(record: dict[str, Any]) -> float:
    """The probability that the winner is right, by the count alone, as a pull request says it by default."""
    ballot = ballot_of(record)
    standing = next(standing for standing in count(ballot) if standing.candidate == record["winner"])
    return confidence(standing, ballot, SolverSettings().confidence_shift)


def wall_seconds(records: Sequence[dict[str, Any]]) -> float:
    """Of the whole: bugs that were solved side by side count once, and what lies between two runs does not."""
    total, until = 0.0, 0.0
    for record in sorted(records, key=lambda r: r.get("began", 0.0)):
        if "began" not in record:  # of a time when there was one bug at a time
            total += record["seconds"] + record["judging_seconds"]
            continue
        total += max(0.0, record["ended"] - max(until, record["began"]))
        until = max(until, record["ended"])
    return total


def words(solver: ResolvedSolver) -> str:
    """With which numbers the model was asked."""
    numbers = solver.settings
    return (
        f"profile {solver.profile}; at most {numbers.context_tokens:,} tokens of files, {numbers.test_calls} calls for "
        f"a test, {numbers.edit_calls} for an edit"
    )


def table(figures: dict[str, Any]) -> str:
    """Markdown: coverage, selected and precision by number of trajectories."""
    rows = ["| trajectories | coverage | selected | precision |", "|---:|---:|---:|---:|"]
    for row in figures["curve"]:
        if row["k"] in SHOWN or row["k"] == figures["samples"]:
            shown = "-" if row["precision"] is None else f"{row['precision']:.0%}"
            rows.append(f"| {row['k']} | {row['coverage']:.1%} | {row['selected']:.1%} | {shown} |")
    return "\n".join(rows)


def snippet(figures: dict[str, Any], command: str, model: str, machine: str) -> str:
    """What the README says."""
    packages = ", ".join(f"{number} in {name}" for name, number in figures["packages"].items())
    pulls = figures["runs"].get("solved", 0)
    law = figures["law"]
    fitted = f"Fitted law: log coverage = {law['a']:.2f} · k^{law['b']:.2f}.\n" if law else ""
    return (
        f"{figures['bugs']} planted one-line bugs ({packages}); `{command}`, model {model}, {machine}, "
        f"{figures['seconds'] / 60:.0f} min.\n\n"
        f"{table(figures)}\n\n"
        "*Coverage*: any of the trajectories' candidates passes the hidden check (unbiased estimator over "
        f"{figures['samples']} samples). *Selected*: the count alone puts a solving candidate first, counted again on "
        "drawn parts of the vote matrix. *Precision*: how often it does where the same draw has one. "
        f"Of the {figures['bugs']} whole runs {pulls} ended in a pull request, {figures['runs_right']} of them right; "
        f"the others abstained. By the count alone {figures['runs_expected']:.1f} of them were to be expected right.\n"
        f"{fitted}"
    )


def plot(figures: dict[str, Any], path: Path) -> None:
    """Coverage and selected over the number of trajectories, with the fitted law."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curve = figures["curve"]
    ks = [row["k"] for row in curve]
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.plot(ks, [row["coverage"] for row in curve], "o", color="#1f6feb", label="coverage")
    axes.plot(ks, [row["selected"] for row in curve], "s-", color="#d29922", label="selected")
    if figures["law"]:
        a, b = figures["law"]["a"], figures["law"]["b"]
        fine = [ks[-1] ** (i / 60) for i in range(61)]
        line = [2.718281828459045 ** (a * k**b) for k in fine]
        axes.plot(fine, line, "-", color="#1f6feb", alpha=0.5, label=f"exp({a:.2f} · k^{b:.2f})")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("trajectories")
    axes.set_ylabel(f"share of {figures['bugs']} planted bugs")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
