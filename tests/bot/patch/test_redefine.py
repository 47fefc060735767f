"""Whole definitions in the place of their namesakes: what the model leaves out of one stays."""

import textwrap

import pytest

from bot.llm.replies import parse_edit_turn
from bot.patch.apply import Patch, Problem, Redefine, apply
from bot.patch.redefine import NotDefined, defines, likely, redefined
from bot.records import FinishReason, Issue, Reply, SourceFile

FILE = '''import os


# about take
@cache
def take(n, seq):
    """The first n.

    >>> take(1, [2])
    """
    return seq[1:n]


class Box:
    """A box."""

    size = 1

    def put(self, thing):
        self.thing = thing

    def get(self):
        return None


class Bag:
    def get(self):
        return 1
'''


def test_a_function_keeps_its_decorators_its_comment_and_its_docstring() -> None:
    new = redefined(FILE, "def take(n, seq):\n    return seq[:n]", python=True)
    assert new == FILE.replace("seq[1:n]", "seq[:n]")
    for open_docstring in ('"""..."""', '""" ... """', '"""…"""'):
        assert redefined(FILE, f"def take(n, seq):\n    {open_docstring}\n    return seq[:n]", python=True) == new
    made_up = 'def take(n, seq):\n    """Another."""\n    return seq[:n]'
    assert redefined(FILE, made_up, python=True) == new
    other = redefined(FILE, f"@other\n{made_up}", python=True)
    assert other == new.replace("@cache", "@other")
    assert redefined(FILE, made_up.replace("seq[:n]", "seq[1:n]"), python=True) == FILE


def test_a_method_is_replaced_under_the_indentation_that_it_has() -> None:
    expected = FILE.replace("self.thing = thing", "self.thing = thing + 1")
    for indent in ("", "    "):
        new = textwrap.indent("def put(self, thing):\n    self.thing = thing + 1", indent)
        assert defines(new)
        assert redefined(FILE, new, python=True) == expected


def test_members_that_a_class_does_not_show_stay() -> None:
    part = "class Box:\n    def get(self):\n        return self.thing"
    assert redefined(FILE, part, python=True) == FILE.replace("return None", "return self.thing")
    with pytest.raises(NotDefined, match="Bag would lose get"):
        redefined(FILE, "class Bag:\n    x = 1", python=True)
    whole = 'class Bag:\n    """New."""\n\n    def get(self):\n        return 2'
    assert redefined(FILE, whole, python=True).endswith(f"return None\n\n\n{whole}\n")


def test_what_can_not_be_placed_is_told() -> None:
    with pytest.raises(NotDefined, match="get is defined 2 times\nOn lines 22, 27"):
        redefined(FILE, "def get(self):\n    return 3", python=True)
    with pytest.raises(NotDefined, match="there is no tak\nDid you mean take"):
        redefined(FILE, "def tak(n, seq):\n    return 3", python=True)
    assert not defines("x = 1")
    assert not defines("return 3\n\ndef f():\n    return 1")


def test_another_language() -> None:
    go = "package a\n\n// Add adds.\nfunc Add(a, b int) int {\n\treturn a - b\n}\n\nfunc Two() int {\n\treturn 2\n}\n"
    new = redefined(go, "func Add(a, b int) int {\n\treturn a + b\n}", python=False)
    assert new == go.replace("a - b", "a + b")


def test_a_reply_with_a_whole_function_is_an_edit() -> None:
    text = '<edit path="a.py">\n```python\ndef take(n, seq):\n    return seq[:n]\n```\n</edit>'
    turn = parse_edit_turn(Reply(text=text, finish_reason=FinishReason.STOP))
    assert not isinstance(turn, Problem)
    assert turn.edits == (Redefine(path="a.py", text="def take(n, seq):\n    return seq[:n]"),)
    crlf = FILE.replace("\n", "\r\n")
    patch = apply(turn.edits, lambda path: crlf if path == "a.py" else None)
    assert isinstance(patch, Patch)
    assert patch.changes[0].text == crlf.replace("seq[1:n]", "seq[:n]")
    wrong = apply((Redefine(path="a.py", text="def tak():\n    pass"),), lambda path: FILE)
    assert isinstance(wrong, Problem)
    assert wrong.short == "there is no tak in a.py"
    missing = apply((Redefine(path="b.py", text="def take():\n    pass"),), lambda path: None, paths=["a/c.py"])
    assert isinstance(missing, Problem)
    assert "there is no file b.py" in missing.text


def test_two_definitions_of_one_file_and_a_block_beside_a_draft() -> None:
    edits = (
        Redefine(path="a.py", text="def take(n, seq):\n    return seq"),
        Redefine(path="a.py", text="class Bag:\n    x = 1\n\n    def get(self):\n        return 2"),
    )
    patch = apply(edits, lambda path: FILE)
    assert isinstance(patch, Patch)
    assert patch.changes[0].text == FILE.replace("seq[1:n]", "seq").replace(
        "class Bag:\n    def get(self):\n        return 1",
        "class Bag:\n    x = 1\n\n    def get(self):\n        return 2",
    )
    block = '<edit path="a.py">\n<<<<<<< SEARCH\n    size = 1\n=======\n    size = 2\n>>>>>>> REPLACE\n</edit>'
    turn = parse_edit_turn(
        Reply(
            text=f'<edit path="a.py">\ndef take(n, seq):\n    draft\n</edit>\n{block}', finish_reason=FinishReason.STOP
        )
    )
    assert not isinstance(turn, Problem)
    assert [type(edit).__name__ for edit in turn.edits] == ["Replace"]


def test_the_likeliest_definition_is_one_that_the_issue_names() -> None:
    files = [
        SourceFile(path="src/pkg/__init__.py", text=FILE),
        SourceFile(path="b.js", text="function take_all() {\n  1\n}\n"),
    ]
    found = likely(Issue(title="take and Box", body="`take(1, [2])` is wrong"), files)
    assert found is not None
    assert (found.name, found.header, found.module) == ("take", "def take(n, seq):", "pkg")
    other = likely(Issue(title="take_all is broken", body=""), files)
    assert other is not None
    assert (other.path, other.module) == ("b.js", "")
    assert likely(Issue(title="nothing", body="of it"), files) is None


@pytest.mark.parametrize(
    ("title", "body", "name"),
    [
        # an error's text names another function, with a longer name
        ("pace is wrong", "`pace(1)` raises `ValueError: 'repeat' is for pace_forever`, expected `[1]`.", "pace"),
        ("Wrong since 2.0", "`pace(1)` gives `[]`:\n```\n>>> pace(1)\nin pace_forever\n```", "pace"),
        ("pace_forever stops", "It calls `pace()`, I think: `pace(9)` is fine.", "pace_forever"),
        # words of English that are names of functions, too
        ("Empty list is not handled", "To reproduce, first:\n\nlast(first, of)\n\n`last([])` gives 1.", "last"),
        ("first release that breaks", "`pace(1)` raises", "pace"),
        ("first and last", "The first one.", "first"),
    ],
)
def test_what_the_title_names_comes_before_what_an_error_names(title: str, body: str, name: str) -> None:
    text = "".join(f"def {one}(x):\n    return x\n\n\n" for one in ("pace", "pace_forever", "first", "last"))
    found = likely(Issue(title=title, body=body), [SourceFile(path="a.py", text=text)])
    assert found is not None
    assert found.name == name
