"""The test machine of one trajectory: write a test, run it on the base commit, approve or revise it.

```mermaid
stateDiagram-v2
    [*] --> writing
    writing --> running: a test
    writing --> writing: a reply that can't be used, or commands to look around
    running --> reviewing: it ran
    running --> writing: sampled again, since it passes on the base commit, or is itself at fault
    reviewing --> running: another test
    reviewing --> reviewing: a reply that can't be used, or commands to look around
    reviewing --> approved: approved
    writing --> spent: no calls left
    reviewing --> spent: no calls left
    writing --> failed: the endpoint failed
    reviewing --> failed: the endpoint failed
```

A test that fails for a fault of its own (it imports what the repository does not have and the issue does not name) is
of no use and can't be approved.

Where attempts are sampled again (`ResolvedSolver.resamples`), the model is shown only a test that fails as a test
should, to approve or revise. A test that passes, or that Python can't import or parse, is dropped, and the same
question is asked with another seed. If none is approved, the last that failed as it should is taken, else the last that
ran.
"""

import enum
import re
from dataclasses import dataclass
from typing import assert_never

from bot.contracts import Sandbox
from bot.llm.conversation import Conversation
from bot.llm.prompts import render
from bot.llm.replies import parse_test_turn
from bot.llm.test_script import bound, imported, statements
from bot.patch.apply import Problem
from bot.records import Execution, Issue, Reply, Test
from bot.retrieval.module_names import Names
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.looking import Look
from bot.solver.stages.machine import ORIGINAL, Event, Machine

_OWN_FAULTS = ("ImportError", "IndentationError", "ModuleNotFoundError", "NameError", "SyntaxError")


class State(enum.StrEnum):
    """Where a test machine is."""

    WRITING = "writing"  # the model is asked for a test
    RUNNING = "running"  # the test runs on the base commit
    REVIEWING = "reviewing"  # the model sees the run and approves or revises
    APPROVED = "approved"  # the model confirmed the test
    SPENT = "spent"  # no calls left; the last test that ran is taken
    FAILED = "failed"  # the endpoint failed


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.WRITING, Event.WRITTEN): State.RUNNING,
    (State.WRITING, Event.UNUSABLE): State.WRITING,
    (State.WRITING, Event.LOOKED): State.WRITING,
    (State.WRITING, Event.NO_CALLS): State.SPENT,
    (State.WRITING, Event.NO_ANSWER): State.FAILED,
    (State.RUNNING, Event.RAN): State.REVIEWING,
    (State.RUNNING, Event.AGAIN): State.WRITING,
    (State.REVIEWING, Event.WRITTEN): State.RUNNING,
    (State.REVIEWING, Event.UNUSABLE): State.REVIEWING,
    (State.REVIEWING, Event.LOOKED): State.REVIEWING,
    (State.REVIEWING, Event.DONE): State.APPROVED,
    (State.REVIEWING, Event.NO_CALLS): State.SPENT,
    (State.REVIEWING, Event.NO_ANSWER): State.FAILED,
}


@dataclass(frozen=True)
class TestEnd:
    """What a test machine ended with."""

    __test__ = False  # not a pytest class

    state: State
    test: Test | None
    calls: int
    detail: str = ""  # the last thing that went wrong
    seen: tuple[Look, ...] = ()  # what commands printed on the base commit


def at_fault(execution: Execution, issue: Issue) -> bool:
    """Whether a test fails for a fault of its own: a misspelt name or broken syntax that the issue does not mention."""
    last = execution.output.rstrip().rpartition("\n")[2]
    kind = last.partition(":")[0]
    return kind in _OWN_FAULTS and kind not in f"{issue.title}\n{issue.body}"


