"""What an evaluation came to, as one record, and as a page and a text for people. Pure."""

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pydantic import Field

from bot.evaluation.estimates import Estimates, Interval
from bot.evaluation.samples import About
from bot.records import Record, Usage

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 48, 32  # of the plot, in pixels


class TaskCount(Record):
    """One task's samples."""

    id: str
    samples: int
    solving: int
    selected: bool | None  # whether the selected patch solves it; None: nothing was selected, or to select


class Chosen(Record):
    """How often one way of choosing picks a solving candidate."""

    method: str
    share: Interval  # of the tasks with tests


class Sureness(Record):
    """Whether the probability of a verdict means what it says, on the matrices."""

    choices: int
    expected: float  # mean probability
    right: float  # share of the choices that was right
    low: float = 0.0  # between this share and `high` chance alone leaves it, where the probabilities are true
    high: float = 1.0
    shift: float  # added to the log-odds, it brings the two together


class Figures(Record):
    """All that is reported. Shares are between 0 and 1."""

    about: About
    wanted: int  # samples a task
    estimates: Estimates | None  # None: a task has no sample yet
    selected: Interval | None = None  # share of tasks whose selected patch solves; None: functions
    matrices: int = 0  # tasks with a vote matrix
    selectors: tuple[Chosen, ...] = ()  # on the matrices
    sureness: Sureness | None = None  # on the matrices
    usage: Usage
    stages: dict[str, Usage] = Field(default_factory=dict)  # what it went into; {} in reports of earlier versions
    cost: float | None = None  # None: no price was given
    cost_of_pass: float | None = None  # cost of all samples by the number that solve; None: without either
    runtime: float | None = None  # idealized, in seconds a task; None: no speed was given
    left_out: tuple[str, ...] = ()  # tasks that could not be judged here, with the reason
    tasks: tuple[TaskCount, ...] = ()


def percent(share: float) -> str:
    return f"{share:.1%}"


def ranged(interval: Interval) -> str:
    """`45.3% (40.1% to 50.2%)`."""
    return f"{percent(interval.value)} ({percent(interval.low)} to {percent(interval.high)})"


def budgets(estimates: Estimates) -> list[str]:
    """A sentence for each target that the samples do not reach yet."""
    reached = estimates.curve[-1].coverage.value
    lines = []
    for budget in estimates.budgets:
        if budget.target <= reached:
            continue
        if budget.samples is None:
            lines.append(f"{budget.target:.0%} coverage is out of reach by the law")
            continue
        low = "1" if budget.low is None else f"{budget.low:,}"
        high = "no limit" if budget.high is None else f"{budget.high:,}"
        lines.append(
            f"{budget.target:.0%} coverage needs about {budget.samples:,} samples (95% interval {low} to {high})"
        )
    return lines


def text(figures: Figures) -> str:
    """For the terminal and for documents: Markdown."""
    about, found = figures.about, figures.estimates
    lines = [f"{about.tasks}: {about.number} tasks, model {about.model}"]
    lines += [f"left out: {words}" for words in figures.left_out]
    if found is None:
        return "\n".join([*lines, "no figures yet: a task has no sample", ""])
    lines += ["", "| samples | coverage | 95% interval | law |", "|---:|---:|---:|---:|"]
    for point in found.curve:
        c = point.coverage
        law = percent(point.law) if point.law is not None else "-"
        lines.append(f"| {point.k} | {percent(c.value)} | {percent(c.low)} to {percent(c.high)} | {law} |")
    lines.append("")
    if found.a is not None and found.b is not None and found.residual is not None:
        lines.append(
            f"Law: log coverage = {found.a:.3f} k^{found.b:.3f}; it misses the curve by {100 * found.residual:.2f} "
            "points (root mean square)."
        )
    if found.forecast is not None:
        cast = found.forecast
        error = "-" if math.isnan(cast.error) else f"{cast.error:+.1%}"
        lines.append(
            f"Check: from the first {cast.fitted} samples the law forecasts {percent(cast.forecast)} at {cast.k}; "
            f"measured {percent(cast.measured)} ({error})."
        )
    lines += [f"{words}." for words in budgets(found)]
    if figures.selected is not None:
        lines.append(f"Selected: {ranged(figures.selected)}.")
    if words := stopped_in_words(figures):
        lines.append(words)
    if figures.selectors:
        lines += ["", f"Choosing one sample, on the {figures.matrices} tasks that the model wrote tests for:", ""]
        lines += ["| method | right | 95% interval |", "|---|---:|---:|"]
        for chosen in figures.selectors:
            share = chosen.share
            lines.append(
                f"| {chosen.method} | {percent(share.value)} | {percent(share.low)} to {percent(share.high)} |"
            )
        lines.append("")
    if figures.sureness is not None:
        lines += [sure_in_words(figures.sureness), ""]
    lines.append(_spent(figures))
    return "\n".join([*lines, ""])


