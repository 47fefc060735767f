"""Tags that models leave unfinished or mix up."""

import pytest

from bot.llm.replies import (
    Ranking,
    Relevance,
    Turn,
    parse_choice_turn,
    parse_edit_turn,
    parse_ranking,
    parse_relevance,
    parse_test_turn,
)
from bot.patch.apply import Create, Delete, Problem, Redefine
from bot.records import Test
from tests.bot.llm.test_replies import EDIT, KNOWN, PLAIN, edits, reply, script

FINE = [
    "<approve/>",
    "<done/>",
    "<Done/>",
    "<APPROVE />",
    "<approved/>",
    "All is well.\n<done/>",
    "Approved.",
    "Done",
    "LGTM",
]


@pytest.mark.parametrize("text", FINE)
def test_one_word_for_fine_in_every_step(text: str) -> None:
    assert parse_test_turn(reply(text)) == Turn(approve=True)
    assert parse_edit_turn(reply(text)) == Turn(done=True)


def test_fine_within_an_element_is_its_text() -> None:
    script = '<test path="t.py">\nxml = """\n<done/>\n"""\n</test>'
    assert parse_test_turn(reply(script)) == Turn(test=Test(path="t.py", text='xml = """\n<done/>\n"""\n'))


def test_a_correction_offers_only_what_exists() -> None:
    for said, there in ((reply("hm"), True), (reply("hm"), False), (reply(""), True), (reply(""), False)):
        tested, edited = parse_test_turn(said, written=there), parse_edit_turn(said, applied=there)
        assert isinstance(tested, Problem)
        assert isinstance(edited, Problem)
        assert ("<approve/>" in tested.text) == there
        assert ("<done/>" in edited.text) == there


@pytest.mark.parametrize("end", ["</edit", "</edi", "</", "</edit >", ""])
def test_a_last_tag_that_is_not_finished(end: str) -> None:
    assert edits(EDIT.removesuffix("</edit>") + end) == PLAIN
    whole = EDIT.removesuffix("REPLACE\n</edit>")
    for divider in ("", "REPL", "REPLACE"):
        assert edits(f"{whole}{divider}") == PLAIN
    assert edits(f"{whole}\n</edit>") == PLAIN


@pytest.mark.parametrize("end", ["</test", "</te", "</", "```", "", "\n</test"])
def test_a_test_whose_end_is_not_finished(end: str) -> None:
    assert script(f'<test path="t.py">\nassert 0\n{end}') == Test(path="t.py", text="assert 0\n")
    assert script(f'<test path="t.py">\n```python\nassert 0\n{end}').text == "assert 0\n"


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("It is so.\n<done", Turn(done=True)),
        ("<done/", Turn(done=True)),
        ("LGTM:\n<approve /", Turn(done=True)),
        ('<delete path="old.py"/', Turn(edits=(Delete(path="old.py"),))),
        ('<create path="n.py">\nx = 1\n</create', Turn(edits=(Create(path="n.py", text="x = 1"),))),
    ],
)
def test_other_tags_that_are_not_finished(text: str, turn: Turn) -> None:
    assert parse_edit_turn(reply(text)) == turn


def test_attributes_that_may_be_cut_off_are_not_used() -> None:
    assert isinstance(parse_edit_turn(reply('<delete path="old', cut=True)), Problem)
    assert parse_edit_turn(reply("It is so.\n<done", cut=True)) == Turn(done=True)


def test_other_last_tags_that_are_not_finished() -> None:
    assert parse_choice_turn(reply("<choose>2</choose")) == Turn(choice=2)
    assert parse_relevance(reply("<relevant>f</relevant")) == Relevance(relevant=True, summary="f")
    assert parse_relevance(reply("It is not.\n<irrelevant/")) == Relevance(relevant=False)
    assert parse_ranking(reply("<ranking>\na/x.py\n</ranking"), KNOWN) == Ranking(paths=("a/x.py",))


def test_a_byte_order_mark_before_the_reply() -> None:
    assert edits(f"\ufeff{EDIT}") == PLAIN


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("pkg.py", "import pkg\n", "test_pkg.py"),
        ("pkg.py", "from pkg.core import f\n", "test_pkg.py"),
        ("pkg.py", "import os, pkg.core as c\n", "test_pkg.py"),
        ("pkg.py", "def f():\n    from pkg import g\n", "test_pkg.py"),
        ("pkg.py", 'import importlib\nimportlib.import_module("pkg")\n', "test_pkg.py"),
        ("test_pkg.py", "from test_pkg import f\n", "test_test_pkg.py"),
        ("json.py", "import pkg\n", "test_json.py"),  # what the package imports would be the script
        ("pkg.py", "import pkgs\n", "pkg.py"),
        ("pkg.js", "import pkg from 'pkg'\n", "pkg.js"),
        ("test_issue.py", "import pkg\n", "test_issue.py"),
    ],
)
def test_a_test_named_like_what_it_imports_is_renamed(name: str, body: str, path: str) -> None:
    assert script(f'<test path="{name}">\n{body}</test>').path == path


def test_numbered_definitions_and_traced_paths() -> None:
    text = '<edit path="/tmp/troop/repo/m.py">\n    7 | def f():\n    8 |     return 2\n</edit>'
    assert edits(text) == (Redefine(path="/tmp/troop/repo/m.py", text="def f():\n    return 2"),)
    ranked = "<ranking>\n/tmp/troop/repo/b/y.py:12\n</ranking>"
    assert parse_ranking(reply(ranked), KNOWN) == Ranking(paths=("b/y.py",))


def test_a_tag_that_ends_within_a_line_ends_before_the_next_one() -> None:
    said = '<create path="a.py">\na = 1</create>\n<create path="b.py">b = 2</create>'
    assert edits(said) == (Create(path="a.py", text="a = 1"), Create(path="b.py", text="b = 2"))


def test_the_path_of_an_edit_is_read_back_as_it_is_meant() -> None:
    (edit,) = edits('<delete path="pkg/R&amp;lt;D &quot;1&quot; &lt;x&gt;.py"/>')
    assert edit == Delete(path='pkg/R&lt;D "1" <x>.py')
