import argparse
import json
import pathlib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.patch.definitions import definitions
from bot.retrieval.excerpts import GAP, Wanted, excerpt, tree_definitions
from bot.retrieval.lexical_rank import counted, rarity, terms

PYTHON = '''import os

LIMIT = 3


class Box:
    """A box."""

    size = 1

    @property
    def area(self):
        return self.size ** 2

    def grow(
        self,
        by,
    ):
        def inner(x):
            return x + by

        return inner(self.size)


def open_box(box):
    return clip(box.size)


# keeps it small
def clip(value):
    return min(value, LIMIT)
'''

JAVASCRIPT = """import x from "x";

export class Box {
  constructor(size) {
    this.size = size;
  }

  grow(by) {
    return this.size + by;
  }
}

const clip = (value) => {
  return Math.min(value, 3);
};
"""

GO = """package box

type Box struct {
\tsize int
}

func (b *Box) Grow(by int) int {
\treturn b.size + by
}
"""

C = """#include <stdio.h>

static int
clip(int value)
{
    return value > 3 ? 3 : value;
}
"""

RUBY = """module Shop
  class Box
    def grow(by)
      @size + by
    end
  end
end
"""


def found(text: str) -> dict[str, str]:
    lines = text.rstrip("\n").split("\n")
    return {d.name: "\n".join(lines[d.start : d.end]) for d in definitions(lines)}


def test_python_definitions() -> None:
    blocks = found(PYTHON)
    assert list(blocks) == ["Box", "area", "grow", "open_box", "clip"]
    assert blocks["area"].startswith("    @property\n    def area")
    assert blocks["grow"].endswith("return inner(self.size)")
    assert blocks["clip"].startswith("# keeps it small\ndef clip")


@pytest.mark.parametrize(
    ("text", "name", "first", "last"),
    [
        (JAVASCRIPT, "Box", "export class Box {", "}"),
        (JAVASCRIPT, "clip", "const clip = (value) => {", "};"),
        (GO, "Box", "type Box struct {", "}"),
        (GO, "Grow", "func (b *Box) Grow(by int) int {", "}"),
        (C, "clip", "clip(int value)", "}"),
        (RUBY, "grow", "    def grow(by)", "    end"),
        (RUBY, "Shop", "module Shop", "end"),
    ],
)
def test_definitions_of_other_languages(text: str, name: str, first: str, last: str) -> None:
    lines = found(text)[name].split("\n")
    assert (lines[0], lines[-1]) == (first, last)


def cut(text: str, body: str, characters: int, most: int = 10_000) -> tuple[str, bool]:
    weights = terms(f"wrong result\n{body}")
    weights = rarity(weights, [counted(weights, text)])
    return excerpt(text, Wanted(weights, most=most), characters)


def test_a_file_that_fits_is_whole() -> None:
    assert cut(PYTHON, "`grow()`", 10_000) == (PYTHON, False)


def test_the_named_method_comes_with_its_class_header() -> None:
    text, was_cut = cut(PYTHON, "`Box().grow(2)` is wrong", 200)
    assert was_cut
    assert f"{GAP}\nclass Box:\n" in text
    assert "    def grow(\n        self,\n        by,\n    ):" in text
    assert "open_box" not in text


def test_what_a_named_function_calls_comes_next() -> None:
    text, _ = cut(PYTHON, "`open_box(b)` is wrong", 150)
    assert text == f"{GAP}\ndef open_box(box):\n    return clip(box.size)\n\n\n{PYTHON[PYTHON.index('# keeps') :]}"


def test_most_bounds_the_definitions() -> None:
    text, was_cut = cut(PYTHON, "`open_box(b)` and `clip(4)` are wrong", 10_000, most=1)
    assert was_cut
    assert ("def open_box" in text) + ("def clip" in text) == 1


def test_a_definition_that_is_too_long_is_cut_around_its_matches() -> None:
    body = "\n".join(f"    step_{i}(value)" for i in range(200))
    text, was_cut = cut(f"def run(value):\n{body}\n    explode(value)\n", "`run()` should not `explode`", 300)
    assert was_cut
    assert text.startswith("def run(value):\n    step_0")
    assert "    explode(value)" in text
    assert len(text) <= 300


def test_nothing_named_shows_the_beginning() -> None:
    text, was_cut = excerpt(PYTHON, Wanted({}), 50)
    assert was_cut
    assert text == f"import os\n\nLIMIT = 3\n\n\nclass Box:\n{GAP}\n"


@pytest.mark.parametrize("module", [textwrap, argparse, json.decoder])
@pytest.mark.parametrize("characters", [300, 1500, 6000])
def test_real_files_hold_to_the_limit_and_to_whole_lines(module: object, characters: int) -> None:
    text = pathlib.Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]
    shown, was_cut = cut(text, "`shorten`, `ArgumentParser.parse_args` and `scan_once` fail for `width`", characters)
    assert was_cut
    assert 0 < len(shown) <= characters
    rest = iter(text.split("\n"))
    for line in shown.rstrip("\n").split("\n"):
        assert line == GAP or line in rest  # in order


