"""Output that a program wrote to harm its reader: none of it may raise, or take more than linear time to read.

With a quadratic pattern, each of these would take minutes.
"""

import pytest

from bot.records import Ending, Execution
from bot.solver.test_runners import absence, counted, failing, ran, so_far, under_way, unimported

LENGTH = 400_000  # characters
OUTPUTS = {
    "many digits": "Ran " + "9" * 5_000 + " tests\n",
    "brackets": "FAILED " + "a[" * (LENGTH // 2),
    "open parentheses": "FAIL: a (\n" * (LENGTH // 10),
    "blank lines": "\n" * LENGTH,
    "colons": "a::b" * (LENGTH // 4),
    "spaces after a name": "a::b" + " " * LENGTH + "x",
    "spaces in TAP": "not ok 1 - a" + " " * LENGTH + "x",
    "spaces of xdist": "[gw0] [ 1%] PASSED a::b" + " " * LENGTH + "x",
    "digits of a total": "Tests: " + "1" * LENGTH,
    "spaces of a summary": "1 error in 1s" + " " * LENGTH + "x",
    "interpreters": "python" * (LENGTH // 6),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_hostile_output_is_read(output: str) -> None:
    execution = Execution(ending=Ending.EXITED, exit_code=1, output=output)
    for read in (failing, so_far, under_way, unimported, ran, counted):
        read(execution)
    absence(("python3", "-m", "pytest"), execution)


def test_names_with_brackets_and_spaces() -> None:
    lines = "FAILED t.py::a[b - c] - why[0]\nFAILED d[x]/t.py::a[1 2]\nERROR t.py::b - assert [1]\nFAILED t.py\n"
    execution = Execution(ending=Ending.EXITED, exit_code=1, output=lines)
    assert failing(execution) == ("t.py::a[b - c]", "d[x]/t.py::a[1 2]", "t.py::b", "t.py")
