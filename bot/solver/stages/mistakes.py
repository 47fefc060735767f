"""Replies that can't be used: shown to the model once, then asked for anew, in another form if there is one."""

from bot.llm.conversation import Conversation
from bot.llm.prompts import render
from bot.patch.apply import Problem
from bot.solver.profile import ResolvedSolver

_PATIENCE = 2  # replies with one kind of mistake before another form is asked for


class Mistakes:
    """The kinds of problems that one conversation was told of since something of it was last of use."""

    def __init__(self, conversation: Conversation, solver: ResolvedSolver) -> None:
        self._conversation = conversation
        self._solver = solver
        self._kinds: set[str] = set()
        self._refused: dict[str, int] = {}  # replies with each kind of mistake, over all restarts

    def tell(self, problem: Problem) -> None:
        """Show the model what was wrong; where it can't learn from that, or does not, ask the same question again."""
        times = self._refused[problem.kind] = self._refused.get(problem.kind, 0) + 1
        if times == _PATIENCE:  # this form is beyond the model
            self._refused.clear()
            self._conversation.reword()
        if self._solver.resamples or self._conversation.repeats or problem.kind in self._kinds:
            self._conversation.restart()
            self._kinds.clear()
        else:
            self._kinds.add(problem.kind)
            self._conversation.say(render(self._solver.profile, "unparsed", problem=problem.text), refuses=True)

    def clear(self) -> None:
        self._kinds.clear()
        self._refused.clear()
