"""Commands by which the model looks around in the sandbox, on the repository with its edit so far.

A reply with commands alone is answered with what they print and counts against `look_calls`, not against the calls of
its machine. Commands beside a test or an edit run once that is in force, and are shown with its run. Beside `<done/>`
or `<approve/>` they come first: the model has not seen yet what it asks for. What commands print is cut so that no turn
of the conversation has to be left out for it. Each runs on a fresh copy that is thrown away.
"""

import asyncio
import re
from collections.abc import Sequence

from bot.contracts import Sandbox
from bot.llm.conversation import Conversation
from bot.llm.looks import Looks, parse_looks
from bot.llm.prompts import render
from bot.llm.shown_before import Shown
from bot.patch.apply import Problem
from bot.records import Ending, Execution, FileChange, Record, Reply, SandboxJob, Test
from bot.solver.profile import ResolvedSolver

AT_ONCE = 8  # commands of one reply
SECONDS = 60.0  # that one command may take
_LINES, _CHARACTERS = 240, 10_000  # of one command's output that are shown at most
_ALL = 16_000  # characters of what the commands of one reply print; what short ones leave goes to long ones
_HANDED_ON = 8_000  # characters of what the test machine saw that the edit machine begins with
_LEAST = 400  # characters for each command; with less room in the window, none is run
_LONGEST = 4_000  # characters of a command
_AS_BEFORE = "(shown above already, exactly so)"
_PREPARED = 'command -v python >/dev/null || python() { python3 "$@"; }\n'
_SHELL = 'if command -v bash >/dev/null; then exec bash -c "$1"; else exec sh -c "$1"; fi'  # models write for bash
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")  # colours, and what no text holds
_BINARY = 0.1  # share of characters that no text holds, from which output is not shown


class Look(Record):
    """One command, as the model is shown it."""

    command: str
    status: str  # "" where it exited with 0
    output: str


