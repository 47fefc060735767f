"""`troop solve`: the solver on a local checkout, without GitHub."""

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import click
from pydantic import BaseModel, SecretStr

from bot.cli.claim import claimed
from bot.cli.console import print_report
from bot.cli.issue_text import read_issue
from bot.cli.one_object import print_failure, print_object
from bot.cli.progress import ConsoleProgress
from bot.cli.report_object import as_object
from bot.cli.running import SAID
from bot.cli.say import say
from bot.cli.terminal import Terminal
from bot.errors import BuildFailed, BundleError, Refused, TroopError
from bot.forge.branches import local_branch_of
from bot.forge.issue_url import issue_at, of_origin
from bot.forge.local import LocalCheckout
from bot.git.build_artifacts import copy_built, remove_built
from bot.git.checkout import check_out
from bot.git.import_diff import read_patch
from bot.journal import FileJournal
from bot.lifecycle import RunState
from bot.llm.bundled_engine import configured_engine
from bot.llm.transcript import PROMPTS, transcript
from bot.publish.bundle import written
from bot.publish.messages.build import told_at_console
from bot.publish.messages.reason import reason
from bot.records import Checkout, External, Issue, Outcome, Report
from bot.sanitize.redact import redact_strings
from bot.scratch import ScratchFolder
from bot.settings import Settings, SolverSettings, read_settings
from bot.solver.pipeline import solve
from bot.solver.stopping import with_rule
from bot.solver.workbench import Audience, Workbench, open_workbench
from bot.web.report_page import standalone

S = TypeVar("S", bound=BaseModel)
_QUIET = 3.0  # seconds
_REMOVING = "removing the copies of the repository; all else is done"


@dataclass(frozen=True)
class SolveOptions:
    """What the command line gives; None leaves the setting as it is."""

    path: Path
    issue_text: str
    issue_url: str = ""  # instead of the text: its address on GitHub
    as_json: bool = False
    base_url: str | None = None
    model: str | None = None
    engine_model: str | None = None
    api_key: str | None = None
    trajectories: int | None = None
    stop: str | None = None  # a `StopRule`
    seed: int | None = None
    profile: Literal["auto", "full", "compact"] | None = None
    sandbox: Literal["auto", "docker", "process"] | None = None
    image: str | None = None
    patches: tuple[Path, ...] = ()
    branches: tuple[str, ...] = ()  # whose changes are candidates
    branch: bool = True
    own_tests_timeout: float | None = None  # seconds; comes before the repository's config
    fresh: bool = False
    bundle: Path | None = None  # where what `troop verify` reads is written
    page: Path | None = None  # where the run is written as one HTML file


def settings_of(options: SolveOptions) -> Settings:
    """The environment's settings with the command line's on top."""
    settings = read_settings()
    settings = _without_key_of_another_host(settings, options)
    # Troop's own variable comes before the one of other programs.
    unset = "api_key" not in settings.main.model_fields_set
    key = options.api_key or (os.environ.get("OPENAI_API_KEY") if unset else None)
    main = _changed(
        settings.main, base_url=options.base_url, name=options.model, api_key=SecretStr(key) if key else None
    )
    # The command line names one endpoint for both roles.
    named = options.base_url is not None or options.engine_model is not None
    relevance = type(settings.relevance)() if named else settings.relevance
    if options.engine_model is not None:  # comes before the environment's endpoint, which has another model
        main = type(main)(name=options.model or "")
    solver = _changed(
        settings.solver,
        trajectories=options.trajectories,
        seed=options.seed,
        profile=options.profile,
        own_tests_timeout=options.own_tests_timeout,
    )
    solver = with_rule(solver, options.stop) if options.stop else solver
    sandbox = _changed(settings.sandbox, kind=options.sandbox, image=options.image)
    changed = {"main": main, "relevance": relevance, "solver": solver, "sandbox": sandbox}
    return _changed(settings, engine_model=options.engine_model, **changed)


def _without_key_of_another_host(settings: Settings, options: SolveOptions) -> Settings:
    """`TROOP_MAIN_API_KEY` belongs to `TROOP_MAIN_BASE_URL`: another host does not get it."""
    configured, named = settings.main.base_url, options.base_url
    if not configured or named is None or options.api_key or urlsplit(named).netloc == urlsplit(configured).netloc:
        return settings
    if settings.main.api_key.get_secret_value() != "none":
        click.echo(
            f"troop: TROOP_MAIN_API_KEY is not sent to {urlsplit(named).netloc}, since it is for TROOP_MAIN_BASE_URL; "
            "--api-key gives another",
            err=True,
        )
    main = settings.main.model_copy(update={"api_key": SecretStr("none")})
    return settings.model_copy(update={"main": main})


