"""Edits in the forms of other tools, and damaged on their way, are the edits that were meant."""

import pytest

from bot.llm.completion import read_completion
from bot.llm.elements import EDITS
from bot.llm.looks import parse_looks
from bot.llm.other_forms import in_our_form
from bot.llm.replies import parse_edit_turn, parse_test_turn
from bot.patch.edits import Create, Problem, Redefine, Replace, Rewrite
from bot.records import Reply, Test
from tests.growth import grows_evenly

OLD, NEW = "    if a < b:", "    if a <= b:"
BLOCK = f"<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n>>>>>>> REPLACE"
EDIT = f'<edit path="pkg/m.py">\n{BLOCK}\n</edit>'


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def block(begin: str, divide: str, end: str) -> str:
    return f'<edit path="pkg/m.py">\n{begin}\n{OLD}\n{divide}\n{NEW}\n{end}\n</edit>'


@pytest.mark.parametrize(
    "text",
    [
        EDIT.replace("edit", "EDIT"),
        EDIT.replace("<edit", "<Edit").replace("</edit", "</Edit"),
        escaped(EDIT),
        f'<edit path="pkg/m.py">\n{escaped(BLOCK)}\n</edit>',
        block("------- SEARCH", "=======", "+++++++ REPLACE"),
        block("<<< SEARCH", "===", ">>> REPLACE"),
        block("<<<<<<< search", "=======", ">>>>>>> replace"),
        block("<<<<<<< ORIGINAL", "=======", ">>>>>>> UPDATED"),
        block("<<<<<<< HEAD", "=======", ">>>>>>> the-fix"),
        block("<search>", "</search>\n<replace>", "</replace>"),
        f"<edit>\n<path>pkg/m.py</path>\n{BLOCK}\n</edit>",
        f"<edit>\npkg/m.py\n{BLOCK}\n</edit>",
        f"<edit>\n# pkg/m.py\n{BLOCK}\n</edit>",
        f"<replace_in_file>\n<path>pkg/m.py</path>\n<diff>\n{BLOCK}\n</diff>\n</replace_in_file>",
        f"```pkg/m.py\n{BLOCK}\n```",
        BLOCK.replace("SEARCH", "SEARCH pkg/m.py"),
        *(
            EDIT.replace('path="pkg/m.py"', name)
            for name in ('file_path="pkg/m.py"', 'path="pkg/m.py', 'path: "pkg/m.py"')
        ),
        f"<answer>\n{EDIT}<|im_end|>",
    ],
)
def test_an_edit(text: str) -> None:
    turn = parse_edit_turn(Reply(text=text))
    assert not isinstance(turn, Problem), turn.text
    (edit,) = turn.edits
    assert isinstance(edit, Replace)
    assert edit.path == "pkg/m.py"
    assert [(one.search, one.replace) for one in edit.blocks] == [(OLD, NEW)]


def test_code_is_unescaped_only_where_it_does_not_parse_as_it_is() -> None:
    turn = parse_test_turn(Reply(text='<test path="t.py">\nassert 1 &lt; 2 &amp; 3\n</test>'))
    assert not isinstance(turn, Problem)
    assert turn.test is not None
    assert turn.test.text == "assert 1 < 2 & 3\n"
    quoted = "s = '&lt;b&gt;'"
    for text, edits in (
        (f'<create path="a.py">\n{quoted}\n</create>', (Create(path="a.py", text=quoted),)),
        (
            '<define path="a.py" name="K.f">\n    def f(self):\n        return 1 &lt; 2\n</define>',
            (Redefine(path="a.py", name="K.f", text="    def f(self):\n        return 1 < 2"),),
        ),
    ):
        found = parse_edit_turn(Reply(text=text))
        assert not isinstance(found, Problem)
        assert found.edits == edits


@pytest.mark.parametrize(
    "text",
    [
        '<test path="t.py">\nassert 0\n</tests>\nThat shows it.',
        '<test path="t.py">\nassert 0\n</test path="t.py">',
        '<test path="t.py">\nassert 0\n\n<approve/>',
        "<test>\n<path>t.py</path>\nassert 0\n</test>",
        '<create path="t.py">\nassert 0\n</create>',
        '<tool_call>{"name": "write_file", "arguments": {"path": "t.py", "content": "assert 0"}}</tool_call>',
    ],
)
def test_a_test(text: str) -> None:
    turn = parse_test_turn(read_completion({"choices": [{"message": {"content": text}}]}, 0.0))
    assert not isinstance(turn, Problem), turn.text
    assert turn.test == Test(path="t.py", text="assert 0\n")


def test_a_file_that_is_not_closed_before_the_reply_ends() -> None:
    turn = parse_edit_turn(Reply(text='<file path="a.py">\nx = 1\n\n<done/>'))
    assert not isinstance(turn, Problem)
    assert turn.edits == (Rewrite(path="a.py", text="x = 1"),)


def test_commands_are_unescaped_where_a_shell_could_not_mean_them() -> None:
    said = "<run>cat a &amp;&amp; ls &gt; b</run>\n<run>grep -n '&amp;' a.html</run>"
    assert parse_looks(Reply(text=said)).commands == ("cat a && ls > b", "grep -n '&amp;' a.html")


def test_text_in_capitals_is_no_tag() -> None:
    said = parse_edit_turn(Reply(text="The usage is `prog <FILE> <TEST>`, as it should be.\n<done/>"))
    assert not isinstance(said, Problem)
    assert said.done
    assert parse_looks(Reply(text="<RUN>ls</RUN>")).commands == ("ls",)


@pytest.mark.parametrize(
    "part", ["<<< SEARCH\n", "------- SEARCH\nx\n=======\n", "<edit>\n", "&lt;", "\n", "<path>a/b</path>\n"]
)
def test_no_text_takes_long(part: str) -> None:
    assert grows_evenly(lambda text: in_our_form(text, [*EDITS, "test", "choose"]), part, 16_000)