class Looking:
    """The commands of one conversation."""

    def __init__(self, conversation: Conversation, sandbox: Sandbox, solver: ResolvedSolver) -> None:
        self._conversation = conversation
        self._sandbox = sandbox
        self._solver = solver
        self._left = solver.looks
        self._beside: tuple[str, ...] = ()  # commands that wait for the run of what came with them
        self.calls = 0  # replies that did nothing but look
        self._seen: list[Look] = []

    async def answered(self, reply: Reply, changes: Sequence[FileChange], test: Test | None) -> bool:
        """Whether the reply only looks around: then its commands ran, and the model was shown what they printed."""
        looks = parse_looks(reply) if self._solver.looks and not reply.failed else Looks()
        self._beside = () if looks.alone else looks.commands
        if not looks.commands or not looks.alone or not self._left:
            return False
        self.calls += 1
        self._conversation.say(await self._show(looks.commands, changes, test))
        self._conversation.keep()
        return True

    def refused(self, reply: Reply) -> Problem | None:
        """Why a reply that asks for commands alone gets none; None for any other reply."""
        looks = parse_looks(reply) if self._solver.looks else Looks()
        if not looks.alone or looks.fine:
            return None
        if looks.empty:
            return Problem(text="the <run> holds no command\nWrite <run>COMMAND</run>, or go on without one.")
        if not looks.commands or self._left:
            return None
        return Problem(
            text=f"no commands are left: you may run them in {self._solver.looks} replies\n"
            "Go on with what you know, in the form that was asked for."
        )

    async def beside(self, changes: Sequence[FileChange], test: Test | None) -> str:
        """What the commands print that came with the last test or edit, with a blank line below; "" without any."""
        commands, self._beside = self._beside, ()
        if not commands:
            return ""
        if not self._left:
            return "The commands in your reply were not run: none are left.\n\n"
        return await self._show(commands, changes, test) + "\n\n"

    @property
    def seen(self) -> tuple[Look, ...]:
        """What was shown, the last that fits what another conversation may begin with."""
        before = [message.content for message in self._conversation.opening]
        kept: list[Look] = []
        room = min(_HANDED_ON, self._conversation.window // 5)
        for look in reversed(self._seen):
            (told,) = _told_once([look], before)
            room -= len(told.command) + len(told.output) + 40
            if room < 0:
                break
            kept.append(told)
        return tuple(_told_once(kept[::-1], []))

    async def _show(self, commands: Sequence[str], changes: Sequence[FileChange], test: Test | None) -> str:
        self._left -= 1
        chosen = commands[:AT_ONCE]
        room = min(_ALL, 2 * await self._conversation.room())  # two characters a token, which most text exceeds
        said = ""
        if room // len(chosen) < _LEAST:
            self._left, chosen, said = 0, (), "The commands were not run: the conversation fills the context window."
        elif len(commands) > AT_ONCE:
            said = f"{len(commands) - AT_ONCE} more commands were not run: at most {AT_ONCE} are in one reply."
        jobs = [self._run(command, tuple(changes), test) for command in chosen]
        executions = await asyncio.gather(*jobs)
        shares = fair([min(_CHARACTERS, len(ran.output)) for ran in executions], room)
        looks = [shown(*one) for one in zip(chosen, executions, shares, strict=True)]
        self._seen += [look for look in looks if look not in self._seen]
        looks = [look.model_copy(update={"output": _AS_BEFORE}) if self._holds(look) else look for look in looks]
        looks = _told_once(looks, [message.content for message in self._conversation.messages])
        return render(self._solver.profile, "looks", looks=looks, not_run=said, left=self._left)

    def _holds(self, look: Look) -> bool:
        """Whether the conversation shows that very output already, and showing it again costs more than a word."""
        long = len(look.output) > len(_AS_BEFORE) * 10
        return long and any(look.output in message.content for message in self._conversation.messages)

    async def _run(self, command: str, changes: tuple[FileChange, ...], test: Test | None) -> Execution:
        if len(command) > _LONGEST:
            said = f"(not run: a command has at most {_LONGEST:,} characters)"
            return Execution(ending=Ending.UNAVAILABLE, output=said)
        if "\0" in command:
            return Execution(ending=Ending.UNAVAILABLE, output="(not run: a command can't hold a NUL character)")
        argv = ("sh", "-c", _SHELL, "sh", _PREPARED + command)
        timeout = min(SECONDS, self._solver.settings.test_timeout)
        return await self._sandbox.run(SandboxJob(changes=changes, test=test, command=argv, timeout=timeout))


def _told_once(looks: Sequence[Look], before: Sequence[str]) -> list[Look]:
    """The looks, without the lines that stand in the texts before them or in an earlier look. Pure."""
    texts = list(before)
    told = []
    for look in looks:
        told.append(look.model_copy(update={"output": Shown(texts).without(look.output)}))
        texts.append(look.output)
    return told


def fair(sizes: Sequence[int], room: int) -> list[int]:
    """The part of the room for each: what it needs, or as much as any other that needs more gets. Pure."""
    parts = [0] * len(sizes)
    for waiting, i in zip(range(len(sizes), 0, -1), sorted(range(len(sizes)), key=lambda i: sizes[i]), strict=True):
        parts[i] = min(sizes[i], room // waiting)
        room -= parts[i]
    return parts


def shown(command: str, execution: Execution, characters: int) -> Look:
    """The command with the beginning and the end of what it printed. Pure."""
    output = execution.output
    odd = len(_CONTROL.findall(output)) + output.count("\ufffd")
    if odd > _BINARY * len(output) and odd > 8:
        text = f"(binary output, {len(output):,} characters; not shown)"
    else:
        text = execution.model_copy(update={"output": _CONTROL.sub("", output)}).excerpt(_LINES, max(100, characters))
    status = "" if execution.passed else execution.status
    if execution.ending is Ending.TIMED_OUT:
        status = f"stopped after {execution.seconds:.0f} seconds"
    elif execution.ending is Ending.UNAVAILABLE and execution.exit_code is not None:
        status = f"exit {execution.exit_code}"  # the shell's, for a program that is not there
    return Look(command=command if len(command) <= _LONGEST else f"{command[:200]} ...", status=status, output=text)
