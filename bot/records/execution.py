"""Tests and what a sandbox saw of them."""

import enum
import hashlib

from bot.records.record import Record
from bot.records.repository import FileChange


class Test(Record):
    """A script that a trajectory (or the selection) wrote. Exit code 0 means that it passes."""

    __test__ = False  # not a pytest class

    path: str  # file name whose ending or shebang says how it is run, e.g. `test_issue.py`
    text: str

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.path}\0{self.text}".encode()).hexdigest()[:16]


class Ending(enum.StrEnum):
    """How an execution ended."""

    EXITED = "exited"  # ran to its end; `exit_code` says the result
    CUT_SHORT = "cut short"  # exit code 0, but the script never reached its end: a faked success
    TIMED_OUT = "timed out"  # killed after the time limit
    OUT_OF_MEMORY = "out of memory"  # killed by the memory limit
    KILLED = "killed"  # by another signal
    UNAVAILABLE = "unavailable"  # the command is not there (127), or it can't be run (126)


class Results(Record):
    """What each test of pytest or unittest came to, as the sandbox was told: not what the job printed."""

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()  # what was strange, in words; counts where the base commit has none of it
    ended: bool = False  # whether the runner reached its own end


def _whole_lines(text: str, most: int) -> str:
    """The beginning of the text, at most so many characters; without a part of a line, unless that is long."""
    cut = text[:most]
    whole = cut.rpartition("\n")[0] if len(cut) < len(text) and text[most] != "\n" else cut
    return whole if len(cut) - len(whole) < max(1, most // 2) else cut


_LEFT_OUT = 70  # characters for the line that says what is left out


class Execution(Record):
    """What the sandbox saw of one command."""

    ending: Ending
    exit_code: int | None = None
    output: str = ""  # stdout and stderr together, capped; secrets redacted
    truncated: bool = False
    seconds: float = 0.0
    results: Results | None = None  # where the command was pytest or unittest
    unproven: str = ""  # where it was cut short: why its exit code 0 proves nothing, where the runner said so

    @property
    def passed(self) -> bool:
        return self.ending is Ending.EXITED and self.exit_code == 0

    @property
    def status(self) -> str:
        """`exit 1`, `timed out`, ...: the words that prompts and tables use."""
        return f"exit {self.exit_code}" if self.ending is Ending.EXITED else str(self.ending.value)

    def tail(self, lines: int, characters: int) -> str:
        """The end of the output, at most that many lines and characters."""
        kept = "\n".join(self.output.rstrip().splitlines()[-lines:])
        return kept[-characters:]

    def excerpt(self, lines: int, characters: int) -> str:
        """The output; of a longer one a quarter of that room from its beginning, the rest from its end.

        A line between the two says how many lines and characters are left out; it is one more than `lines`, but within
        `characters`, which must be 100 or more.
        """
        text = self.output.rstrip()
        if len(text) <= characters and len(text.splitlines()) <= lines:
            return text
        room = max(characters - _LEFT_OUT, 0)
        head = _whole_lines("\n".join(text.splitlines()[: lines // 4]), room // 4)
        tail = _whole_lines("\n".join(text.splitlines()[-(lines - lines // 4) :])[::-1], room - room // 4)[::-1]
        cut = text[len(head) : len(text) - len(tail)]
        count = max(1, len(cut.strip("\n").splitlines()))
        said = f"[... {count:,} {'line' if count == 1 else 'lines'}, {len(cut):,} characters left out ...]"
        return f"{head}\n{said}\n{tail}" if head else f"{said}\n{tail}"


class SandboxJob(Record):
    """One command on one fresh copy of the tree. Built by the stages, run by a `Sandbox`."""

    changes: tuple[FileChange, ...] = ()  # the candidate; empty for the base commit
    test: Test | None = None  # from a trusted copy, written to where `bot.sandbox.placing` says, and run ...
    command: tuple[str, ...] = ()  # ... unless there is this argv, which is run in the tree
    timeout: float = 100.0  # seconds
    again: int = 0  # how often the same ran before, where one run may have been bad luck

    @property
    def key(self) -> str:
        """Content hash of what is run on what: an equal job is not run twice."""
        apart = {"timeout"} if self.again else {"timeout", "again"}
        return hashlib.sha256(self.model_dump_json(exclude=apart).encode()).hexdigest()[:24]
