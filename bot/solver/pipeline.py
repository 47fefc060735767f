"""The one file that knows the order of the stages.

`solve` is the solver: issue and checkout in, the whole count out. `bot.worker.executor` puts the permission check
before it and the publishing after it; `bot.cli.solve` runs it on a local checkout. It is a function of a journal: run
again after a kill, it replays what was finished and goes on from there.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from bot.contracts import Journal, Model, Progress, Sandbox
from bot.errors import CheckoutError, EndpointError
from bot.journal import once
from bot.lifecycle import RunState
from bot.llm.budget import Budget, CappedModel, MeteredModel
from bot.llm.client import OpenAIModel
from bot.llm.journaled import JournaledModel
from bot.patch.policy import judge as judge_paths
from bot.patch.protected_files import touched_judges
from bot.records import Checkout, Context, FileChange, Issue, Patch, Record, Report, Trajectory, Usage
from bot.repo_config import FILE_NAME, ConfigProblem, RepoConfig, honour, parse
from bot.sandbox.journaled import JournaledSandbox
from bot.settings import Settings, SolverSettings
from bot.solver import ballot as ballots
from bot.solver.profile import resolve
from bot.solver.stages.context import build_context
from bot.solver.stages.matrix import fill_matrix
from bot.solver.stages.own_tests import detect, on_base, run_own_tests
from bot.solver.stages.selection import select
from bot.solver.stages.survey import Survey, for_models, for_people, survey
from bot.solver.stages.trajectories import sample_trajectories

_CONFIG_SIZE = 1_000_000  # characters
_BUILD_FILES = re.compile(r"pyproject\.toml|setup\.(cfg|py)|tox\.ini|requirements[^/]*\.txt|package\.json")

R = TypeVar("R")
Advance = Callable[[RunState], Awaitable[None]]


@dataclass(frozen=True)
class Models:
    """The two roles, connected."""

    main: Model
    relevance: Model


@asynccontextmanager
async def open_models(settings: Settings, default_base_url: str = "", user: str | None = None) -> AsyncIterator[Models]:
    """The models that the settings name, connected; `user` names the run to them. Raises `EndpointError`."""
    main = OpenAIModel(settings.main, "main", default_base_url, user)
    relevance = OpenAIModel(settings.relevance, "relevance", user=user) if settings.relevance.base_url else main
    try:
        await main.connect()
        await relevance.connect()
        yield Models(main, relevance)
    finally:
        await main.close()
        await relevance.close()


class ReadContext(Record):
    """The context, and what reading cost: a resumed run replays none of its calls, but tells of them."""

    context: Context
    usage: Usage


class Started(Record):
    """When the run first began, so that a resumed one tells its whole wall time."""

    at: float  # seconds since the epoch


def read_config(checkout: Checkout, settings: Settings) -> tuple[RepoConfig, tuple[str, ...]]:
    """The repository's own config as far as the server honours it, and what is wrong with it or ignored, in words."""
    path = Path(checkout.root) / FILE_NAME
    if FILE_NAME not in checkout.files:
        return RepoConfig(), ()
    config = parse(_beginning(path))
    if isinstance(config, ConfigProblem):
        return RepoConfig(), (str(config),)
    return honour(config, settings)


def _beginning(path: Path) -> str:
    """The text of a file that may be of any size; what is longer than any config is not read."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_CONFIG_SIZE)


def own_test_commands(checkout: Checkout, config: RepoConfig) -> tuple[tuple[str, ...], ...]:
    """The repository's own test command: from its config, else what its files tell."""

    def read(path: str) -> str | None:
        try:
            return _beginning(Path(checkout.root) / path)
        except OSError:
            return None

    return (config.test_command,) if config.test_command else detect(checkout.files, read)


def build_files(checkout: Checkout) -> str:
    """The text of the files at the root that name the project and what it depends on."""
    found = []
    for path in filter(_BUILD_FILES.fullmatch, checkout.files):
        with contextlib.suppress(OSError):
            found.append(_beginning(Path(checkout.root) / path))
    return "\n".join(found)[:_CONFIG_SIZE]


def solver_settings(settings: SolverSettings, config: RepoConfig) -> SolverSettings:
    """The settings of this run: what the repository set of its own, where the server let it."""
    changes: Mapping[str, object] = {
        name: value
        for name, value in (("trajectories", config.trajectories), ("own_tests_timeout", config.test_timeout))
        if value is not None
    }
    return settings.model_copy(update=dict(changes))


