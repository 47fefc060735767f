"""Tests run with every call into the repository noted; and the smallest call on which two behaviours part.

Python alone: of other languages people are shown the tests. The smallest call is shown to a person and decides nothing.
"""

import asyncio
from collections.abc import Sequence
from importlib.resources import files

from bot.contracts import Sandbox
from bot.patch.formats import of_json
from bot.patch.syntax import tree_of
from bot.records import Ballot, FileChange, Parting, Test
from bot.solver.parting import tests_of
from bot.solver.stages.choice_machine import run_test
from bot.solver.variants import PLAIN

MARK = "troop-probe "
_LONGEST = 160  # characters of a call, or of a result, that people are shown
_PROBE = files("bot.solver.stages").joinpath("probe.txt").read_text(encoding="utf-8").replace("__PLAIN__", PLAIN)


async def probe(parting: Parting, ballot: Ballot, sandbox: Sandbox, seconds: float) -> Parting:
    """The parting with the smallest call that gives other results with A than with B, where one is found.

    Raises `SandboxUnavailable`.
    """
    tests = [made for test in tests_of(parting, ballot.tests) if (made := probing(test)) is not None]
    trees = [ballot.candidates[c].patch.changes for c in parting.candidates]
    noted: list[dict[str, str]] = []
    for changes in trees:
        found: dict[str, str] = {}
        for calls in await asyncio.gather(*(_calls(sandbox, changes, test, seconds) for test in tests)):
            found |= calls
        noted.append(found)
    one, other = noted
    differing = [call for call in one if call in other and one[call] != other[call]]
    call = min(differing, key=lambda text: (len(text), text), default=None)
    return parting if call is None else parting.model_copy(update={"call": call, "results": (one[call], other[call])})


async def _calls(sandbox: Sandbox, changes: tuple[FileChange, ...], test: Test, seconds: float) -> dict[str, str]:
    execution = await run_test(sandbox, changes, test, seconds)
    return noted_calls(execution.output)


def probing(test: Test, asked: Sequence[str] = ()) -> Test | None:
    """The test with its calls into the repository noted; None for one that is no Python. Pure.

    `asked`: calls that are made when the test has ended, in its names, of functions, classes and modules alone.
    """
    if not test.path.endswith(".py") or tree_of(test.text) is None:
        return None
    text = (
        _PROBE.replace("__MARK__", MARK).replace("__ASKED__", repr(list(asked))).replace("__SOURCE__", repr(test.text))
    )
    return test.model_copy(update={"text": text})


def noted_calls(output: str) -> dict[str, str]:
    """The results by the call's text, as the probe printed them. Pure."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            pair = of_json(line[len(MARK) :])
        except ValueError:
            continue
        match pair:
            case [str(call), str(result)] if len(call) <= _LONGEST and len(result) <= _LONGEST:
                found.setdefault(call, result)
    return found
