"""The edit machine of one trajectory: edit, run the test on the original and the edited repository, go on or be done.

```mermaid
stateDiagram-v2
    [*] --> editing
    editing --> running: an edit that applies, or a new test
    editing --> editing: a reply that can't be used, or commands to look around
    running --> reviewing: it ran
    running --> editing: sampled again, since the test fails
    running --> done: the test passes, where edits are sampled again
    reviewing --> running: another edit, or a new test
    reviewing --> reviewing: a reply that can't be used, or commands to look around
    reviewing --> done: done
    editing --> spent: no calls left, or nothing to change
    reviewing --> spent: no calls left
    editing --> failed: the endpoint failed
    reviewing --> failed: the endpoint failed
```

Every edit is made on the base commit: the last that applies is the candidate. An edit that applies only on top of the
model's earlier edit is applied there.

Where attempts are sampled again (`ResolvedSolver.resamples`), no reply is shown to the model: what can't be used, fails
the test or contradicts a documented example is dropped, and the same question is asked with another seed, until one
passes or the calls are spent. Then the first edit that applied is the candidate: the test may be wrong, and the first
was sampled at the lowest temperature.
"""

import enum
from dataclasses import dataclass
from typing import assert_never

from bot.contracts import Sandbox
from bot.llm.conversation import Conversation
from bot.llm.prompts import render
from bot.llm.replies import parse_edit_turn
from bot.patch.apply import Problem
from bot.records import Execution, FileChange, Patch, Reply, Test
from bot.sanitize.delimiters import as_data
from bot.solver.editing import Applied, Apply
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.machine import ORIGINAL, Event, Machine
from bot.solver.stages.related import Compared, RelatedTests

SHOWN = (120, 8_000)  # lines and characters of a run, as the template `execution` has them
_BRIEF = 200  # characters that may be shown again
EDITED = "edited"  # label of executions


class State(enum.StrEnum):
    """Where an edit machine is."""

    EDITING = "editing"  # the model is asked for its first edit
    RUNNING = "running"  # the test runs on the original and on the edited repository
    REVIEWING = "reviewing"  # the model sees the runs and says what is next
    DONE = "done"  # the model confirmed the edit
    SPENT = "spent"  # no calls left, or nothing to change; the last edit that applied is taken, if there is one
    FAILED = "failed"  # the endpoint failed


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.EDITING, Event.WRITTEN): State.RUNNING,
    (State.EDITING, Event.UNUSABLE): State.EDITING,
    (State.EDITING, Event.LOOKED): State.EDITING,
    (State.EDITING, Event.NO_CALLS): State.SPENT,
    (State.EDITING, Event.NO_ANSWER): State.FAILED,
    (State.RUNNING, Event.RAN): State.REVIEWING,
    (State.RUNNING, Event.PASSED): State.DONE,
    (State.RUNNING, Event.AGAIN): State.EDITING,
    (State.REVIEWING, Event.WRITTEN): State.RUNNING,
    (State.REVIEWING, Event.UNUSABLE): State.REVIEWING,
    (State.REVIEWING, Event.LOOKED): State.REVIEWING,
    (State.REVIEWING, Event.DONE): State.DONE,
    (State.REVIEWING, Event.NO_CALLS): State.SPENT,
    (State.REVIEWING, Event.NO_ANSWER): State.FAILED,
}


@dataclass(frozen=True)
class EditEnd:
    """What an edit machine ended with."""

    state: State
    test: Test | None  # the one it began with, or the last that it wrote
    patch: Patch | None  # the last edit that applied
    calls: int
    understood: bool  # whether at least one reply could be read
    detail: str = ""  # the last thing that went wrong
    passes: bool | None = None  # whether the patch passes the test; None: not run


