"""`troop eval frontier`: what share of the tasks several evaluations solve at which cost."""

from collections.abc import Sequence
from pathlib import Path

import click

from bot.atomic import SHARED, write_text
from bot.cli.evaluate import rate
from bot.errors import EvaluationError
from bot.evaluation.files import written_to
from bot.evaluation.frontier import page, points, read_source, text, with_frontier
from bot.evaluation.results import read_report
from bot.records import Price, Speed

Terms = Sequence[tuple[str, float, float]]  # of a model or a folder, by name: of prompts, and of what is generated


def compare(folders: Sequence[Path], out: Path | None, prices: Terms, speeds: Terms) -> int:
    """Print the table, and write page and JSON; the exit status. Raises `EvaluationError`."""
    reports = {folder: read_report(folder) for folder in folders}
    if len({report.about.digest for report in reports.values()}) > 1:
        click.echo("these evaluations are of different tasks: their shares can't be held against each other", err=True)
    models = {folder: report.about.model for folder, report in reports.items()}
    price, speed = _by_folder(prices, models, "--price"), _by_folder(speeds, models, "--speed")
    found = []
    for folder in folders:
        rates = rate(Price, price.get(folder)), rate(Speed, speed.get(folder))
        source = read_source(folder, reports[folder], *rates)
        of_source = points(source)
        if not of_source:
            click.echo(f"{folder}: a task has no sample yet: it is left out", err=True)
        found += of_source
    if not found:
        raise EvaluationError("none of these evaluations has samples of all its tasks: run the same command again")
    rows = with_frontier(found)
    click.echo(text(rows))
    if out is not None:
        with written_to(out):
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / "frontier.html", page(rows), SHARED)
            write_text(out / "frontier.json", f"[{','.join(row.model_dump_json() for row in rows)}]\n", SHARED)
        click.echo(f"{out / 'frontier.html'} and the file beside it hold it.")
    return 0


def _by_folder(terms: Terms, models: dict[Path, str], option: str) -> dict[Path, tuple[float, float]]:
    """What was given for a model or for a folder, the folder's own before its model's."""
    given = {name: (prompt, completion) for name, prompt, completion in terms}
    known = {*models.values(), *(folder.name for folder in models)}
    if unknown := [name for name in given if name not in known]:
        names = ", ".join(sorted(known))
        raise EvaluationError(f"{option} {unknown[0]}: no evaluation is of that name; they are {names}")
    return {f: given[name] for f, model in models.items() for name in (model, f.name) if name in given}
