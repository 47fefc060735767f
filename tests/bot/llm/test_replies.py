import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from bot.patch.apply import Block, Create, Delete, Problem, Redefine, Replace
from bot.records import FinishReason, Reply, Test

EDIT = """<edit path="pkg/mod.py">
<<<<<<< SEARCH
    return a
=======
    return b
>>>>>>> REPLACE
</edit>"""
EDITS = (Replace(path="pkg/mod.py", blocks=(Block(search="    return a", replace="    return b", line=2),)),)


def reply(text: str, *, cut: bool = False) -> Reply:
    return Reply(text=text, finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP)


def edits(text: str) -> tuple[object, ...]:
    """The edits of a reply, without the line numbers."""
    turn = parse_edit_turn(reply(text))
    assert isinstance(turn, Turn), turn
    return tuple(
        e.model_copy(update={"blocks": tuple(b.model_copy(update={"line": 0}) for b in e.blocks)})
        if isinstance(e, Replace)
        else e
        for e in turn.edits
    )


PLAIN = (Replace(path="pkg/mod.py", blocks=(Block(search="    return a", replace="    return b"),)),)


# -- relevance and ranking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "relevant", "summary"),
    [
        ("<relevant>defines f</relevant>", True, "defines f"),
        ("Let me see.\n<relevant>\nDefines\n  f.\n</relevant>\nThat is all.", True, "Defines f."),
        ("<irrelevant/>", False, ""),
        ("<irrelevant />", False, ""),
        ("<irrelevant></irrelevant>", False, ""),
        ("<relevant>draft</relevant> no, wait:\n<irrelevant/>", False, ""),
        ("<relevant>has no end", True, "has no end"),
        ("Irrelevant.", False, ""),
        ("not relevant, as it only prints", False, ""),
        ("**Relevant**: defines f", True, "defines f"),
        ("```\n<relevant>in a fence</relevant>\n```", True, "in a fence"),
    ],
)
def test_relevance(text: str, relevant: bool, summary: str) -> None:
    assert parse_relevance(reply(text)) == Relevance(relevant=relevant, summary=summary)


@pytest.mark.parametrize("text", ["", "lorem ipsum", "<edit", "%%"])
def test_relevance_garbled(text: str) -> None:
    assert isinstance(parse_relevance(reply(text)), Problem)


KNOWN = ("a/x.py", "b/y.py", "b/x.py")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("<ranking>\nb/y.py\na/x.py\nb/x.py\n</ranking>", ("b/y.py", "a/x.py", "b/x.py")),
        ("<ranking>\n1. `b/y.py`\n2. ./a/x.py: the parser\n</ranking>", ("b/y.py", "a/x.py")),
        ("<ranking>\n- y.py\n- unknown.py\n- x.py\n</ranking>", ("b/y.py",)),
        ("<ranking>a/x.py</ranking> or rather\n<ranking>\nb/x.py\nb/x.py\n</ranking>", ("b/x.py",)),
        ("<ranking>\nb/y.py", ("b/y.py",)),
        ("The most important is\nb/y.py\nthen\na/x.py", ("b/y.py", "a/x.py")),
    ],
)
def test_ranking(text: str, paths: tuple[str, ...]) -> None:
    assert parse_ranking(reply(text), KNOWN) == Ranking(paths=paths)


def test_ranking_garbled() -> None:
    assert parse_ranking(reply("lorem"), KNOWN) == Problem(text="no <ranking> found")
    assert isinstance(parse_ranking(reply("<ranking>\nnone\n</ranking>"), KNOWN), Problem)


# -- tests -----------------------------------------------------------------------------------------------------------


def script(text: str, *, cut: bool = False) -> Test:
    turn = parse_test_turn(reply(text, cut=cut))
    assert isinstance(turn, Turn), turn
    assert turn.test is not None
    return turn.test


