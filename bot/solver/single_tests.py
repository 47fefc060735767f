"""One test in a process of its own, of a runner that proves nothing. Pure.

What go, cargo and node print of tests is printed by the process that the tests and the candidate share. A candidate
that prints the lines of all tests and ends the process hides what it breaks. Asked for one test, it betrays itself by
the others' lines, or the test fails.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from bot.records import Execution
from bot.solver.test_runners import Command, program_at, so_far

MOST = 20  # tests of a repository that are run alone
_NOT_RUN = re.compile(r" # (?:SKIP|TODO)\b")  # of TAP


def alone(command: Command, name: str) -> Command | None:
    """The command for this test; None where it is not known how to name one to the runner."""
    first = program_at(command)
    words = command[first:]
    names = [PurePosixPath(word).name for word in words[:2]]
    if names == ["go", "test"] and "/" not in name:  # a part of a test comes with it
        return (*command[: first + 2], "-run", f"^{re.escape(name)}$", *words[2:])
    if names == ["cargo", "test"] and "--" not in words:
        return (*command, "--", "--exact", name)
    if names[:1] == ["node"] and "--test" in words and " > " not in name:
        return (*command[: first + 1], f"--test-name-pattern=^{re.escape(name)}$", *words[1:])
    return None


def chosen(names: Sequence[str], candidate: str) -> tuple[str, ...]:
    """At most `MOST` of the tests, by lot; the lot falls anew for each candidate, of whom this is any text."""
    return tuple(sorted(set(names), key=lambda name: hashlib.sha256(f"{candidate}\0{name}".encode()).digest())[:MOST])


def shows(execution: Execution, name: str) -> bool:
    """Whether the test alone ran and passed: the process ended well, and no other test has a result."""
    passed, failed = ([one for one in told if not _NOT_RUN.search(one)] for told in so_far(execution))
    others = [one for one in passed if one != name and not one.startswith((f"{name}/", f"{name} > "))]
    return execution.passed and not execution.truncated and name in passed and not (failed or others)
