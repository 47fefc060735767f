"""Replies that can't be used: shown to the model once, then asked for anew."""

from bot.llm.conversation import Conversation
from bot.llm.prompts import render
from bot.patch.apply import Problem
from bot.solver.profile import ResolvedSolver


class Mistakes:
    """The kinds of problems that one conversation was told of since something of it was last of use."""

    def __init__(self, conversation: Conversation, solver: ResolvedSolver) -> None:
        self._conversation = conversation
        self._solver = solver
        self._kinds: set[str] = set()

    def tell(self, problem: Problem) -> None:
        """Show the model what was wrong; where it can't learn from that, or does not, ask the same question again."""
        if self._solver.resamples or self._conversation.repeats or problem.kind in self._kinds:
            self._conversation.restart()
            self._kinds.clear()
        else:
            self._kinds.add(problem.kind)
            self._conversation.say(render(self._solver.profile, "unparsed", problem=problem.text))

    def clear(self) -> None:
        self._kinds.clear()
