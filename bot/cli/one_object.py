"""The one object that `--json` prints on stdout, also where a command fails. Loads next to nothing."""

import json
import sys
from collections.abc import Mapping, Sequence

_USAGE = {"calls": 0, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "seconds": 0.0, "cost": 0.0}
# What the object of a failed command has beside its error, by the command.
_FAILED: dict[str, dict[str, object]] = {
    "solve": {"outcome": "failed", "winner": None, "candidates": [], "tests": [], "matrix": [], "usage": _USAGE},
    "verify": {"same": None},
}
_printed = False


def print_object(found: Mapping[str, object]) -> None:
    """The object on a line of its own."""
    global _printed
    _printed = True
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def print_failure(command: str, error: str) -> None:
    """The object of a command that failed."""
    print_object(failure(command, error))


def failure(command: str, error: str) -> dict[str, object]:
    return {"error": error, **_FAILED[command]}


def command_of(arguments: Sequence[str]) -> str:
    """The command that a command line names, or ""."""
    return next((word for word in arguments if not word.startswith("-")), "")


def owed_by(arguments: Sequence[str]) -> str:
    """The command that owes an object by the command line and has not printed it, or ""."""
    command = command_of(arguments)
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return command if command in _FAILED and "--json" in words and not _printed else ""
