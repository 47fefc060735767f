"""The selection: the model chooses among the best, writing new tests; else the first in the count wins, or none."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot.contracts import Model, Progress, Sandbox
from bot.errors import EndpointError, SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.llm.conversation import OVERHEAD, Conversation, Sampling, fitted_issue, opening, shortened
from bot.llm.prompts import render
from bot.llm.replies import Turn, parse_choice_turn
from bot.patch.apply import Problem
from bot.records import (
    Choice,
    Context,
    Ending,
    Execution,
    FileChange,
    Issue,
    Message,
    Outcome,
    Patch,
    Rule,
    SandboxJob,
    Standing,
    Test,
    Verdict,
)
from bot.solver.ballot import Count, abstention, clear_lead, credible, distinct_first, overruled
from bot.solver.profile import ResolvedSolver


async def select(
    issue: Issue,
    context: Context,
    count: Count,
    model: Model,
    sandbox: Sandbox,
    solver: ResolvedSolver,
    progress: Progress,
) -> Verdict:
    """Choose a credible candidate, or abstain.

    The model is not asked where only one candidate is credible. The bundled model, whose choice is worth little, is not
    asked either where one behaviour is clearly ahead (`bot.solver.ballot.clear_lead`); other models are, since patches
    that no test tells apart yet can still differ. Where the model never chooses, the first in the count wins. Raises
    `SandboxUnavailable`; an endpoint that fails ends the selection, not the run.

    A choice against the selection's own evidence (its test fails on the base commit and on the chosen candidate, and
    passes on another) is questioned once.
    """
    ballot, standings = count.ballot, count.standings
    why = abstention(standings, ballot)
    if why is not None:
        return Verdict(
            outcome=Outcome.ABSTAINED,
            winner=None,
            standings=standings,
            abstention=why,
            ballot=ballot,
            own_tests=count.own_tests,
            numbered_by_rank=True,
        )
    able = credible(standings, ballot)
    first = able[0]
    finalists = distinct_first(able, ballot, solver.settings.selection_top)
    if len(able) == 1:
        ended = _End(Rule.ONLY_CREDIBLE)
    elif not solver.asks_on_clear_lead and clear_lead(able, ballot):
        ended = _End(Rule.CLEAR_LEAD)
    else:
        patches = [(standing, ballot.candidates[standing.candidate].patch) for standing in finalists]
        ended = await _Machine(issue, context, patches, model, sandbox, solver, progress).run()
    winner = first if ended.place is None else finalists[ended.place]
    return Verdict(
        outcome=Outcome.SOLVED,
        winner=winner.candidate,
        standings=(winner, *(standing for standing in standings if standing is not winner)),
        choice=_choice(ended, first, finalists, overruled(winner, able)),
        selection_tests=tuple(ended.tests.values()),
        ballot=ballot,
        own_tests=count.own_tests,
        numbered_by_rank=True,
    )


def _choice(ended: "_End", first: Standing, finalists: Sequence[Standing], other: Standing | None) -> Choice:
    """How the winner was chosen. `other`: whom it overruled."""
    asked = ended.rule not in (Rule.ONLY_CREDIBLE, Rule.CLEAR_LEAD)
    return Choice(
        rule=ended.rule,
        front_runner=first.candidate,
        finalists=tuple(standing.candidate for standing in finalists) if asked else (),
        calls=ended.calls,
        passed=tuple(ended.passed.values()),
        error=ended.error,
        overruled=None if other is None else other.candidate,
    )


@dataclass
class _End:
    """What the selection ended with; while the machine runs, what it has so far."""

    rule: Rule
    place: int | None = None  # of the chosen finalist; None: the first in the count wins
    calls: int = 0
    tests: dict[str, Test] = field(default_factory=dict)  # by id
    passed: dict[str, tuple[bool | None, ...]] = field(default_factory=dict)  # on base, then on each finalist
    error: str = ""


class _Machine:
    """Shows the finalists, runs the tests that the model writes on all of them, and ends with its choice."""

    def __init__(
        self,
        issue: Issue,
        context: Context,
        finalists: Sequence[tuple[Standing, Patch]],
        model: Model,
        sandbox: Sandbox,
        solver: ResolvedSolver,
        progress: Progress,
    ) -> None:
        self._patches = [patch for _, patch in finalists]
        self._issue = issue
        self._files = list(context.files)
        self._environment = context.environment
        self._model = model
        self._sandbox = sandbox
        self._settings = solver.settings
        self._progress = progress
        self._solver = solver
        self._end = _End(Rule.NO_CHOICE)
        self._asked_back = False
        self._choices: list[dict[str, object]] = [
            {"number": number, "diff": patch.diff, "votes": standing.votes, "cluster": standing.cluster}
            for number, (standing, patch) in enumerate(finalists, 1)
        ]

    async def run(self) -> _End:
        """Run until the model chooses, the calls are spent or the endpoint fails. Raises `SandboxUnavailable`."""
        messages = await self._opening()
        sampling = Sampling(
            seed=self._settings.seed,
            max_tokens=self._solver.reply_tokens(self._model.context_window),
            temperature=self._settings.selection_temperature,
            grows=self._solver.replies_grow,
        )
        conversation = Conversation(self._model, "selection", messages, sampling)
        end, limit = self._end, self._settings.selection_calls
        while conversation.calls < limit and end.place is None:
            self._progress.update(RunState.SELECTION, conversation.calls, limit)
            try:
                reply = await conversation.ask()
            except EndpointError as error:
                end.rule, end.error = Rule.NO_ANSWER, str(error)
                break
            if reply.failed:
                end.rule = Rule.NO_ANSWER
                break
            turn: Turn | Problem | None = parse_choice_turn(reply)
            if isinstance(turn, Turn) and turn.choice is not None:
                turn = self._choose(turn.choice, last=conversation.calls >= limit)
            if isinstance(turn, Problem):
                problem = turn.text if self._solver.explains_problems else turn.short
                conversation.say(render(self._solver.profile, "unparsed", problem=problem))
            elif turn is not None and turn.test is not None:
                executions = await self._try(turn.test)
                conversation.say(render(self._solver.profile, "select_result", executions=self._labelled(executions)))
        end.calls = conversation.calls
        return end

    def _choose(self, number: int, *, last: bool) -> Problem | None:
        """Take the choice, or say what is wrong with it. `last`: no call is left to answer in."""
        if not 1 <= number <= len(self._patches):
            return Problem(text=f"there is no candidate {number}; they are 1 to {len(self._patches)}")
        against = self._against_evidence(number) if self._solver.argues else ""
        if against and not self._asked_back and not last:
            self._asked_back = True
            return Problem(text=against)
        self._end.rule, self._end.place = Rule.MODEL, number - 1
        return None

    async def _opening(self) -> tuple[Message, ...]:
        """The candidates with as many of the files as the window has room for; then as much of the diffs."""
        issue = await fitted_issue(self._issue, self._model)
        window = self._model.context_window
        room = window - self._solver.reply_tokens(window) - self._solver.later_tokens(window)

        async def composed() -> tuple[tuple[Message, ...], int]:
            shared = {"issue": issue, "files": self._files, "environment": self._environment}
            made = opening(self._solver.profile, "select", **shared, choices=self._choices)
            return made, sum([await self._model.count_tokens(m.content) + OVERHEAD for m in made])

        messages, size = await composed()
        while size > room and self._files:
            size -= await self._model.count_tokens(self._files.pop().text)
            if size <= room or not self._files:
                messages, size = await composed()
        for limit in (40_000, 10_000, 2_500, 600):  # characters
            if size <= room:
                break
            self._choices = [choice | {"diff": shortened(str(choice["diff"]), limit)} for choice in self._choices]
            messages, size = await composed()
        return messages

    def _against_evidence(self, number: int) -> str:
        """What contradicts the choice of that number: a test that reproduces the bug, which another alone passes."""
        for n, row in enumerate(self._end.passed.values(), 1):
            better = [i for i, cell in enumerate(row[1:], 1) if cell is True]
            if row[0] is False and row[number] is False and better:
                others = " and ".join(f"candidate {i}" for i in better)
                return (
                    f"candidate {number} fails your test {n}, which fails on the original repository and which "
                    f"{others} passes\nIf the issue demands what that test checks, choose another candidate; if the "
                    "test is wrong, say why, and choose again."
                )
        return ""

    def _labelled(self, executions: Sequence[Execution]) -> list[dict[str, object]]:
        """As the template takes them."""
        labels = ["original", *(f"candidate {number}" for number in range(1, len(executions)))]
        shown: list[dict[str, object]] = [
            {"label": label, "execution": execution} for label, execution in zip(labels, executions, strict=True)
        ]
        return shown if self._solver.argues else shown[1:]

    async def _try(self, test: Test) -> list[Execution]:
        """Run the test on the base commit, then on each finalist, and keep what it did."""
        trees: list[tuple[FileChange, ...]] = [(), *(patch.changes for patch in self._patches)]
        executions = list(await asyncio.gather(*(self._run(changes, test) for changes in trees)))
        self._end.tests[test.id] = test
        self._end.passed[test.id] = tuple(None if e.ending is Ending.UNAVAILABLE else e.passed for e in executions)
        return executions

    async def _run(self, changes: tuple[FileChange, ...], test: Test) -> Execution:
        try:
            return await self._sandbox.run(SandboxJob(changes=changes, test=test, timeout=self._settings.test_timeout))
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            return Execution(ending=Ending.UNAVAILABLE, output=str(error))
