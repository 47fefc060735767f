"""What share of the tasks evaluations solve at which cost: over models and numbers of samples, with the frontier.

A point is on the frontier where no other solves as much for less. What a smaller number of samples costs is the part of
the stages that grow with it; the others (what a run reads first, the selection) stay whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot.evaluation.estimates import Interval, powers, shares, table
from bot.evaluation.figures import HEIGHT, LEFT, WIDTH, Figures, height_of, percent, ranged, template
from bot.evaluation.results import MATRICES, TESTS
from bot.evaluation.samples import DRAWN
from bot.evaluation.selectors import Recorded, by_ours, per_task, read_matrices
from bot.lifecycle import RunState
from bot.records import Price, Record, Speed, Usage

DRAWS = 10  # of each number of samples, for what is chosen from them
GROW = (DRAWN, TESTS, str(RunState.TRAJECTORIES))  # stages whose use grows with the samples


@dataclass(frozen=True)
class Source:
    """One evaluation, with the terms of its endpoint."""

    name: str
    figures: Figures
    votes: tuple[Recorded, ...]  # of the tasks that have any
    price: Price | None = None
    speed: Speed | None = None


class Budgeted(Record):
    """One evaluation at one number of samples. Tokens, cost and seconds are a task's."""

    of: str
    samples: int
    coverage: Interval  # any sample solves
    chosen: Interval | None  # what the solver chooses of them does, tests drawn in proportion; None: nothing votes
    tokens: float  # generated
    cost: float | None  # None: no price
    cost_of_pass: float | None  # cost by the share that is solved
    runtime: float | None  # idealized, in seconds; None: no speed
    frontier: bool = False

    @property
    def share(self) -> float:
        """What counts: what is chosen, where anything votes."""
        return (self.chosen or self.coverage).value


def read_source(folder: Path, figures: Figures, price: Price | None, speed: Speed | None) -> Source:
    """The evaluation in a folder, with its votes; `figures`: its report."""
    path = folder / MATRICES
    votes = read_matrices(path.read_text().splitlines()) if path.exists() else []
    return Source(f"{figures.about.model} in {folder.name}", figures, tuple(votes), price, speed)


def points(source: Source, *, seed: int = 0) -> list[Budgeted]:
    """At 1, 2, 4, ... and all samples; none where a task has no sample."""
    figures = source.figures
    counts = [(task.samples, task.solving) for task in figures.tasks]
    most = min((samples for samples, _ in counts), default=0)
    if most == 0:
        return []
    ks = powers(most)
    coverage = table(counts, ks)
    return [_point(source, k, most, shares(coverage[:, i]), np.random.default_rng((seed, k))) for i, k in enumerate(ks)]


def _point(source: Source, k: int, most: int, coverage: Interval, rng: np.random.Generator) -> Budgeted:
    chosen = None
    if source.votes:
        draws = [
            [task.draw(k, round(len(task.test) * k / most), rng) for _ in range(DRAWS if k < most else 1)]
            for task in source.votes
        ]
        chosen = shares(per_task(by_ours, draws))
    used = _part(source.figures, k / most)
    tasks = len(source.figures.tasks)
    cost = source.price.of(used) / tasks if source.price else None
    share = (chosen or coverage).value
    return Budgeted(
        of=source.name,
        samples=k,
        coverage=coverage,
        chosen=chosen,
        tokens=used.completion_tokens / tasks,
        cost=cost,
        cost_of_pass=cost / share if cost is not None and share > 0 else None,
        runtime=source.speed.of(used) / tasks if source.speed else None,
    )


def _part(figures: Figures, part: float) -> Usage:
    """What this part of the samples used, in all tasks."""
    stages = figures.stages or {DRAWN: figures.usage}
    return sum((_times(used, part) if stage in GROW else used for stage, used in stages.items()), Usage())


def _times(used: Usage, part: float) -> Usage:
    return Usage(
        calls=round(used.calls * part),
        prompt_tokens=round(used.prompt_tokens * part),
        cached_tokens=round(used.cached_tokens * part),
        completion_tokens=round(used.completion_tokens * part),
        seconds=used.seconds * part,
        cost=used.cost * part,
    )


def with_frontier(found: Sequence[Budgeted]) -> list[Budgeted]:
    """The points, cheapest first, with those marked that no other beats: by cost, or where a price lacks, by tokens."""
    best = -1.0
    marked = []
    for point in sorted(found, key=lambda point: (paid(point, found), -point.share)):
        marked.append(point.model_copy(update={"frontier": point.share > best}))
        best = max(best, point.share)
    return marked


def paid(point: Budgeted, found: Sequence[Budgeted]) -> float:
    """What the points are compared by: cost where all have one, else generated tokens."""
    return point.cost if priced(found) and point.cost is not None else point.tokens


def priced(found: Sequence[Budgeted]) -> bool:
    """Whether all have a cost, so that costs can be compared."""
    return all(point.cost is not None for point in found)


def text(found: Sequence[Budgeted]) -> str:
    """For the terminal and for documents: Markdown. A star marks the frontier."""
    lines = ["| | samples | any solves | chosen solves | generated | cost | a solved one | runtime | |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    for row in found:
        chosen = ranged(row.chosen) if row.chosen else "-"
        cells = [row.of, f"{row.samples}", ranged(row.coverage), chosen, f"{row.tokens:,.0f}"]
        cells += [_number(row.cost), _number(row.cost_of_pass), _number(row.runtime, " s"), "*" * row.frontier]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", explained(found), ""])


def explained(found: Sequence[Budgeted]) -> str:
    """What the columns are, and by what points are compared."""
    by = "cost" if priced(found) else "generated tokens, since a price lacks (--price MODEL PROMPT COMPLETION)"
    return (
        f"Tokens, cost and idealized runtime are a task's. Marked: no other solves as much for less, by {by}. "
        "What is chosen counts where there are votes, else whether any sample solves."
    )


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.3g}{unit}"


def page(found: Sequence[Budgeted]) -> str:
    """One self-contained HTML page: no script, nothing fetched."""
    return template("frontier.html.j2").render(
        rows=found, plot=_plot(found), explained=explained(found), number=_number, percent=percent, ranged=ranged
    )


def _plot(found: Sequence[Budgeted]) -> dict[str, object]:
    """Coordinates in pixels; x is what is paid, logarithmic, y is the share from 0 to 1."""
    values = np.log10([max(paid(point, found), 1e-9) for point in found])
    low, high = float(values.min()), float(max(values.max(), values.min() + 0.1))

    def x(value: float) -> float:
        return round(LEFT + 8 + (value - low) / (high - low) * (WIDTH - LEFT - 24), 1)

    places = [(x(value), height_of(point.share), point) for value, point in zip(values.tolist(), found, strict=True)]
    names = list(dict.fromkeys(point.of for point in found))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "floor": height_of(0),
        "rows": [(share, height_of(share / 100)) for share in (0, 25, 50, 75, 100)],
        "columns": [(f"{10**value:,.2g}", x(value)) for value in np.linspace(low, high, 5).tolist()],
        "lines": [(i, [(px, py, one) for px, py, one in places if one.of == name]) for i, name in enumerate(names)],
        "names": list(enumerate(names)),
        "frontier": " ".join(f"{px},{py}" for px, py, point in places if point.frontier),
        "axis": "cost a task" if priced(found) else "generated tokens a task",
    }
