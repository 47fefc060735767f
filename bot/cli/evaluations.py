"""`troop eval` and its commands. Each imports what it needs when it runs, so that `--help` answers at once."""

from pathlib import Path
from typing import Any

import click

from bot.cli.options import endpoint, image, sandbox, stop_rule
from bot.cli.running import errors_told, finished
from bot.cli.say import say

price = click.option(
    "--price",
    nargs=2,
    type=click.FloatRange(0),
    metavar="PROMPT COMPLETION",
    help="Of a million tokens, for the cost.",
)
tests_from = click.option(
    "--tests-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="The tests of this evaluation of functions vote, and no others.",
)
speed = click.option(
    "--speed",
    nargs=2,
    type=click.FloatRange(0, min_open=True),
    metavar="PROMPT COMPLETION",
    help="Tokens a second, for the idealized runtime: the prompt's that no cache has, then the reply's.",
)


@click.group("eval")
def evaluation() -> None:
    """Measure a model, or the whole solver, on a benchmark: coverage, its law and forecast, selection, cost."""


@evaluation.command("run")
@click.argument("tasks")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for samples and report. The same command goes on from what is there.")  # fmt: skip
@click.option("--samples", "-n", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Of each task.")
@click.option("--tests", type=click.IntRange(0, 1000), default=0, show_default=True,
              help="Replies with tests that the model writes for each function, several in each: they vote, and ways "
              "of choosing one sample are compared.")  # fmt: skip
@tests_from
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.6, show_default=True, help="Functions only.")
@click.option("--form", type=click.Choice(("chat", "completion")), default="chat", show_default=True,
              help="How functions are asked for: as a question, or for base models as a head to complete.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True,
              help="Of one reply. Functions only.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Only so many tasks, spread evenly over the file.")
@click.option("--at-once", type=click.IntRange(1, 4096),
              help="Samples under way at once, or repositories.  [default: $TROOP_MAIN_CONCURRENCY, or 1 repository]"
              )  # fmt: skip
@click.option("--base-url", callback=endpoint,
              help="OpenAI-compatible API.  [default: $TROOP_MAIN_BASE_URL or the bundled engine]")  # fmt: skip
@click.option("--model", help="Model name at that endpoint.  [default: $TROOP_MAIN_NAME or the first that it lists]")
@click.option("--engine-model", metavar="NAME|PATH",
              help="A published model (`troop models`), a GGUF file or a checkpoint's folder, served by Troop's own "
              "engine.  [default: $TROOP_ENGINE_MODEL]")  # fmt: skip