@pytest.mark.parametrize(
    ("text", "path", "body"),
    [
        ('<test path="repro.py">\nassert 0\n</test>', "repro.py", "assert 0\n"),
        ("<test path='repro.py'>\nassert 0\n</test>", "repro.py", "assert 0\n"),
        ("<test path=repro.py>\nassert 0\n</test>", "repro.py", "assert 0\n"),
        ('<test file="tests/repro.py">assert 0</test>', "repro.py", "assert 0\n"),
        ("<test>\nassert 0\n</test>", "test_issue.py", "assert 0\n"),
        ("<test>\n#!/bin/sh\nexit 1\n</test>", "test_issue.sh", "#!/bin/sh\nexit 1\n"),
        ('Here:\n```xml\n<test path="r.py">\nassert 0\n</test>\n```\nDone.', "r.py", "assert 0\n"),
        ('<test path="r.py">\n```python\nassert 0\n```\n</test>', "r.py", "assert 0\n"),
        ('<test path="r.py">\r\nassert 0\r\n</test>\r\n', "r.py", "assert 0\n"),
        ('<test path="r.py">\nassert 0\n', "r.py", "assert 0\n"),
        ('<test path="r.py">\nassert 0</test>', "r.py", "assert 0\n"),
        ('<test path="../../etc/passwd">\nassert 0\n</test>', "passwd", "assert 0\n"),
        ('<test path="a b;c">\nassert 0\n</test>', "test_issue.py", "assert 0\n"),
        ('- <test path="r.py">\nassert 0\n</test>', "r.py", "assert 0\n"),
        ('I use `<test path="x.py">`:\n<test path="r.py">\nassert 0\n</test>', "r.py", "assert 0\n"),
        ('It is: <test path="r.py">\nassert 0\n</test>', "r.py", "assert 0\n"),
    ],
)
def test_one_test(text: str, path: str, body: str) -> None:
    assert script(text) == Test(path=path, text=body)


def test_the_last_whole_draft_counts() -> None:
    drafts = '<test path="a.py">\nassert 1\n</test>\nNo, better:\n<test path="b.py">\nassert 2\n</test>\n'
    assert script(drafts) == Test(path="b.py", text="assert 2\n")
    assert script(drafts + '<test path="c.py">\nassert', cut=True) == Test(path="b.py", text="assert 2\n")


def test_a_script_about_test_tags() -> None:
    body = 'xml = """\n<test>\n<edit path="x">\n</test>\n"""\nassert "</test>" in xml\nassert "</test>"'
    assert script(f'<test path="t.py">\n{body}\n</test>\nThat is it.').text == body + "\n"


@pytest.mark.parametrize(
    "text", ["<approve/>", "It fails as it should.\n\n<approve />", "<approve></approve>", "Approve."]
)
def test_approval(text: str) -> None:
    assert parse_test_turn(reply(text)) == Turn(approve=True)


def test_approval_beside_a_test_keeps_both() -> None:
    turn = parse_test_turn(reply('<approve/>\n<test path="t.py">\nassert 0\n</test>'))
    assert turn == Turn(approve=True, test=Test(path="t.py", text="assert 0\n"))


@pytest.mark.parametrize(
    ("text", "cut", "said"),
    [
        ("", False, "no <test> found"),
        ("assert 0", False, "no <test> found"),
        ('<test path="t.py">\n\n</test>', False, "no <test> found"),
        ('<test path="t.py">\nassert', True, "the <test> is not closed"),
        ("I think that", True, "cut off"),
    ],
)
def test_no_test(text: str, cut: bool, said: str) -> None:
    turn = parse_test_turn(reply(text, cut=cut))
    assert isinstance(turn, Problem)
    assert said in turn.short


# -- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        EDIT,
        EDIT.replace("\n", "\r\n"),
        f"The fault is in line 3.\n\n{EDIT}\n\nThat should do.",
        f"```diff\n{EDIT}\n```",
        EDIT.replace("<<<<<<< S", "```python\n<<<<<<< S").replace("REPLACE\n", "REPLACE\n```\n"),
        EDIT.replace("SEARCH\n", "SEARCH\n```python\n").replace("\n====", "\n```\n===="),
        EDIT.replace('"', ""),
        EDIT.replace('path="pkg/mod.py"', '"pkg/mod.py"'),
        EDIT.removesuffix("\n</edit>"),
        f"{EDIT}\n<done/>",
        f'I write `<edit path="...">` tags:\n{EDIT}',
        f'<edit path="draft.py">\nhm, no.\n</edit>\n{EDIT}',
        EDIT.replace("<<<<<<<", "<<<<<").replace("=======", "=====").replace(">>>>>>>", ">>>>>"),
    ],
)
def test_one_edit(text: str) -> None:
    assert edits(text) == PLAIN