@given(st.lists(st.sampled_from(["def f(x):", "  y", "    g(x)", "}", "", "class A {", "\tz", "...", "end", "@d"])))
def test_any_text_has_an_excerpt_within_the_limit(lines: list[str]) -> None:
    text = "\n".join(lines)
    for characters in (0, 10, 40, 1000):
        shown, _ = excerpt(text, Wanted({"f": 1.0, "g": 2.0}, most=2), characters)
        assert len(shown) <= max(characters, len(text) if len(text) <= characters else 0)


@pytest.mark.parametrize(("path", "text"), [("a.py", PYTHON), ("a.js", JAVASCRIPT), ("a.go", GO), ("a.rb", RUBY)])
def test_the_syntax_tree_finds_what_the_indentation_shows(path: str, text: str) -> None:
    """In tidy files both agree; in JavaScript, methods without a keyword are seen by the tree alone."""
    by_tree = tree_definitions(path, text)
    assert by_tree is not None
    lines = text.rstrip("\n").split("\n")
    by_lines = {(d.name, d.start, d.header, d.end) for d in definitions(lines)}
    seen = {(d.name, d.start, d.header, d.end) for d in by_tree}
    assert seen >= by_lines
    assert {name for name, *_ in seen - by_lines} == ({"constructor", "grow"} if path == "a.js" else set())


def test_the_syntax_tree_finds_what_the_indentation_hides() -> None:
    text = "class A:\n  x = '''\ndef not_code():\n    return 1\n'''\n  def real(self):\n    return 2\n"
    names = [d.name for d in tree_definitions("a.py", text) or ()]
    assert names == ["A", "real"]
    weights = {"real": 3.0, "not_code": 3.0}
    shown, cut = excerpt(text * 2, Wanted(weights, by_tree=True), 60, "a.py")
    assert cut
    assert "def real(self):\n    return 2" in shown
    assert tree_definitions("a.py", "def f(:\n") is None
    assert tree_definitions("a.txt", text) is None


def test_what_few_definitions_mention_often_counts_for_more_than_what_all_mention() -> None:
    others = [f"    def part_{i}(self, cmd, help):\n        return self.run(cmd, help)\n" for i in range(20)]
    long = ["        if self.show_default:\n            yield 1\n"] * 6 + ["        yield 'padding'\n"] * 60
    text = "".join(["class Option:\n", *others, "    def record(self):\n", *long])
    weights = {"cmd": 4.0, "help": 4.0, "show_default": 4.0}
    usual = excerpt(text, Wanted(weights), 2_600)[0]
    local = excerpt(text, Wanted(weights, local=True), 2_600)[0]
    assert "def record" not in usual
    assert "def record" in local


def test_what_is_worth_little_of_the_best_is_left_out_although_there_is_room() -> None:
    others = [f"def part_{i}(cmd):\n    total = 0\n    print(cmd)\n    return total\n\n" for i in range(3)]
    text = "".join(["from tools import cmd\n\n", "def record(cmd):\n    a = 1\n    return cmd\n\n", *others])
    weights = {"cmd": 1.0, "record": 4.0}
    assert excerpt(text, Wanted(weights), len(text) - 20)[0].count("def part") > 1
    shown, was_cut = excerpt(text, Wanted(weights, fill=0.1), len(text) - 20)
    assert was_cut
    assert "def part" not in shown
    assert "def record" in shown
    assert "import cmd" not in shown, "worth less than a tenth of a third"
    assert (
        "import cmd, record"
        in excerpt(text.replace("import cmd", "import cmd, record"), Wanted(weights, fill=0.1), 200)[0]
    )


def test_of_a_class_whose_head_is_shown_a_long_docstring_is_cut() -> None:
    words = "".join(f"    Words {i} for users.\n" for i in range(30))
    methods = "".join(f"    def part_{i}(self):\n        return {i}\n\n" for i in range(5))
    for quotes in ('"""', "'''"):
        text = f"class Parser:\n    {quotes}Parses.\n\n{words}    {quotes}\n\n    limit = 3\n\n{methods}"
        shown, was_cut = excerpt(text, Wanted({"Parser": 3.0}, local=True), 600)
        assert was_cut
        assert "Words 3" in shown
        assert "Words 9" not in shown
        assert f"    {quotes}\n\n    limit = 3" in shown
        assert shown.count(quotes) == 2
    short = 'class Parser:\n    """Parses."""\n\n    limit = 3\n\n' + methods
    assert "limit = 3" in excerpt(short, Wanted({"Parser": 3.0}, local=True), 100)[0]


def test_of_many_methods_of_one_name_that_of_the_named_class_is_meant() -> None:
    body = "    def dump(self, value):\n        if value is None:\n            return None\n"
    classes = [f"class Field{i}:\n{body}        return {i} * value\n\n" for i in range(8)]
    text = "".join([*classes[:5], classes[5].replace("Field5", "Pluck"), *classes[6:]])
    shown = excerpt(text, Wanted({"dump": 3.0, "Pluck": 3.0}, local=True, fill=0.1), len(text) - 40)[0]
    assert "return 5 * value" in shown
    assert shown.count("def dump") == 1
    unnamed = excerpt(text, Wanted({"dump": 3.0}, local=True, fill=0.1), len(text) - 40)[0]
    assert unnamed.count("def dump") > 1