def stopped_in_words(figures: Figures) -> str:
    """How many samples the rule that stops the sampling left of those that were asked for; "" without one."""
    if figures.about.stop is None or not figures.tasks:
        return ""
    drawn = sum(task.samples for task in figures.tasks) / len(figures.tasks)
    return f"Stopped by {figures.about.stop}: {drawn:.1f} of {figures.wanted:,} samples a task."


def sure_in_words(sureness: Sureness) -> str:
    """Two sentences."""
    chance = f"{percent(sureness.low)} to {percent(sureness.high)}"
    within = "which chance alone explains" if sureness.low <= sureness.right <= sureness.high else "which is no chance"
    return (
        f"Of {sureness.choices} choices that a vote speaks for, the count expects {percent(sureness.expected)} to be "
        f"right; {percent(sureness.right)} are, {within} (95% of the time it leaves {chance}). "
        f"`TROOP_SOLVER_CONFIDENCE_SHIFT={sureness.shift:.2f}` fits this model."
    )


def _spent(figures: Figures) -> str:
    usage = figures.usage
    words = f"{usage.calls:,} calls, {usage.prompt_tokens:,} prompt tokens ({usage.cached_tokens:,} from cache), "
    words += f"{usage.completion_tokens:,} generated"
    if len(figures.stages) > 1:
        sizes = {stage: used.prompt_tokens + used.completion_tokens for stage, used in figures.stages.items()}
        words += f"; by stage: {', '.join(f'{stage} {size:,}' for stage, size in sizes.items() if size)}"
    if figures.cost is not None:
        words += f"; cost {figures.cost:,.4g}"
    if figures.cost_of_pass is not None:
        words += f", {figures.cost_of_pass:,.4g} a solving sample"
    if figures.runtime is not None:
        words += f"; idealized runtime {figures.runtime:,.4g} s a task"
    return f"{words}."


def template(name: str) -> Template:
    """A page beside this module."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


def page(figures: Figures) -> str:
    """One self-contained HTML page: no script, nothing fetched."""
    found = figures.estimates
    return template("report.html.j2").render(
        figures=figures,
        estimates=found,
        budgets=budgets(found) if found else [],
        spent=_spent(figures),
        plot=_plot(found) if found else None,
        percent=percent,
        ranged=ranged,
        sure_in_words=sure_in_words,
        stopped=stopped_in_words(figures),
    )


def height_of(share: float) -> float:
    """Where a share between 0 and 1 is in a plot, in pixels from the top."""
    return round((1 - share) * (HEIGHT - BOTTOM - 8) + 8, 1)


def _plot(found: Estimates) -> dict[str, object]:
    """Coordinates of the curve, its band and the law, in pixels; x is logarithmic, y is coverage from 0 to 1."""
    most = max(2, found.samples)

    def x(k: float) -> float:
        return round(LEFT + math.log(k) / math.log(most) * (WIDTH - LEFT - 16), 1)

    points = [(x(p.k), height_of(p.coverage.value)) for p in found.curve]
    above = [(x(p.k), height_of(p.coverage.high)) for p in found.curve]
    below = [(x(p.k), height_of(p.coverage.low)) for p in reversed(found.curve)]
    law = []
    if found.a is not None and found.b is not None:
        fine = [most ** (i / 60) for i in range(61)]
        law = [(x(k), height_of(math.exp(found.a * k**found.b))) for k in fine]

    def path(places: list[tuple[float, float]]) -> str:
        return " ".join(f"{px},{py}" for px, py in places)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "points": points,
        "band": path(above + below),
        "law": path(law),
        "rows": [(share, height_of(share / 100)) for share in (0, 25, 50, 75, 100)],
        "columns": [(p.k, x(p.k)) for p in found.curve],
        "floor": height_of(0),
    }
