"""The winner described for its reviewer, in the model's own words. It decides nothing, and a run does without it."""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from bot.contracts import Model
from bot.errors import EndpointError
from bot.llm.conversation import Conversation, fitted_issue, opening, shortened, sizes_of
from bot.llm.descriptions import parse_description
from bot.llm.prompts import render
from bot.patch.apply import Problem
from bot.records import Ballot, Description, Issue, Message, Reply, Test, Verdict
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question, sampling_of

_Found = TypeVar("_Found")
_CALLS = 2
_DIFF, _TEST = 20_000, 4_000  # characters


async def describe(question: Question, verdict: Verdict, model: Model, solver: ResolvedSolver) -> Description | None:
    """None where the model says nothing that can be used, or can't be asked."""
    assert verdict.winner is not None, "a winner is described"
    diff = shortened(verdict.ballot.candidates[verdict.winner].patch.diff, _DIFF)
    script = telling_test(verdict.ballot, verdict.winner)
    test = None if script is None else script.model_copy(update={"text": shortened(script.text, _TEST)})
    paths = verdict.ballot.candidates[verdict.winner].patch.paths
    messages = await fitted(question, paths, model, solver, "description", diff=diff, test=test)
    conversation = Conversation(model, "description", messages, sampling_of(solver, model))

    async def read(reply: Reply) -> Description | Problem:
        return parse_description(reply)

    return await answered(conversation, read, solver, _CALLS)


async def answered(
    conversation: Conversation,
    read: Callable[[Reply], Awaitable[_Found | Problem]],
    solver: ResolvedSolver,
    calls: int,
) -> _Found | None:
    """What the first reply says that can be used; None where none of `calls` does, or the model can't be asked.

    The model is told what is wrong with the others.
    """
    while conversation.calls < calls:
        try:
            reply = await conversation.ask()
        except EndpointError:
            return None
        if reply.failed:
            return None
        found = await read(reply)
        if not isinstance(found, Problem):
            return found
        conversation.say(render(solver.profile, "unparsed", problem=found.text), refuses=True)
    return None


def telling_test(ballot: Ballot, winner: int) -> Test | None:
    """The test that says most of the winner: of those that it passes the one that most other candidates fail.

    Of several the shortest. None where it passes none that reproduces the bug. Pure.
    """
    passed = [t for t in ballot.voting if ballot.cells[winner][t] is True]
    failed = {t: sum(row[t] is False for row in ballot.cells) for t in passed}
    best = min(passed, key=lambda t: (-failed[t], len(ballot.tests[t].text), t), default=None)
    return None if best is None else ballot.tests[best]


async def fitted(
    question: Question, paths: Collection[str], model: Model, solver: ResolvedSolver, name: str, **values: object
) -> tuple[Message, ...]:
    """The opening of a conversation after the choice, with as many of the changed files as the window has room for.

    `paths`: of the chosen patch. What else the model was shown was for finding it.
    """
    issue: Issue = await fitted_issue(question.issue, model)
    files = [file for file in question.context.files if file.path in paths]
    room = solver.opening_tokens(model.context_window)
    while True:
        environment = question.context.environment
        messages = opening(solver.profile, name, issue=issue, files=files, environment=environment, **values)
        size = sum(await sizes_of(messages, model))
        if size <= room or not files:
            return messages
        del files[len(files) // 2 :]  # the least relevant come last