def _changed(settings: S, **changes: object) -> S:
    return settings.model_copy(update={name: value for name, value in changes.items() if value is not None})


async def solve_locally(options: SolveOptions) -> str:
    """Solve, write the branch, print, remove copies; the outcome's name. With `as_json` stdout is one JSON object."""
    outcome = ""
    removing: asyncio.TimerHandle | None = None
    try:
        with ConsoleProgress() as progress:
            async with _solved(options, progress) as (report, branch):
                progress.close()
                _print(options, report, branch)
                outcome = report.verdict.outcome.value
                removing = asyncio.get_running_loop().call_later(_QUIET, progress.say, _REMOVING)
    except TroopError as error:
        if isinstance(error, BuildFailed):
            say(told_at_console(error), err=True)
        if outcome or not options.as_json:
            raise
        say(f"troop: {error}", err=True)
        print_failure("solve", str(error))
        return Outcome.FAILED.value
    except asyncio.CancelledError as interruption:  # by a signal; whatever was started has ended
        interruption.add_note(SAID)
        if not outcome:
            click.echo("troop: interrupted; run the same command again to continue", err=True)
            if options.as_json:
                print_failure("solve", "interrupted")
        raise
    finally:
        if removing is not None:
            removing.cancel()
    return outcome


def _print(options: SolveOptions, report: Report, branch: str) -> None:
    print_report(report, Terminal(stderr=options.as_json, soft_wrap=options.as_json))
    if branch:
        click.echo(f"\nthe fix is on the branch {branch}: git merge {branch}", err=options.as_json)
    if options.as_json:
        print_object(as_object(report) | {"branch": branch})


@contextlib.asynccontextmanager
async def _solved(options: SolveOptions, progress: ConsoleProgress) -> AsyncIterator[tuple[Report, str]]:
    """The report and the branch, before what the run needed is removed: that may take long."""
    settings = settings_of(options)
    url = options.issue_url
    host = LocalCheckout(options.path, progress.say)
    if url:
        url = of_origin(url, await host.origin(), settings)
    issue = await asyncio.to_thread(issue_at, url, settings) if url else read_issue(options.issue_text)
    if not issue.title:
        raise TroopError("the issue is empty; its first line is the title, the rest its text")
    async with contextlib.AsyncExitStack() as stack:
        scratch = await ScratchFolder.fresh()  # swept by the next one if this process is killed
        stack.push_async_callback(asyncio.to_thread, scratch.close)
        work = scratch.path
        progress.update(RunState.CHECKOUT, 0, 0, str(options.path))
        checkout = await check_out(host, "", work / "checkout")
        external = await _external(options, host, checkout)
        endpoint = settings.main.base_url
        if not endpoint:
            endpoint = await stack.enter_async_context(configured_engine(settings, _engine_log(), progress.say))
        bench = await stack.enter_async_context(_bench(settings, checkout, endpoint, options.path, progress.say))
        bench = replace(bench, settings=_given(options, bench.settings))
        path = _journal_path(settings, checkout, issue, bench.models.main.name, external)
        journal = FileJournal(path)
        stack.callback(journal.close)
        stack.enter_context(claimed(await host.git_folder(), path.stem))
        if options.fresh:
            journal.close(discard=True)
            journal = FileJournal(journal.path)
        if journal.entries:
            done = sum(not key.startswith(PROMPTS) for key in journal.entries)
            progress.say(f"continuing an interrupted attempt: {done} steps are done (--fresh starts again)")
        try:
            report = await solve(issue, bench, journal, progress, _anywhere, external=external)
            # A folder within a repository, or one without git, can hold no branch.
            can_branch = options.branch and host.is_repository
            branch = await _write_branch(host, checkout, report, progress.say) if can_branch else ""
            if options.page is not None:
                text = _page(report, journal.entries, settings.secrets())
                await asyncio.to_thread(_write, options.page, text, "shows the run", progress.say)
            if options.bundle is not None:
                await asyncio.to_thread(_write_bundle, options.bundle, report, settings, progress.say)
        except BaseException:
            journal.close()
            raise
        journal.close(discard=True)
        yield report, branch


def _given(options: SolveOptions, settings: SolverSettings) -> SolverSettings:
    """What the command line gives comes before the repository's config."""
    own = _changed(settings, own_tests_timeout=options.own_tests_timeout)
    return with_rule(own, options.stop) if options.stop else own


async def _external(options: SolveOptions, host: LocalCheckout, checkout: Checkout) -> tuple[External, ...]:
    """The candidates from elsewhere that the command line names. Raises `CheckoutError`."""
    diffs = [(str(path), _text(path)) for path in options.patches]
    diffs += [(f"branch {name}", await host.diff_of(name)) for name in options.branches]
    return tuple([External(patch=await read_patch(checkout, diff, name), source=name) for name, diff in diffs])


