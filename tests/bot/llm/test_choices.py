"""What a reply of the selection asks for: choices, objections, diffs, patches, or nothing at all."""

import pytest

from bot.llm.choices import Deliberated, Objection, parse_deliberated
from bot.patch.apply import Problem
from bot.records import FinishReason, Reply

EDIT = '<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n</edit>'
TEST = '<test path="t.py">\nassert "<wrong test=T9>" and "<choose>none</choose>"\n</test>'


def read(text: str) -> Deliberated:
    found = parse_deliberated(Reply(text=text))
    assert isinstance(found, Deliberated), found
    return found


@pytest.mark.parametrize(
    "text",
    [
        '<wrong test="T3">It asks\nfor more.</wrong>',
        "<wrong test=T3>It asks for more.</wrong>\r\n",
        "Prose.\n<wrong name='3'>It asks for more.\n</wrong",
        '<wrong test="T3">It asks for more.',
    ],
)
def test_an_objection_and_its_reason(text: str) -> None:
    assert read(text).objections == (Objection(test=3, why="It asks for more."),)


def test_objections_beside_a_choice_and_beside_each_other() -> None:
    found = read('<wrong test="T1">a</wrong>\n<wrong test="T2">b\n<choose>2</choose>')
    assert found.objections == (Objection(test=1, why="a"), Objection(test=2, why="b"))
    assert found.turn.choice == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<wrong>no name</wrong>", "names no test"),
        ('<wrong test="T3"></wrong>', "gives no reason"),
        ("hm", "no <choose> or <test> found"),
        ("", "The reply was empty"),
        ('<show>2</show>\n<edit path="a.py">\n<<<<<<< SEARCH\nx\n', "REPLACE"),
    ],
)
def test_what_can_not_be_used(text: str, words: str) -> None:
    found = parse_deliberated(Reply(text=text))
    assert isinstance(found, Problem)
    assert words in found.text


@pytest.mark.parametrize(
    "text",
    [
        "Both lose data.\n<choose>none</choose>",
        "<choose> None. </choose>\nBoth lose data.",
        "Both lose data.\n<choose>none",
    ],
)
def test_none_with_the_reason(text: str) -> None:
    found = read(text)
    assert (found.declines, found.reason, found.turn.choice) == (True, "Both lose data.", None)


def test_scripts_are_no_place_for_tags() -> None:
    found = read(TEST)
    assert (found.objections, found.declines) == ((), False)
    assert found.turn.test is not None


def test_a_patch_with_its_parents_and_diffs_that_are_asked_for() -> None:
    found = read(f"<parents>1, 3</parents>\n{EDIT}\n<show>4, 5</show>\n<show>6</show>")
    assert (found.parents, found.show, len(found.turn.edits)) == ((1, 3), (4, 5, 6), 1)
    cut = parse_deliberated(Reply(text=EDIT[:-20], finish_reason=FinishReason.LENGTH))
    assert isinstance(cut, Problem)


@pytest.mark.parametrize("text", ['<wrong test="T{n}">why</wrong>', "<show>{n}</show>", "<choose>{n}</choose>"])
def test_a_number_of_any_length_is_no_error(text: str) -> None:
    assert isinstance(parse_deliberated(Reply(text=text.format(n="1" * 5_000))), Problem)


def test_a_diff_is_asked_for_once() -> None:
    assert read(f"<show>{'2, ' * 1_000}3</show>").show == (2, 3)


def test_a_long_run_of_spaces_is_read_in_linear_time() -> None:
    assert isinstance(parse_deliberated(Reply(text="<choose>none" + " " * 1_000_000 + "x")), Problem)
