"""The choice among the finalists: what is known of it, and the conversation that both forms have in common."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field

from bot.contracts import Model, Progress, Sandbox
from bot.errors import EndpointError, SandboxError
from bot.lifecycle import RunState
from bot.llm.conversation import Conversation, Sampling
from bot.llm.prompts import render
from bot.patch.apply import Problem
from bot.records import (
    Context,
    Ending,
    Execution,
    FileChange,
    Issue,
    Message,
    Reply,
    Rule,
    SandboxJob,
    Standing,
    Struck,
    Test,
)
from bot.solver.ballot import Count, credible, distinct_first, one_of_each
from bot.solver.editing import Apply
from bot.solver.harness import attempt
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
    known: tuple[int, ...] = ()  # the candidates, in the order in which the model knows them by numbers from 1
    compared: tuple[int, ...] = ()  # those of `passed`, where they are not the finalists alone
    struck: tuple[Struck, ...] = ()
    declined: str | None = None  # why none resolves the issue, in the model's words
    error: str = ""


def finalists_of(count: Count, solver: ResolvedSolver) -> tuple[Standing, ...]:
    """The standings that the model chooses among, the best of each behaviour first.

    A small model chooses among behaviours alone: patches that no test tells apart are for a capable one to read.
    """
    able = credible(count.standings, count.ballot)
    able = able if solver.deliberates else one_of_each(able, count.ballot)
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
    found = await attempt(sandbox, SandboxJob(changes=changes, test=test, timeout=seconds))
    return Execution(ending=Ending.UNAVAILABLE, output=str(found)) if isinstance(found, SandboxError) else found


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


@dataclass(eq=False)
class ChoiceMachine(ABC):
    """Shows the finalists, and ends with the model's choice. What may be said in between is the subclass's."""

    _question: Question
    count: InitVar[Count]
    _model: Model
    _sandbox: Sandbox
    _solver: ResolvedSolver
    _progress: Progress

    def __post_init__(self, count: Count) -> None:
        self._end = End(Rule.NO_CHOICE, count)
        self._files = list(self._question.context.files)
        self._finalists = [standing.candidate for standing in finalists_of(count, self._solver)]
        self._known = list(self._finalists)  # candidate indices, by the number that the model knows them by, less one
        self._asked_back = False
        self._meant: int | None = None  # a choice that stands unless the model decides otherwise

    async def run(self) -> End:
        """Run until the model decides, the calls are spent or the endpoint fails. Raises `SandboxUnavailable`."""
        messages = await self._opening()
        conversation = Conversation(self._model, "selection", messages, sampling_of(self._solver, self._model))
        end, limit = self._end, self._solver.settings.selection_calls
        while conversation.calls < limit and end.winner is None and end.declined is None:
            self._progress.update(RunState.SELECTION, conversation.calls, limit)
            try:
                reply = await conversation.ask()
            except EndpointError as error:
                end.rule, end.error = Rule.NO_ANSWER, str(error)
                break
            if reply.failed:
                end.rule = Rule.NO_ANSWER
                break
            answer = await self._answer(reply, last=conversation.calls >= limit)
            if isinstance(answer, Problem):
                told = answer.text if self._solver.explains_problems else answer.short
                conversation.say(render(self._solver.profile, "unparsed", problem=told), refuses=True)
            elif answer:
                conversation.say(answer)
        end.calls = conversation.calls
        if end.winner is None and end.declined is None and self._meant in self._eligible():
            end.rule, end.winner, end.error = Rule.MODEL, self._meant, ""
        end.known = tuple(self._known)
        end.compared = end.known if len(end.known) > len(self._finalists) else ()
        return end

    def _eligible(self) -> list[int]:
        """The candidates that may win, as the count is now."""
        return [standing.candidate for standing in credible(self._end.count.standings, self._end.count.ballot)]

    @abstractmethod
    async def _opening(self) -> tuple[Message, ...]:
        """What the model is shown first."""

    @abstractmethod
    async def _answer(self, reply: Reply, *, last: bool) -> str | Problem:
        """What to say to the reply, or what is wrong with it; "" where it decided.

        `last`: no call is left to answer in.
        """

    def _unknown(self, number: int) -> Problem | None:
        if 1 <= number <= len(self._known):
            return None
        return Problem(text=f"there is no candidate {number}; they are 1 to {len(self._known)}")

    def _contradicted(self, number: int) -> Problem | None:
        """What of the selection's own evidence contradicts the choice; once, so that the model may insist."""
        against = "" if self._asked_back else against_evidence(self._end.passed.values(), number)
        self._asked_back = self._asked_back or bool(against)
        return Problem(text=against) if against else None

    async def _executed(self, test: Test) -> list[Execution]:
        """Run the test on the base commit, then on each known candidate, and keep what it did."""
        candidates = self._end.count.ballot.candidates
        trees: list[tuple[FileChange, ...]] = [(), *(candidates[c].patch.changes for c in self._known)]
        timeout = self._solver.settings.test_timeout
        ran = list(await asyncio.gather(*(run_test(self._sandbox, changes, test, timeout) for changes in trees)))
        self._end.tests[test.id] = test
        self._end.passed[test.id] = tuple(None if e.ending is Ending.UNAVAILABLE else e.passed for e in ran)
        return ran
