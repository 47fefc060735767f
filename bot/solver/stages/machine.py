"""What the test machine and the edit machine have in common: asking, looking around, and refusing a reply.

A reply that can't be used is shown to the model with what was wrong. If it repeats an earlier reply word for word, the
model does not correct itself, and the conversation starts again. So it does after two replies with a mistake of one
kind, unless something that came in between was of use.
"""

import enum

from bot.contracts import Sandbox
from bot.llm.conversation import Conversation
from bot.patch.apply import Problem
from bot.records import Execution, FileChange, Reply, SandboxJob, Test
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.looking import Looking
from bot.solver.stages.mistakes import Mistakes

ORIGINAL = "original"  # label of executions on the base commit


class Event(enum.StrEnum):
    """What happens to a machine."""

    WRITTEN = "written"  # something new to run: a test, or an edit that applies
    DONE = "done"  # the model said so of what it wrote last
    UNUSABLE = "unusable"  # the reply could not be used
    LOOKED = "looked"  # commands ran, and the model was shown what they print
    RAN = "ran"  # the sandbox ran the test
    PASSED = "passed"  # ... and the edit passes; the model is not asked
    AGAIN = "again"  # ... and what was written is of no use; another is sampled
    NO_CALLS = "no calls"  # the budget is spent, or the model said twice that nothing is to be changed
    NO_ANSWER = "no answer"  # the endpoint failed for good


class Machine:
    """One conversation. `_test`: the last that the model wrote."""

    def __init__(
        self, conversation: Conversation, sandbox: Sandbox, solver: ResolvedSolver, test: Test | None = None
    ) -> None:
        self._conversation = conversation
        self._sandbox = sandbox
        self._solver = solver
        self._test = test
        self._detail = ""  # the last thing that went wrong
        self._mistakes = Mistakes(conversation, solver)
        self._looking = Looking(conversation, sandbox, solver)

    async def _ask(self, calls: int, changes: tuple[FileChange, ...] = ()) -> Reply | Event:
        """A reply that does more than look around, or what happened instead. `calls`: that there may be at most."""
        if self._conversation.calls - self._looking.calls >= calls:
            return Event.NO_CALLS
        reply = await self._conversation.ask()
        if reply.failed:
            self._detail = reply.text
            return Event.NO_ANSWER
        if await self._looking.answered(reply, changes, self._test):
            return Event.LOOKED
        problem = self._looking.refused(reply)
        return self._unusable(problem) if problem else reply

    def _unusable(self, problem: Problem) -> Event:
        self._detail = problem.short
        self._mistakes.tell(problem)
        return Event.UNUSABLE

    async def _run(self, changes: tuple[FileChange, ...] = ()) -> Execution:
        """The test on the base commit with these changes."""
        assert self._test is not None
        timeout = self._solver.settings.test_timeout
        return await self._sandbox.run(SandboxJob(changes=changes, test=self._test, timeout=timeout))
