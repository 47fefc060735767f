"""The choice among the finalists: what is known of it, and the short form for small models.

Such a model sees the diffs, may write tests that run on all finalists, and names one.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bot.contracts import Model, Progress, Sandbox
from bot.errors import EndpointError, SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.llm.conversation import OVERHEAD, Conversation, Sampling, fitted_issue, opening, shortened
from bot.llm.prompts import render
from bot.llm.replies import Turn, parse_choice_turn
from bot.patch.apply import Problem
from bot.records import (
    Context,
    Ending,
    Execution,
    FileChange,
    Issue,
    Message,
    Rule,
    SandboxJob,
    Standing,
    Struck,
    Test,
)
from bot.solver.ballot import Count, credible, distinct_first
from bot.solver.editing import Apply
from bot.solver.profile import ResolvedSolver


@dataclass(frozen=True)
class Question:
    """What is to be resolved, in which repository."""

    issue: Issue
    context: Context
    edit: Apply | None = None  # applies edits; None: the model may write no patch of its own


@dataclass
class End:
    """What the selection ended with; while it is under way, what it has so far. Candidates by index in the ballot."""

    rule: Rule
    count: Count  # with what the selection changed of it
    winner: int | None = None  # None: the first in the count wins
    calls: int = 0
    tests: dict[str, Test] = field(default_factory=dict)  # by id
    passed: dict[str, tuple[bool | None, ...]] = field(default_factory=dict)  # on base, then on each candidate
    compared: tuple[int, ...] = ()  # those candidates, where they are not the finalists alone
    struck: tuple[Struck, ...] = ()
    declined: str | None = None  # why none resolves the issue, in the model's words
    error: str = ""


def finalists_of(count: Count, solver: ResolvedSolver) -> tuple[Standing, ...]:
    """The standings that the model chooses among, the best of each behaviour first."""
    able = credible(count.standings, count.ballot)
    return distinct_first(able, count.ballot, solver.settings.selection_top)


def sampling_of(solver: ResolvedSolver, model: Model) -> Sampling:
    """How the replies of a selection are sampled."""
    return Sampling(
        seed=solver.settings.seed,
        max_tokens=solver.reply_tokens(model.context_window),
        temperature=solver.settings.selection_temperature,
        grows=solver.replies_grow,
    )


async def run_test(sandbox: Sandbox, changes: tuple[FileChange, ...], test: Test, seconds: float) -> Execution:
    """The test on the tree with these changes; unavailable where the sandbox failed at it.

    Raises `SandboxUnavailable`.
    """
    try:
        return await sandbox.run(SandboxJob(changes=changes, test=test, timeout=seconds))
    except SandboxUnavailable:
        raise
    except SandboxError as error:
        return Execution(ending=Ending.UNAVAILABLE, output=str(error))


def against_evidence(passed: Iterable[tuple[bool | None, ...]], number: int) -> str:
    """What contradicts the choice of that number: a test that reproduces the bug, which another alone passes. Pure.

    `passed`: of each test, on the base commit and then on the candidates from 1.
    """
    for n, row in enumerate(passed, 1):
        better = [i for i, cell in enumerate(row[1:], 1) if cell is True]
        if row[0] is False and row[number] is False and better:
            others = " and ".join(f"candidate {i}" for i in better)
            return (
                f"candidate {number} fails your test {n}, which fails on the original repository and which "
                f"{others} passes\nIf the issue demands what that test checks, choose another candidate; if the "
                "test is wrong, say why, and choose again."
            )
    return ""


class Choosing:
    """Shows the finalists, runs the tests that the model writes on all of them, and ends with its choice."""

    def __init__(
        self,
        question: Question,
        count: Count,
        model: Model,
        sandbox: Sandbox,
        solver: ResolvedSolver,
        progress: Progress,
    ) -> None:
        context = question.context
        finalists = finalists_of(count, solver)
        patches = [(standing, count.ballot.candidates[standing.candidate].patch) for standing in finalists]
        self._finalists = finalists
        self._patches = [patch for _, patch in patches]
        self._issue = question.issue
        self._files = list(context.files)
        self._environment = context.environment
        self._model = model
        self._sandbox = sandbox
        self._settings = solver.settings
        self._progress = progress
        self._solver = solver
        self._end = End(Rule.NO_CHOICE, count)
        self._asked_back = False
        self._choices: list[dict[str, object]] = [
            {"number": number, "diff": patch.diff, "votes": standing.votes, "cluster": standing.cluster}
            for number, (standing, patch) in enumerate(patches, 1)
        ]

    async def run(self) -> End:
        """Run until the model chooses, the calls are spent or the endpoint fails. Raises `SandboxUnavailable`."""
        messages = await self._opening()
        sampling = sampling_of(self._solver, self._model)
        conversation = Conversation(self._model, "selection", messages, sampling)
        end, limit = self._end, self._settings.selection_calls
        while conversation.calls < limit and end.winner is None:
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
        against = against_evidence(self._end.passed.values(), number) if self._solver.argues else ""
        if against and not self._asked_back and not last:
            self._asked_back = True
            return Problem(text=against)
        self._end.rule, self._end.winner = Rule.MODEL, self._finalists[number - 1].candidate
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
        executions = list(
            await asyncio.gather(
                *(run_test(self._sandbox, changes, test, self._settings.test_timeout) for changes in trees)
            )
        )
        self._end.tests[test.id] = test
        self._end.passed[test.id] = tuple(None if e.ending is Ending.UNAVAILABLE else e.passed for e in executions)
        return executions