def _write_bundle(path: Path, report: Report, settings: Settings, say: Callable[[str], None]) -> None:
    try:
        text = written(report, settings.secrets())
    except BundleError as error:
        say(str(error))
        return
    _write(path, text, f"holds the count: troop verify {path}", say)


def _page(report: Report, entries: Mapping[str, str], secrets: Sequence[str]) -> str:
    """The run with its conversations, without secrets."""
    report = Report.model_validate(redact_strings(report.model_dump(mode="json"), secrets))
    names = {f"trajectory-{one.index}": f"trajectory/{one.index}/" for one in report.trajectories}
    names["selection"] = "selection/"

    def get(key: str) -> str | None:
        entry = entries.get(key)
        return None if entry is None else json.dumps(redact_strings(json.loads(entry), secrets))

    conversations = {name: transcript(key, entries, get) for name, key in names.items()}
    return standalone(report, {name: found for name, found in conversations.items() if found})


def _write(path: Path, text: str, what: str, say: Callable[[str], None]) -> None:
    """A file that can't be written loses nothing else."""
    try:
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        say(f"{path} can't be written ({error.strerror}); the result is not lost")
        return
    say(f"{path} {what}")


@contextlib.asynccontextmanager
async def _bench(
    settings: Settings, checkout: Checkout, endpoint: str, path: Path, say: Callable[[str], None]
) -> AsyncIterator[Workbench]:
    """The workbench. Its sandbox also has what a build left in `path`; models don't read that, and no commit has it."""
    place = await asyncio.to_thread(path.resolve)
    root = Path(checkout.root)
    built, left_out = await copy_built(place, root)
    heard: list[str] = []

    def notice(words: str) -> None:
        heard.append(words)
        say(words)

    async with contextlib.AsyncExitStack() as stack:
        try:
            bench = await stack.enter_async_context(
                open_workbench(
                    settings,
                    checkout.model_copy(update={"repository": str(place)}),
                    base_url=endpoint,
                    venv_of=path,
                    audience=Audience(notice=notice, tell=say),
                )
            )
        finally:
            await asyncio.to_thread(remove_built, root, built)
        say(f"model {bench.models.main.name}, window {bench.models.main.context_window:,} tokens")
        for note in bench.notes:
            if note not in heard:
                say(note)
        if built:
            more = f" and {len(built) - 1:,} more" if len(built) > 1 else ""
            say(f"tests also see what git ignores and a build wrote: {built[0]}{more}")
        if left_out:
            say(left_out)
        yield bench


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


async def _anywhere(state: RunState) -> None:
    """No database records the stage."""


def _state() -> Path:
    """The folder of what outlives the command. Raises `TroopError` where it can't be written."""
    named = os.environ.get("XDG_STATE_HOME")
    try:
        folder = (Path(named) if named else Path.home() / ".local" / "state") / "troop"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # that it can be written shows only when it is
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        where = f"XDG_STATE_HOME={named}" if named else "~/.local/state"
        why = getattr(error, "strerror", None) or str(error)
        raise TroopError(
            f"{where} can't be written ({why}), so that an interrupted attempt could not go on; set XDG_STATE_HOME "
            "to a folder that can"
        ) from error
    return folder


def _engine_log() -> Path:
    """The file with the engine's output, which stays until the next command."""
    path = _state() / "engine.log"
    path.unlink(missing_ok=True)
    return path


def _journal_path(
    settings: Settings, checkout: Checkout, issue: Issue, model: str, external: tuple[External, ...]
) -> Path:
    """A file for each different task, so that only the same task continues from it."""
    parts = [checkout.commit, issue.model_dump_json(), model, settings.main.base_url, settings.solver.model_dump_json()]
    parts += [settings.sandbox.model_dump_json(), *(f"{other.patch.id} {other.source}" for other in external)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return _state() / f"{name}.jsonl"


async def _write_branch(host: LocalCheckout, checkout: Checkout, report: Report, say: Callable[[str], None]) -> str:
    """Write the winner's branch; its name. "" where there is no winner, or where the branch can't be written."""
    verdict = report.verdict
    if verdict.winner is None:
        return ""
    patch = report.published(verdict.winner)
    message = f"{report.issue.title[:72]}\n\n{reason(report)}"
    commit = await host.commit(checkout, patch, message, None)
    branch = local_branch_of(report.issue, patch)
    try:
        await host.push("", Path(checkout.workspace), branch, commit, force=True)
    except Refused as error:  # the result is shown all the same
        say(str(error))
        return ""
    return branch