def test_lines_are_counted_in_the_reply() -> None:
    assert parse_edit_turn(reply(EDIT)) == Turn(edits=EDITS)


def test_several_edits_in_order() -> None:
    text = f"""{EDIT}
<create path="new.py">
x = 1
</create>
<delete path="old.py"/>
<edit path="b.py">
<<<<<<< SEARCH
one
=======
>>>>>>> REPLACE

<<<<<<< SEARCH
two
=======
2
=======
>>>>>>> REPLACE
</edit>"""
    assert edits(text) == (
        *PLAIN,
        Create(path="new.py", text="x = 1"),
        Delete(path="old.py"),
        Replace(
            path="b.py",
            blocks=(
                Block(search="one", replace=""),
                Block(search="two", replace="2\n=======", others=(("two\n=======\n2", ""),)),
            ),
        ),
    )


def test_file_text_that_looks_like_tags() -> None:
    text = EDIT.replace("    return b", '</edit>\n<edit path="x">\n<done/>\n<test path="y">\n    return b')
    (edit,) = edits(text)
    assert isinstance(edit, Replace)
    assert edit.blocks[0].replace.startswith("</edit>\n<edit")


def test_edit_and_test_together() -> None:
    turn = parse_edit_turn(reply(f'{EDIT}\n<test path="t.py">\nassert 0\n</test>'))
    assert turn == Turn(edits=EDITS, test=Test(path="t.py", text="assert 0\n"))


@pytest.mark.parametrize("text", ["<done/>", "All is well.\n<done/>", "Done.", "<done></done>"])
def test_done(text: str) -> None:
    assert parse_edit_turn(reply(text)) == Turn(done=True)


@pytest.mark.parametrize(
    ("text", "cut", "said"),
    [
        ("", False, "no <edit> found\nThe reply was empty."),
        ("return b", False, "no <edit> found"),
        (EDIT.removesuffix("\n>>>>>>> REPLACE\n</edit>"), True, "cut off"),
        (f"{EDIT}\n<edit path='b.py'>\n<<<<<<< SEARCH\nx", True, "cut off"),
        (EDIT.replace(">>>>>>> REPLACE\n", ""), False, "no >>>>>>> REPLACE\nIt begins on line 2"),
        (EDIT.replace("=======\n", ""), False, "no =======\nIt begins on line 2"),
        (EDIT.replace(' path="pkg/mod.py"', ""), False, "the <edit> has no path"),
        ('<edit path="a.py">\nreturn b\n</edit>', False, "holds no SEARCH block"),
        (f"{EDIT}\n{EDIT.replace('=======', '')}", False, "no ======="),
    ],
)
def test_edits_that_can_not_be_read(text: str, cut: bool, said: str) -> None:
    turn = parse_edit_turn(reply(text, cut=cut))
    assert isinstance(turn, Problem)
    assert said in turn.text


# -- choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<choose>2</choose>", "<choose>candidate 2</choose>", "So:\n<choose>\n2\n</choose>"])
def test_choice(text: str) -> None:
    assert parse_choice_turn(reply(text)) == Turn(choice=2)


def test_a_test_instead_of_a_choice() -> None:
    turn = parse_choice_turn(reply('<test path="t.py">\nassert 0\n</test>'))
    assert turn == Turn(test=Test(path="t.py", text="assert 0\n"))
    assert isinstance(parse_choice_turn(reply("the second")), Problem)


# -- any text --------------------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["<edit path='a'>", "</edit>", "<test>", "</test>", "<create path=b>", "</create>", "<<<<<<< SEARCH", "=======",
     ">>>>>>> REPLACE", "<done/>", "<approve/>", "```", "x = 1", "", "<delete path=c/>", "<choose>", "1</choose>",
     "<relevant>", "<ranking>", "a/x.py", " <edit", "`<test path=\"q.py\">`"]
)  # fmt: skip


@given(st.lists(_PIECES | st.text(max_size=20), max_size=25), st.booleans())
def test_any_reply_is_a_turn_or_a_problem(pieces: list[str], cut: bool) -> None:
    said = reply("\n".join(pieces), cut=cut)
    for parse in (parse_test_turn, parse_edit_turn, parse_choice_turn):
        turn = parse(said)
        assert isinstance(turn, Problem) or turn != Turn()
    assert isinstance(parse_relevance(said), (Relevance, Problem))
    assert isinstance(parse_ranking(said, KNOWN), (Ranking, Problem))


