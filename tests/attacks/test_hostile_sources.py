"""Source files and edits that take a reader for ever: attack 28. Anybody may have written the file."""

from collections.abc import Callable

import pytest

from bot.patch.definitions import definitions
from bot.patch.matching import unnumbered
from bot.patch.namesakes import normalised_name
from bot.patch.paths import normalised
from bot.patch.placeholders import placeholder_line
from bot.patch.unified_diff import diff_edits
from bot.records import Issue
from bot.retrieval.excerpts import Wanted, excerpt
from bot.retrieval.lexical_rank import rank
from bot.sandbox.script_end import with_end as of_script
from bot.sandbox.shell_end import with_end as of_shell
from tests.growth import grows_evenly

READERS: dict[str, Callable[[str], object]] = {
    "definitions": lambda text: definitions(text.split("\n")),
    "excerpt": lambda text: excerpt(text, Wanted(weights={"foo": 1.0}), 500, "a.txt"),
    "rank": lambda text: rank(Issue(title="foo", body=text, number=1), [("a.py", text), ("b/c.py", "x")]),
    "line numbers": lambda text: unnumbered(f"{text}x".split("\n"), []),
    "name": lambda text: normalised_name(f"({text}"),
    "path": normalised,
    "patch": lambda text: diff_edits(f"*** Update File: a{text}x\n@@\n-a\n+b".split("\n")),
    "placeholder": lambda text: placeholder_line(f"# {text}x\n", "y\n"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("part", ["{\n", "@a {\n", "a {\n", ")", "$", " ", "\n", "/a", "def f():\n"])
def test_attack_28_no_source_takes_long(name: str, part: str):
    assert grows_evenly(READERS[name], part, 12_000)


@pytest.mark.parametrize("ending", [".sh", ".ts", ".rb", ".php"])
@pytest.mark.parametrize("part", ["exit 0\n", "exit ", "'\n", "exit 1 || "])
def test_attack_28_no_script_takes_long(ending: str, part: str):
    def read(text: str) -> None:
        of_shell(text, 40) if ending == ".sh" else of_script(ending, text, 40, ("a",))

    assert grows_evenly(read, part, 12_000)