def own_fault(execution: Execution, issue: Issue, test: Test) -> str:
    """The last line of a run that certainly fails for the test's own fault; "" where the issue may be about that.

    A module that the issue names may be what it asks for; an undefined name in the script itself never is.
    """
    last = execution.output.rstrip().rpartition("\n")[2]
    if execution.passed or not at_fault(execution, issue):
        return ""
    frames = re.findall(r'^  File "([^"\n]+)"', execution.output, re.MULTILINE)
    if last.startswith("NameError") and frames and frames[-1].rpartition("/")[2] == test.path:
        return last
    missing = re.search(r"'([\w.]+)'", last.partition(":")[2])
    named = missing is not None and missing[1].split(".")[-1] in f"{issue.title}\n{issue.body}"
    return "" if named else last


class TestMachine(Machine):
    """Runs one conversation to its end."""

    __test__ = False  # not a pytest class

    def __init__(
        self, conversation: Conversation, sandbox: Sandbox, solver: ResolvedSolver, issue: Issue, names: Names
    ) -> None:
        super().__init__(conversation, sandbox, solver)
        self._issue = issue
        self._names = names
        self._quoted = statements(issue.body)
        self._failing: Test | None = None  # the last that failed as a test should, and was shown to the model
        self._execution: Execution | None = None
        self._doubted = False  # whether the model was told that its approved test passes on the base commit

    async def run(self) -> TestEnd:
        """Run the conversation to its end. Raises `EndpointError`, `SandboxError`."""
        state = State.WRITING
        while True:
            match state:
                case State.WRITING | State.REVIEWING:
                    event = await self._call(state)
                case State.RUNNING:
                    event = await self._execute()
                case State.APPROVED | State.SPENT | State.FAILED:
                    test = self._test if state is State.APPROVED else self._failing or self._test
                    return TestEnd(state, test, self._conversation.calls, self._detail, self._looking.seen)
                case _:
                    assert_never(state)
            state = TRANSITIONS[state, event]

    async def _call(self, state: State) -> Event:
        reply = await self._ask(self._solver.settings.test_calls)
        return reply if isinstance(reply, Event) else self._read(reply, state)

    def _read(self, reply: Reply, state: State) -> Event:
        turn = parse_test_turn(reply, written=state is State.REVIEWING)
        if isinstance(turn, Problem):
            return self._unusable(turn)
        test = turn.test
        if test is not None and test.path.endswith(".py") and self._solver.resamples:
            # a small model forgets the steps that the issue gives, and imports
            test = test.model_copy(update={"text": imported(bound(test.text, self._quoted), self._names)})
        if test is not None and test != self._test:
            self._test = test
            return Event.WRITTEN
        # The same test again is an approval in other words.
        if state is State.WRITING:
            return self._unusable(Problem(text="no <test> found\nThere is no test to approve yet: write one."))
        fault = own_fault(self._execution, self._issue, self._test) if self._execution and self._test else ""
        if fault:
            return self._unusable(
                Problem(
                    text=f"the test fails for a reason of its own: {fault[:300]}\n"
                    "That does not show the issue. Write the whole script again, for this repository: import only what "
                    "the files above define."
                )
            )
        if self._execution is not None and self._execution.passed and not self._doubted:
            self._doubted = True
            return self._unusable(
                Problem(
                    text="the test passes on the untouched repository, so it does not show the issue\n"
                    "Write a test that fails there because of what the issue describes. If you are sure of this one, "
                    "approve it again."
                )
            )
        return Event.DONE

    async def _execute(self) -> Event:
        assert self._test is not None
        self._execution = await self._run()
        if not own_fault(self._execution, self._issue, self._test):
            self._mistakes.clear()
        if self._solver.resamples:
            if self._execution.passed or at_fault(self._execution, self._issue):
                self._conversation.restart()
                return Event.AGAIN
            self._failing = self._test
        shown = [{"label": ORIGINAL, "execution": self._execution}]
        looked = await self._looking.beside((), self._test)
        self._conversation.say(looked + render(self._solver.profile, "test_result", executions=shown))
        return Event.RAN
