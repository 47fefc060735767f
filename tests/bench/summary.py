"""One table of all figures: a line each, its baseline beside it. What a benchmark's JSON holds is known here alone,
unless it brings its own rows under `summary`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One figure. `ratio` is over the baseline, whichever way is better; `goal` is the ratio's, where there is one."""

    name: str
    figure: str
    baseline: str
    ratio: float
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        relation, _, value = self.goal.partition(" ")
        if not value:
            return None
        return self.ratio >= float(value) if relation == ">=" else self.ratio <= float(value)


def queue(figures: Any) -> Iterator[Row]:
    rates = figures["runs_per_second"]
    for name in ("in-process", "arq on Redis"):
        if name in rates:
            ratio = figures["ratio_to_bare_commits"][name]
            yield Row(
                f"queue, {name}", f"{rates[name]:.0f} runs/s", f"bare commits: {rates['bare commits']:.0f}", ratio
            )


def run(figures: Any) -> Iterator[Row]:
    for found in figures:
        bare = f"its tests alone: {found['bare_seconds']} s"
        yield Row(f"run, {found['trajectories']} trajectories", f"{found['run_seconds']} s", bare, found["ratio"])


def sandbox(figures: Any) -> Iterator[Row]:
    base, *found = figures["results"].items()
    for name, row in found:
        yield Row(name, f"{row['median_ms']:.1f} ms", f"{base[0]}: {base[1]['median_ms']:.1f} ms", row["ratio"])


def selection(figures: Any) -> Iterator[Row]:
    for file, sizes in figures.items():
        for size, rows in sizes.items():
            if not isinstance(rows, dict) or size == "winners":
                continue
            ours = rows["ours, cross-validated"]["mean"]
            for other in ("votes", "CodeT"):
                theirs = rows[other]["mean"]
                name = f"selection, {file.partition('.jsonl')[0]}, {size}"
                yield Row(name, f"{ours:.1f} % solved", f"{other}: {theirs:.1f} %", ours / theirs)


def calibration(figures: Any) -> Iterator[Row]:
    for file, found in figures.items():
        ours, base = (found["ways"][way]["brier"] for way in ("ours, cross-validated", "always the same"))
        name = f"calibration, {file.partition('.jsonl')[0]}, Brier score"
        yield Row(name, f"{ours:.3f}", f"always the same: {base:.3f}", ours / base)


def speculation(figures: Any) -> Iterator[Row]:
    for name, row in figures.items():
        if isinstance(row, dict) and "on_tokens_per_second" in row:
            on, off = row["on_tokens_per_second"], row["off_tokens_per_second"]
            yield Row(f"speculation, {name.replace('_', ' ')}", f"{on} tokens/s", f"off: {off} tokens/s", row["ratio"])


def invariant(figures: Any) -> Iterator[Row]:
    rates = figures["tokens_per_second"]
    ratio = rates["invariant"] / rates["usual"]
    yield Row("batch-invariant mode", f"{rates['invariant']} tokens/s", f"usual: {rates['usual']} tokens/s", ratio)


def webhook(figures: Any) -> Iterator[Row]:
    base = {row["connections"]: row["per_second"] for row in figures if row["kind"] == "baseline"}
    for row in figures:
        if row["kind"] != "baseline":
            name = f"webhook, {row['kind']}, {row['connections']} connections"
            bare = f"only read: {base[row['connections']]}/s"
            yield Row(name, f"{row['per_second']}/s", bare, row["ratio_to_baseline"])


def arrivals(figures: Any) -> Iterator[Row]:
    for row in figures:
        if row["kind"] != "baseline":
            name = f"200 deliveries/s beside 1,000 idle connections, {row['database']}"
            yield Row(name, f"p99 {row['p99_ms']} ms, {row['lost']} lost", "50 ms", row["p99_ms"] / 50, "<= 1")


READERS: dict[str, Callable[[Any], Iterator[Row]]] = {
    reader.__name__: reader
    for reader in (queue, run, sandbox, selection, calibration, speculation, invariant, webhook, arrivals)
}


def rows(name: str, figures: Any) -> list[Row]:
    """The rows of one benchmark; none where nobody knows how to read it."""
    if isinstance(figures, dict) and "summary" in figures:
        return [Row(**row) for row in figures["summary"]]
    return list(READERS[name](figures)) if name in READERS else []


def table(found: list[Row]) -> str:
    """For people."""
    heads = ("", "figure", "baseline", "ratio", "goal")
    verdicts = {True: "met", False: "SHORT", None: ""}
    cells = [heads, *((r.name, r.figure, r.baseline, f"{r.ratio:.2f}", f"{r.goal} {verdicts[r.met]}") for r in found)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = (f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}  {e}" for a, b, c, d, e in cells)
    return "\n".join(line.rstrip() for line in lines)
