"""Source files and edits that take a reader for ever: attack 28. Anybody may have written the file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.patch.definitions import definitions
from bot.patch.matching import unnumbered
from bot.patch.namesakes import normalised_name
from bot.patch.paths import normalised
from bot.patch.placeholders import placeholder_line
from bot.patch.unified_diff import diff_edits
from bot.retrieval import lexical_rank
from bot.retrieval.excerpts import Wanted, excerpt
from bot.retrieval.lexical_rank import is_named, rank, stands_in
from bot.retrieval.related_tests import related
from bot.sandbox import tree
from bot.sandbox.script_end import with_end as of_script
from bot.sandbox.shell_end import with_end as of_shell
from tests.growth import grows_evenly

READERS: dict[str, Callable[[str], object]] = {
    "definitions": lambda text: definitions(text.split("\n")),
    "excerpt": lambda text: excerpt(text, Wanted(weights={"foo": 1.0}), 500, "a.txt"),
    "rank": lambda text: rank(f"foo\n{text}", [("a.py", text), ("b/c.py", "x")]),
    "tests": lambda text: related(["pkg/mod.py"], {"pkg/test_a.py": f"from {text}"}, ["foo"]),
    "line numbers": lambda text: unnumbered(f"{text}x".split("\n"), []),
    "name": lambda text: normalised_name(f"({text}"),
    "path": normalised,
    "patch": lambda text: diff_edits(f"*** Update File: a{text}x\n@@\n-a\n+b".split("\n")),
    "placeholder": lambda text: placeholder_line(f"# {text}x\n", "y\n"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "part", ["{\n", "@a {\n", "a {\n", ")", "$", " ", "\n", "/a", "def f():\n", ".", "from . import (\n"]
)
def test_attack_28_no_source_takes_long(name: str, part: str):
    assert grows_evenly(READERS[name], part, 12_000)


@pytest.mark.parametrize("ending", [".sh", ".ts", ".rb", ".php"])
@pytest.mark.parametrize("part", ["exit 0\n", "exit ", "'\n", "exit 1 || "])
def test_attack_28_no_script_takes_long(ending: str, part: str):
    def read(text: str) -> None:
        of_shell(text, 40) if ending == ".sh" else of_script(ending, text, 40, ("a",))

    assert grows_evenly(read, part, 12_000)


NAMES = {
    "path": lambda text: is_named("src/pkg/mod.py", text),
    "name": lambda text: stands_in(text, "mod.py", r"[\w./]"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["xmod.py", "mod.pyx", "pkg.mod", ".mod.py.", "m", "src/pkg/mod.p "])
def test_attack_28_no_issue_takes_long_to_look_through_for_a_file(name: str, part: str):
    assert grows_evenly(NAMES[name], part, 60_000)


def test_attack_40_an_issue_that_names_no_file_costs_no_regular_expression(monkeypatch: pytest.MonkeyPatch):
    """It is looked through for each of a hundred thousand files, most of which are named as others are."""
    searched: list[str] = []
    search = re.search
    monkeypatch.setattr(lexical_rank.re, "search", lambda *given: searched.append(given[0]) or search(*given))
    text = "xindex.js and xunused.py are not those " * 100
    assert not any(is_named(f"a/b{number}/index.js", text) for number in range(500))
    assert not any(is_named(f"a/b/c{number}.py", text) for number in range(500))
    assert len(searched) == 1  # the name, once


def test_attack_28_the_beginning_of_a_manifest_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tree, "_MANIFEST", 200)
    project = tmp_path / "project"
    project.mkdir()
    (project / "setup.cfg").write_text("[options]\npackage_dir =\n    = code\n" + "#" * 10_000)
    (project / "code").mkdir()
    (project / "code" / "a.py").touch()
    assert "project/code" in tree.roots_of(tmp_path)
