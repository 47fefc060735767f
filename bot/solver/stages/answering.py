"""What a reviewer asked for, answered in the model's own words. It decides nothing, and a revision does without it."""

from collections.abc import Sequence

from bot.contracts import Model
from bot.errors import EndpointError
from bot.llm.conversation import Conversation, shortened
from bot.llm.descriptions import parse_answers
from bot.records import Remark, Verdict
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question, sampling_of
from bot.solver.stages.description import fitted

_DIFF, _REMARK = 20_000, 1_000  # characters


async def answer(
    question: Question, verdict: Verdict, remarks: Sequence[Remark], model: Model, solver: ResolvedSolver
) -> tuple[str, ...]:
    """One answer a remark, in their order; "" for those that the model leaves out, or can't be asked about."""
    assert verdict.winner is not None, "a winner is asked about"
    patch = verdict.ballot.candidates[verdict.winner].patch
    diff = shortened(patch.diff, _DIFF)
    asked = [shortened(remark.feedback.body, _REMARK) for remark in remarks]
    messages = await fitted(question, patch.paths, model, solver, "answers", diff=diff, asked=asked)
    try:
        reply = await Conversation(model, "answers", messages, sampling_of(solver, model)).ask()
    except EndpointError:
        return ("",) * len(remarks)
    found = {} if reply.failed else parse_answers(reply)
    return tuple(found.get(number, "") for number in range(1, len(remarks) + 1))
