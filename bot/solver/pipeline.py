"""The one file that knows the order of the stages.

`solve` is the solver: issue and workbench in, the whole count out. `bot.worker.executor` puts the permission check
before it and the publishing after it; `bot.cli.solve` runs it on a local checkout. It is a function of a journal: run
again after a kill, it replays what was finished and goes on from there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import Field

from bot.contracts import Journal, Model, Progress
from bot.errors import CheckoutError, EndpointError
from bot.journal import PrefixedJournal, once
from bot.lifecycle import RunState
from bot.llm.ability import Ability
from bot.llm.budget import Budget, CappedModel, MeteredModel
from bot.llm.conversation import fitted_issue
from bot.llm.examination import LEAST_BUDGET
from bot.llm.journaled import JournaledModel
from bot.publish.messages.obstacles import words_of
from bot.records import (
    Cause,
    Context,
    Description,
    External,
    Issue,
    OwnTestsReport,
    Record,
    RegressionTest,
    Repeated,
    Report,
    Stopped,
    Trajectory,
    Usage,
    Verdict,
)
from bot.retrieval.source_files import find_tests
from bot.sandbox.journaled import JournaledSandbox
from bot.solver.ballot import Count, count
from bot.solver.editing import editing
from bot.solver.harness import Harness
from bot.solver.models import Models
from bot.solver.profile import ResolvedSolver, resolve
from bot.solver.project import declared_by, disqualifying, own_test_commands
from bot.solver.stages.answering import answer
from bot.solver.stages.choice_machine import Question
from bot.solver.stages.context import build_context
from bot.solver.stages.description import describe
from bot.solver.stages.differential import differentials, with_differentials
from bot.solver.stages.matrix import fill_matrix
from bot.solver.stages.own_tests import on_base, run_own_tests
from bot.solver.stages.probing import probe
from bot.solver.stages.regression_test import RegressionTests
from bot.solver.stages.selection import select
from bot.solver.stages.survey import Survey, for_models, obstacles, other_contents, survey
from bot.solver.stages.trajectories import Sampler
from bot.solver.stages.watched import Watched
from bot.solver.stopping import Seen, seen, stopping
from bot.solver.workbench import Workbench
from bot.tasks import under_way

_WINDOWS = 3  # times that the endpoint may correct its context window

Advance = Callable[[RunState], Awaitable[None]]


class ReadContext(Record):
    """The context, and what reading cost: a resumed run replays none of its calls, but reports them."""

    context: Context
    usage: Usage
    by_stage: dict[str, Usage] = Field(default_factory=dict)  # empty in entries of earlier versions


class Examined(Record):
    """What the main model is able to, and what it cost to find out."""

    ability: Ability | None
    by_stage: dict[str, Usage]


class Started(Record):
    """When the run first began, so that a resumed one reports its whole wall time."""

    at: float  # seconds since the epoch


async def solve(
    issue: Issue,
    bench: Workbench,
    journal: Journal,
    progress: Progress,
    advance: Advance,
    *,
    external: Sequence[External] = (),
    labelled_at: datetime | None = None,
) -> Report:
    """Survey, context, trajectories, matrix, count, the repository's own tests, selection.

    `external`: patches from elsewhere that take part in the vote. Raises `EndpointError` or `SandboxError` where the
    model or the sandbox can't be used at all; bad answers and failing tests end in a report.
    """
    started = await once(journal, "started", Started, _now)

    async def whole() -> Report:
        report = await _Run(issue, bench, journal, progress, advance).report(external)
        return report.model_copy(update={"wall_seconds": time.time() - started.at, "labelled_at": labelled_at})

    return await once(journal, "report", Report, whole)


class _Unseen:
    """A `Progress` that nobody sees."""

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        return None


class _Run:
    """The stages in their order, with what they share: metered models, journaled sandbox, resolved settings."""

    def __init__(self, issue: Issue, bench: Workbench, journal: Journal, progress: Progress, advance: Advance) -> None:
        self._issue = issue
        self._bench = bench
        self._journal: Journal = journal
        self._progress = progress
        self._advance = advance
        self._known = frozenset(bench.checkout.files)
        self._budget = Budget(bench.settings.token_budget, bench.allowance)
        self._models = Models(self._paid(bench.models.main), self._paid(bench.models.relevance))
        self._sandbox = JournaledSandbox(bench.sandbox, journal)
        self._watched = Watched(self._sandbox)  # where the repository's own tests run
        self._commands = own_test_commands(bench.checkout, bench.config, bench.recipe)
        self._solver = self._resolved(None)
        self._declared = declared_by(bench.checkout)
        self._disqualified = disqualifying(bench.checkout, self._commands)

    def _paid(self, model: Model) -> Model:
        price = self._bench.spending.price(model.name)
        capped = CappedModel(model, self._budget, price)
        return MeteredModel(JournaledModel(capped, self._journal), self._budget, price)

    @property
    def _currency(self) -> str:
        """The currency of the costs; "" where a model has no price."""
        spending, models = self._bench.spending, self._bench.models
        priced = all(spending.price(model.name) for model in (models.main, models.relevance))
        return spending.currency if priced else ""

    @property
    def _harness(self) -> Harness:
        return Harness(self._sandbox, self._solver.settings, self._progress)

    def _resolved(self, ability: Ability | None) -> ResolvedSolver:
        resolved = resolve(self._bench.settings, self._bench.models.main, ability)
        return resolved.model_copy(update={"test_commands": self._commands})

    async def report(self, external: Sequence[External]) -> Report:
        checkout = self._bench.checkout
        if not checkout.files:
            raise CheckoutError("the checkout holds no file: there is nothing to solve an issue in")
        await self._advance(RunState.CONTEXT)
        there = await self._survey()
        found = obstacles(there, self._bench.recipe.asked)
        for obstacle in found:
            self._bench.notice(words_of(obstacle))
        self._solver = self._resolved(await self._examined())
        settings = self._solver.settings
        context = await self._read("context", there)
        await self._advance(RunState.TRAJECTORIES)
        self._watched = Watched(self._sandbox)
        async with under_way(on_base(self._commands, self._watched, settings)) as [base]:
            context, trajectories, stopped = await self._sample(context, there, external)
            await self._advance(RunState.MATRIX)
            counted = await self._vote(trajectories, external, base)
        edit = editing(checkout, context.files, repairs=self._solver.repairs_edits, tests=self._commands)
        question = Question(self._issue, context, edit)
        verdict = await select(question, counted, self._models.main, self._sandbox, self._solver, self._progress)
        verdict = (await self._parted(verdict)).model_copy(update={"stopped": stopped})
        if verdict.abstention is not None and not counted.ballot.candidates:
            why = verdict.abstention.model_copy(update={"setback": setback(trajectories)})
            verdict = verdict.model_copy(update={"abstention": why})
        description, test = await self._for_reviewers(question, verdict)
        earlier = self._bench.earlier
        return Report(
            issue=self._issue,
            verdict=verdict,
            context=context,
            trajectories=trajectories,
            usage=self._budget.usage,
            usage_by_stage=self._budget.by_stage,
            cut_short=self._budget.words if self._budget.refused else "",
            currency=self._currency,
            wall_seconds=0.0,
            model=self._bench.models.main.name,
            seed=self._bench.settings.seed,
            environment=self._bench.environment,
            base_commit=checkout.commit if earlier is None else earlier.base_commit,
            base_branch=checkout.branch,
            revision=None if earlier is None else earlier.revision,
            reviewed_commit="" if earlier is None else checkout.commit,
            answers=await self._answers(question, verdict),
            notes=(*self._bench.notes, *self._budget.notes, *self._declared.uncompiled(_touched(verdict))),
            judged=self._bench.config.feedback,
            obstacles=found,
            description=description,
            regression_test=test,
        )

    async def _for_reviewers(
        self, question: Question, verdict: Verdict
    ) -> tuple[Description | None, RegressionTest | None]:
        """The winner's description, and the test that joins the repository, where the settings ask for them."""
        if verdict.winner is None:
            return None, None
        description = test = None
        if self._solver.describes:
            description = await describe(question, verdict, self._models.main, self._solver)
        if self._bench.config.publish_test and self._solver.describes:
            tests = await asyncio.to_thread(find_tests, self._bench.checkout)
            asked = RegressionTests(question, verdict, self._known, tests, self._sandbox, self._solver)
            test = await asked.written(self._models.main)
        return description, test

    async def _parted(self, verdict: Verdict) -> Verdict:
        """With the input on which two behaviours part. A revision asks no question: a reviewer is there to say more."""
        parting = verdict.parting
        if parting is not None and self._bench.earlier is None:
            parting = await probe(parting, verdict.ballot, self._sandbox, self._solver.settings.test_timeout)
        elif parting is not None:
            parting = None
        return verdict.model_copy(update={"parting": parting})

    async def _answers(self, question: Question, verdict: Verdict) -> tuple[str, ...]:
        """To each remark that a revision is to meet."""
        earlier = self._bench.earlier
        if earlier is None or verdict.winner is None or not self._solver.describes:
            return ()
        if earlier.revision.cause is Cause.CHECKS:  # a check reads no answer
            return ()
        return await answer(question, verdict, earlier.revision.remarks, self._models.main, self._solver)

    async def _survey(self) -> Survey:
        """What the sandbox has, asked anew at each start: between two, somebody may have installed what was missing.

        If it is other than when the run began, nothing that ran in the sandbox then counts: the entries of stages and
        jobs begin anew. Replies of models stay, as far as they are asked the same.
        """
        bench = self._bench
        found = await survey(bench.checkout.files, self._declared, bench.sandbox, bench.recipe.asked)
        before = await once(self._journal, "survey", Survey, lambda: _ready(found))
        if found.same_environment(before):
            return before  # to the letter as it was: it is part of every prompt
        self._bench.notice("what tests can use has changed since the run began: they run again")
        self._journal = PrefixedJournal(self._journal, f"environment/{found.digest}/")
        self._sandbox = JournaledSandbox(self._bench.sandbox, self._journal)
        return found

    async def _examined(self) -> Ability | None:
        """What the main model is able to, the same for the whole run; None where nobody asks or knows."""
        bench, limit = self._bench, self._bench.settings.token_budget
        examiner = bench.examiner
        if examiner is None or not self._solver.is_examined or 0 < limit < LEAST_BUDGET:
            return None

        def told(done: int, total: int) -> None:
            words = f"finding out how {bench.models.main.name} writes edits best; asked once"
            self._progress.update(RunState.CONTEXT, done, total, words)

        async def make() -> Examined:
            found = await examiner.ability(self._models.main, bench.endpoint, told=told)
            return Examined(ability=found, by_stage=self._budget.by_stage)

        kept = await once(self._journal, "ability", Examined, make)
        self._budget.by_stage = dict(kept.by_stage)
        return kept.ability

    async def _read(self, key: str, there: Survey) -> Context:
        """The context stored under the key, or chosen now."""

        async def make() -> ReadContext:
            said = for_models(there, self._declared, servers=self._bench.servers, asks=self._solver.looks > 0)
            context = await build_context(
                self._issue,
                self._bench.checkout,
                self._models,
                self._solver,
                self._progress,
                exclude=self._bench.config.exclude,
                environment="\n".join(filter(None, [said, other_contents(self._bench.checkout)])),
            )
            return ReadContext(context=context, usage=self._budget.usage, by_stage=self._budget.by_stage)

        found = await once(self._journal, key, ReadContext, make)
        self._budget.by_stage = dict(found.by_stage) or {RunState.CONTEXT: found.usage}
        return found.context

    async def _sample(
        self, context: Context, there: Survey, external: Sequence[External]
    ) -> tuple[Context, tuple[Trajectory, ...], Stopped | None]:
        """The trajectories, the context that they were shown (a smaller one where the window turns out smaller), and
        by which rule they are fewer than the settings allow.

        Endpoints that list no window name it, if ever, in the error of a prompt that is too long.
        """
        main = self._bench.models.main
        settings = self._solver.settings
        unseen = replace(self._harness, progress=_Unseen())

        async def look(sampled: Sequence[Trajectory]) -> Seen:
            """What the count says of these; the matrix of all replays what runs here."""
            ballot = await fill_matrix(sampled, external, unseen, self._disqualified)
            return seen(ballot, settings.confidence_shift)

        for corrections in range(_WINDOWS + 1):
            window = main.context_window
            try:
                issue = await fitted_issue(self._issue, self._models.main)
                sampler = Sampler(issue, context, self._bench.checkout, self._models.main, self._sandbox, self._solver)
                return context, *await sampler.sampled(self._progress, stopping(settings), look, self._journal)
            except EndpointError:
                if self._budget.spent:  # nothing is wrong with the endpoint; the report says what it is
                    return context, (), None
                learned = main.context_window
                if corrections == _WINDOWS or learned >= window:
                    raise
                self._bench.notice(
                    f"the window of {main.name} is {learned:,} tokens, not {window:,}: choosing files again"
                )
                context = await self._read(f"context/{learned}", there)
        raise AssertionError("the last correction returns or raises")

    async def _vote(
        self, trajectories: Sequence[Trajectory], external: Sequence[External], base: Awaitable[OwnTestsReport]
    ) -> Count:
        """The matrix with its count, and with the repository's own tests on the best-voted candidates."""
        harness = self._harness
        ballot = await fill_matrix(trajectories, external, harness, self._disqualified, self._bench.earlier)
        await self._advance(RunState.SELECTION)
        tests = await asyncio.to_thread(find_tests, self._bench.checkout)
        own = await run_own_tests(ballot, count(ballot), base, replace(harness, sandbox=self._watched), tests)
        counted = Count(ballot, count(ballot, own), own)
        return with_differentials(counted, await differentials(counted, harness))


def setback(trajectories: Sequence[Trajectory]) -> Repeated | None:
    """What most often kept the trajectories from an edit; None where nothing is known."""
    details = Counter(t.detail for t in trajectories if t.patch is None and t.detail)
    if not details:
        return None
    detail, times = details.most_common(1)[0]
    return Repeated(text=" ".join(detail.split())[:300], times=times, of=len(trajectories))


def _touched(verdict: Verdict) -> set[str]:
    """The paths that the winner changes, or any candidate where there is none."""
    candidates = verdict.ballot.candidates
    chosen = candidates if verdict.winner is None else [candidates[verdict.winner]]
    return {path for candidate in chosen for path in candidate.patch.paths}


async def _now() -> Started:
    return Started(at=time.time())


async def _ready(found: Survey) -> Survey:
    return found