@click.option("--api-key", help="Key of the endpoint.  [default: $TROOP_MAIN_API_KEY or $OPENAI_API_KEY]")
@click.option("--seed", type=int, help="Seed of the sampling.  [default: 0]")
@stop_rule
@sandbox
@image
@click.option("--checkouts", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder with clones, as owner__name; others are fetched from GitHub. May be repeated.")  # fmt: skip
@click.option("--images", default="", metavar="NAME",
              help="Each task's tests run in an image of its own: {id} is the task's id as SWE-bench's images have it "
              "(swebench/sweb.eval.x86_64.{id}:latest), others in braces are fields of the task.")  # fmt: skip
@click.option("--test-command", metavar="COMMAND",
              help="How the hidden tests are run: a command with {tests} in the place of their names.  [default: what "
              "the names suggest: pytest, unittest, Django's or SymPy's runner]")  # fmt: skip
@price
@speed
@click.option("--reward", nargs=2, metavar="URL MODEL",
              help="With --tests: a reward model chooses as well, behind an API with /rerank, as vLLM's "
              "http://HOST:8000/v1.")  # fmt: skip
@click.option("--reward-key", default="", envvar="REWARD_API_KEY", help="Its key.  [default: $REWARD_API_KEY]")
def eval_run(**given: Any) -> None:
    """Draw samples of TASKS, judge each, and report.

    TASKS is `humaneval` (fetch it with `troop models humaneval`) or a file in the form of HumanEval, HumanEval+,
    SWE-bench or Multi-SWE-bench. A function's samples are single replies; a repository's are the trajectories of one
    run of the solver, fewer with --stop, and what it selects is reported too. Exit 0 all judged, 3 some tasks could not
    be judged here, 1 failed.
    """
    from bot.cli.evaluate import options_and_settings, run

    options, settings = options_and_settings(given)
    raise SystemExit(finished(lambda: run(options, settings)))


@evaluation.command("ensemble")
@click.argument("tasks")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for matrices and figures. The same command goes on from what is there.")  # fmt: skip
@tests_from
@sandbox
@image
def eval_ensemble(tasks: str, folders: tuple[Path, ...], out: Path, tests_from: Path | None, **given: Any) -> None:
    """Count the evaluations in FOLDERS together: do several models choose better than the best of them?

    TASKS is what they were run on, with --tests unless --tests-from names others. All tests run on all candidates, and
    each member alone is held against an equal part of each, and against all of each. No model is asked.
    """
    from bot.cli.ensemble import combine
    from bot.cli.solve import SolveOptions, settings_of

    if len(folders) < 2:
        raise click.UsageError("an ensemble has two members or more: name their folders")
    settings = settings_of(SolveOptions(path=Path(), issue_text="", **given))
    raise SystemExit(finished(lambda: combine(tasks, folders, out, tests_from, settings)))


@evaluation.command("frontier")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the page and the JSON.")
@click.option("--price", "prices", nargs=3, type=(str, click.FloatRange(0), click.FloatRange(0)), multiple=True,
              metavar="NAME PROMPT COMPLETION",
              help="Of a model or a folder, a million tokens. May be repeated.")  # fmt: skip
@click.option("--speed", "speeds", nargs=3, multiple=True, metavar="NAME PROMPT COMPLETION",
              type=(str, click.FloatRange(0, min_open=True), click.FloatRange(0, min_open=True)),
              help="Tokens a second of a model or a folder, for the idealized runtime. May be repeated.")  # fmt: skip
def eval_frontier(
    folders: tuple[Path, ...],
    out: Path | None,
    prices: tuple[tuple[str, float, float], ...],
    speeds: tuple[tuple[str, float, float], ...],
) -> None:
    """Hold the evaluations in FOLDERS against each other: what share of the tasks is solved at which cost.

    Each is shown at 1, 2, 4, ... samples, with its tokens, cost, cost of a solved task and idealized runtime, and what
    no other beats is marked. They should be of the same tasks. No model is asked.
    """
    from bot.cli.frontier import compare

    with errors_told():
        raise SystemExit(compare(folders, out, prices, speeds))


@evaluation.command("plant")
@click.argument("package", metavar="NAME==VERSION")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for tasks.jsonl and the repository; must be empty or new.")  # fmt: skip
@click.option("--number", type=click.IntRange(1, 1000), default=10, show_default=True, help="Of bugs.")
@click.option("--per-file", type=click.IntRange(1), default=5, show_default=True, help="At most so many in one file.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bugs.")
def eval_plant(package: str, out: Path, number: int, per_file: int, seed: int) -> None:
    """Plant one-line bugs in a pure-Python package of the registry, as tasks for `troop eval run`.

    Functions with doctests are taken; an example that comes out differently makes the issue, all others judge (so
    TROOP_SOLVER_EXAMPLES=0 keeps them from the solver, which else runs those that hold with the bug). The package's
    code runs in the sandbox only.
    """
    from bot.cli.plant import plant_package

    raise SystemExit(finished(lambda: plant_package(package, out, number, per_file, seed)))


@evaluation.command("report")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@price
@speed
def eval_report(folder: Path, price: tuple[float, float] | None, speed: tuple[float, float] | None) -> None:
    """Print the report of an evaluation again."""
    from bot.cli.evaluate import rate, report
    from bot.records import Price, Speed

    with errors_told():
        raise SystemExit(report(folder, rate(Price, price), rate(Speed, speed)))


@evaluation.command("feedback")
@click.argument("repository", required=False, default="")
@click.option("--forget", is_flag=True, help="Delete what is kept of the repository instead.")
def eval_feedback(repository: str, forget: bool) -> None:
    """Show what people made of winners, by REPOSITORY (owner/name) or for all, and what that changed.

    Merges, closes, reverts, verdicts of reviews and `/troop use` are kept in the database of TROOP_DATABASE_URL and
    sent nowhere. TROOP_FEEDBACK=false keeps nothing more; `[feedback] keep = false` in a repository's .troop.toml
    deletes what is kept of it at its next run.
    """
    from bot.cli.feedback import forget_all, show

    if forget and not repository:
        raise click.UsageError("--forget needs a repository, as owner/name")
    for line in forget_all(repository) if forget else show(repository):
        say(line)
