"""Blanks, brackets and digits without end in what anybody writes or prints: attack 13. All take linear time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.records import Ending, Execution
from bot.sanitize import clean, fit, neutralize
from bot.sanitize.addresses import hide_addresses
from bot.sanitize.delimiters import escaped
from bot.settings import Settings
from bot.solver import test_runners
from tests.growth import grows_evenly

SETTINGS = Settings(_env_file=None, secrets_dir=Path("/nowhere"))


def of_runner(text: str) -> None:
    execution = Execution(exit_code=1, output=text, seconds=1.0, ending=Ending.EXITED)
    for read in (test_runners.failing, test_runners.so_far, test_runners.under_way, test_runners.unimported):
        read(execution)
    test_runners.ran(execution)
    test_runners.counted(execution)


READERS: dict[str, Callable[[str], object]] = {
    "clean": clean,
    "neutralize": neutralize,
    "fit": lambda text: fit(text, len(text) * 2 // 3),
    "escaped": escaped,
    "addresses": lambda text: hide_addresses(text, SETTINGS),
    "runner": of_runner,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("begin", "part", "end"),
    [
        ("[a]:", " ", "<"),
        ("[a]:", "\t", "\n"),
        ("> [a]: ", "> ", "<"),
        ("[a](<b>", " ", "!"),
        ("![a](<b>", "\n", "!"),
        ("<<<<<<< SEARCH", " ", "x"),
        ("<<<<<<<", " ", "x"),
        ("", "[^", "!"),
        ("", "a-", "!"),
        ("= ", "0", " passed in 1s ="),
        ("", "1 passed, ", "x"),
        ("FAILED a::b[", "[", "x"),
        ("a::", " ", "\x01"),
        ("test_a (b)", "\n", " ... "),
        ("collecting ...", " ", "x"),
    ],
)
def test_attack_13_no_text_takes_long(name: str, begin: str, part: str, end: str):
    assert grows_evenly(lambda text: READERS[name](begin + text + end), part, 16_000)


@pytest.mark.parametrize("end", [" passed in 1s =", " passed", " examples, 0 failures", " tests", " passing"])
def test_attack_23_a_number_of_tests_of_thousands_of_digits_is_none(end: str):
    of_runner(f"= {'9' * 5_000}{end}\n")
    of_runner(f"Tests: {'9' * 5_000} total\nRan {'9' * 5_000} tests in 1s\n# tests {'9' * 5_000}\n")