_LINE = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=30).filter(
    lambda line: not line.strip().startswith(("<<<<", "====", ">>>>", "```", "~~~"))
)
_LINES = st.lists(_LINE, min_size=1, max_size=6).map("\n".join)


@given(_LINES, _LINES)
def test_blocks_come_back_letter_by_letter(search: str, replace: str) -> None:
    text = f'<edit path="a.py">\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n</edit>'
    turn = parse_edit_turn(reply(text))
    assert turn == Turn(edits=(Replace(path="a.py", blocks=(Block(search=search, replace=replace, line=2),)),))


@pytest.mark.parametrize(
    ("inside", "kept"),
    [
        ("```\n# Title\ntext\n```", "# Title\ntext"),
        ("```\nmake\n```", "```\nmake\n```"),
        ("# Title\n```\nmake\n```", None),
    ],
)
def test_a_fence_around_a_whole_page_of_markdown(inside: str, kept: str | None) -> None:
    turn = parse_edit_turn(Reply(text=f'<create path="a.md">\n{inside}\n</create>'))
    assert isinstance(turn, Turn)
    assert turn.edits == (Create(path="a.md", text=inside if kept is None else kept),)


BLOCK = "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (f"Here it is:\n\npkg/mod.py\n```python\n{BLOCK}```\n", ["pkg/mod.py"]),
        (f"**`pkg/mod.py`**:\n{BLOCK}\n### setup.py\n```\n{BLOCK}```\n", ["pkg/mod.py", "setup.py"]),
        (f"File: `Makefile.am`\n{BLOCK}and\n{BLOCK}", ["Makefile.am", "Makefile.am"]),
        (f'pkg/other.py\n<edit path="a.py">\n{BLOCK}</edit>', ["a.py"]),
    ],
)
def test_blocks_as_other_tools_want_them(text: str, paths: list[str]) -> None:
    turn = parse_edit_turn(Reply(text=text))
    assert isinstance(turn, Turn)
    assert [edit.path for edit in turn.edits] == paths
    assert all(isinstance(edit, Replace) and edit.blocks[0].replace == "b" for edit in turn.edits)


def test_blocks_and_diffs_without_a_path_are_answered() -> None:
    for text in (f"This is the fix:\n{BLOCK}", "pkg/mod.py\n<<<<<<< SEARCH\na\n"):
        assert isinstance(parse_edit_turn(Reply(text=text)), Problem)
    diff = parse_edit_turn(Reply(text="```diff\n@@ -1 +1 @@\n-a\n+b\n```"))
    assert isinstance(diff, Problem)
    assert "the diff names no file" in diff.text


def test_character_data_and_numbers_in_attributes() -> None:
    turn = parse_test_turn(Reply(text='<test path="t.py"><![CDATA[\nassert x\n]]></test>'))
    assert isinstance(turn, Turn)
    assert turn.test is not None
    assert turn.test.text == "assert x\n"
    for text in ('<choose number="2"/>', '<choose candidate="2"></choose>', "<choose>2</choose>"):
        chosen = parse_choice_turn(Reply(text=text))
        assert isinstance(chosen, Turn)
        assert chosen.choice == 2


def test_a_reply_that_goes_round_in_circles_counts_up_to_there() -> None:
    right = '<edit path="a.py">\ndef f(x):\n    return x\n</edit>\n\n'
    other = right.replace("return x", "return -x")
    second = '<edit path="a.py">\ndef g(x):\n    return 2\n</edit>\n\n'
    text = right + second + other + right + second + other + '<edit path="a.py">\ndef f('
    turn = parse_edit_turn(Reply(text=text, finish_reason=FinishReason.LENGTH))
    assert isinstance(turn, Turn)
    assert [edit.text for edit in turn.edits if isinstance(edit, Redefine)] == [
        "def f(x):\n    return x",
        "def g(x):\n    return 2",
    ]
    cut = parse_edit_turn(Reply(text=right + second[:30], finish_reason=FinishReason.LENGTH))
    assert isinstance(cut, Problem), "what was cut off may have held more"