async def solve(
    issue: Issue,
    checkout: Checkout,
    config: RepoConfig,
    models: Models,
    sandbox: Sandbox,
    settings: SolverSettings,
    journal: Journal,
    progress: Progress,
    advance: Advance,
    *,
    foreign: Sequence[Patch] = (),
    notes: Sequence[str] = (),
    notice: Callable[[str], None] = lambda words: None,
    labelled_at: datetime | None = None,
) -> Report:
    """Survey, context, trajectories, matrix, count, the repository's own tests, selection.

    `foreign`: candidates from elsewhere that take part in the vote. `notice` gets at once what the operator should
    know. Raises `EndpointError` or `SandboxError` where the
    model or the sandbox can't be used at all; whatever a model answers or a test does ends in a report.
    """
    started = await once(journal, "started", Started, _now)

    async def whole() -> Report:
        budget = Budget(settings.token_budget)

        def paid(model: Model) -> Model:
            return MeteredModel(JournaledModel(CappedModel(model, budget), journal), budget)

        main, reader = paid(models.main), paid(models.relevance)
        judge = JournaledSandbox(sandbox, journal)
        solver = resolve(solver_settings(settings, config), models.main)
        known = frozenset(checkout.files)

        def disqualified(changes: Sequence[FileChange]) -> str:
            touched = touched_judges(changes, known.__contains__)
            refused = judge_paths(Patch(changes=tuple(changes), diff="")).refused
            return touched or "; ".join(refused)

        declared = build_files(checkout)
        if not checkout.files:
            raise CheckoutError("the checkout holds no file: there is nothing to solve an issue in")

        async def read() -> ReadContext:
            context = await build_context(
                issue,
                checkout,
                relevance=reader,
                main=main,
                solver=solver,
                progress=progress,
                exclude=config.exclude,
                environment=for_models(there, declared),
            )
            return ReadContext(context=context, usage=budget.usage)

        await advance(RunState.CONTEXT)
        there = await once(journal, "survey", Survey, lambda: survey(checkout.files, declared, sandbox))
        surveyed = for_people(there)
        for words in surveyed:
            notice(words)
        found = await once(journal, "context", ReadContext, read)
        context, budget.usage = found.context, found.usage
        await advance(RunState.TRAJECTORIES)
        commands = own_test_commands(checkout, config)
        async with begun(on_base(commands, judge, solver.settings)) as base:
            for last in (False, False, False, True):
                window = models.main.context_window
                try:
                    trajectories = await sample_trajectories(
                        issue, context, checkout, model=main, sandbox=judge, solver=solver, progress=progress
                    )
                    break
                except EndpointError:
                    learned = models.main.context_window
                    if last or learned >= window:
                        raise
                    # Not before a prompt was too long for it did the endpoint tell its window.
                    notice(
                        f"the window of {models.main.name} is {learned:,} tokens, not {window:,}: choosing files anew"
                    )
                    found = await once(journal, f"context/{learned}", ReadContext, read)
                    context, budget.usage = found.context, found.usage
            await advance(RunState.MATRIX)
            ballot = await fill_matrix(trajectories, foreign, judge, solver.settings, disqualified, progress)
            await advance(RunState.SELECTION)
            own = await run_own_tests(ballot, ballots.count(ballot), base, judge, solver.settings, progress)
        standings = ballots.count(ballot, own)
        verdict = await select(
            issue, context, ballot, standings, main, judge, solver.settings, solver.profile, progress, own
        )
        if not ballot.candidates and (why := common_detail(trajectories)):
            verdict = verdict.model_copy(update={"reason": f"{verdict.reason} {why}"})
        return Report(
            issue=issue,
            verdict=verdict,
            context=context,
            trajectories=trajectories,
            usage=budget.usage,
            wall_seconds=time.time() - started.at,
            model=models.main.name,
            base_commit=checkout.commit,
            notes=(*notes, *surveyed, *budget.notes),
            labelled_at=labelled_at,
        )

    return await once(journal, "report", Report, whole)


def common_detail(trajectories: Sequence[Trajectory]) -> str:
    """What most often kept the trajectories from an edit, as a sentence; "" where nothing is known."""
    details = Counter(t.detail for t in trajectories if t.patch is None and t.detail)
    if not details:
        return ""
    detail, times = details.most_common(1)[0]
    return f"{times} of {len(trajectories)} ended so: {' '.join(detail.split())[:300]}."


@asynccontextmanager
async def begun(work: Coroutine[object, object, R]) -> AsyncIterator[asyncio.Task[R]]:
    """Work that goes on beside what is within, and ends with it."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _now() -> Started:
    return Started(at=time.time())