class EditMachine(Machine):
    """Runs one conversation to its end. `test`: what the edit is to pass; None: there is none yet."""

    def __init__(
        self,
        conversation: Conversation,
        sandbox: Sandbox,
        solver: ResolvedSolver,
        test: Test | None,
        apply: Apply,
        related: RelatedTests,
    ) -> None:
        super().__init__(conversation, sandbox, solver, test)
        self._apply = apply
        self._related = related
        self._compared: Patch | None = None  # the last edit on which the repository's related tests ran
        self._passes: bool | None = None  # whether the last edit that ran passes the test
        self._patch: Patch | None = None
        self._first: Patch | None = None  # of the edits that failed the test and were forgotten
        self._applied: Applied | None = None  # the last
        self._dropped = ""  # files that the edit before it changed, and it does not
        self._refusals = 0  # replies that say that there is nothing to change
        self._understood = False

    async def run(self) -> EditEnd:
        """Run the conversation to its end. Raises `EndpointError`, `SandboxError`."""
        state = State.EDITING
        while True:
            match state:
                case State.EDITING | State.REVIEWING:
                    event = await self._call()
                case State.RUNNING:
                    event = await self._execute()
                case State.DONE | State.SPENT | State.FAILED:
                    patch = self._patch if state is State.DONE else self._first or self._patch
                    passes = self._passes if patch else None
                    calls = self._conversation.calls
                    return EditEnd(state, self._test, patch, calls, self._understood, self._detail, passes)
                case _:
                    assert_never(state)
            state = TRANSITIONS[state, event]

    async def _call(self) -> Event:
        reply = await self._ask(self._solver.settings.edit_calls, self._changes)
        if isinstance(reply, Event):
            return reply
        event = self._read(reply)
        return await self._confirmed() if event is Event.DONE else event

    async def _confirmed(self) -> Event:
        """The end, unless the edit breaks tests or examples of the repository and the model does not know it yet."""
        if self._patch is None or self._compared == self._patch:
            return Event.DONE
        compared = await self._compare(self._patch)
        if compared is None or not (compared.broken or compared.contradicted):
            return Event.DONE
        said = []
        if compared.broken:
            said.append(
                f"the edit breaks tests of the repository that pass without it\n{', '.join(compared.broken)}\n\n"
                f"<output>\n{as_data(compared.output, 'output')}\n</output>"
            )
        if compared.contradicted:
            examples = as_data("\n".join(compared.contradicted), "output")
            said.append(f"the edit contradicts documented examples that hold without it\n{examples}")
        last = "Mend the edit. If the issue asks for what they forbid, reply <done/> again."
        return self._unusable(Problem(text="\n\n".join([*said, last])))

    async def _compare(self, patch: Patch) -> Compared | None:
        self._compared = patch
        return await self._related.compared(patch)

    @property
    def _changes(self) -> tuple[FileChange, ...]:
        return self._patch.changes if self._patch else ()

    def _read(self, reply: Reply) -> Event:
        turn = parse_edit_turn(reply, applied=self._patch is not None, tag=self._conversation.tag)
        if isinstance(turn, Problem):
            return self._unusable(turn)
        self._understood = True
        if turn.edits:
            applied = self._apply(turn.edits, self._patch)
            if isinstance(applied, Problem):
                return self._unusable(applied)
            again = applied.patch == self._patch and turn.test in (None, self._test)
            if again and not self._solver.resamples:
                return Event.DONE  # the same edit again is `done` in other words
            earlier = self._patch.paths if self._patch else ()
            self._dropped = ", ".join(path for path in earlier if path not in applied.patch.paths)
            self._patch, self._applied = applied.patch, applied
        if self._solver.resamples:  # the test stays as it was approved
            return Event.WRITTEN if turn.edits else self._unusable(Problem(text=f"no <{self._conversation.tag}> found"))
        if turn.test is not None:
            self._test = turn.test
        if turn.edits or turn.test:
            return Event.WRITTEN
        if self._patch is None:
            self._refusals += 1
            event = self._unusable(
                Problem(
                    text=f"no <{self._conversation.tag}> found\nThere is no edit that applies yet: write one. If you "
                    "are sure that nothing is to be changed, reply <done/> again."
                )
            )
            return Event.NO_CALLS if self._refusals > 1 else event  # said twice: that is the decision
        return Event.DONE

    async def _execute(self) -> Event:
        self._mistakes.clear()
        if self._solver.resamples:
            assert self._patch is not None
            self._passes = (await self._run(self._patch.changes)).passed if self._test else None
            if self._passes is not False and not await self._related.contradicted(self._patch):
                return Event.PASSED
            self._first = self._first or self._patch
            self._conversation.restart()
            return Event.AGAIN
        shown = []
        self._passes = None
        if self._test is not None:
            trees = [(ORIGINAL, ())] + ([(EDITED, self._patch.changes)] if self._patch else [])
            executions = [(label, await self._run(changes)) for label, changes in trees]
            shown = [{"label": label, "execution": self._unless_shown(label, ran)} for label, ran in executions]
            self._passes = executions[-1][1].passed if self._patch else None
        compared = await self._compare(self._patch) if self._patch and self._passes is not False else None
        said = {"left_out": "", "onto": False, "dropped": self._dropped, "compared": compared}
        if self._applied is not None:
            said |= {"left_out": self._applied.left_out, "onto": self._applied.onto}
        said |= {"tag": self._conversation.tag}
        self._applied, self._dropped = None, ""  # said once
        looked = await self._looking.beside(self._changes, self._test)
        self._conversation.say(looked + render(self._solver.profile, "edit_result", executions=shown, **said))
        return Event.RAN

    def _unless_shown(self, label: str, execution: Execution) -> Execution:
        """The run; of one on the base commit that the conversation shows already, no output."""
        text = as_data(execution.excerpt(*SHOWN), "output")
        known = any(text in message.content for message in self._conversation.messages)
        again = label == ORIGINAL and known and len(text) > _BRIEF
        return execution.model_copy(update={"output": "(the same as before)"}) if again else execution
