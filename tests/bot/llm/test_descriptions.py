"""The description of a fix, as models write it."""

import pytest

from bot.llm.descriptions import LONGEST, parse_description
from bot.patch.apply import Problem
from bot.records import Description, Reply

WHOLE = "<cause>It adds\n  twice.</cause>\n<change>It adds `once`.</change>\n<check>{}</check>"


@pytest.mark.parametrize(("check", "kept"), [("Callers of add.", "Callers of add."), ("nothing", ""), ("None.", "")])
def test_the_parts_on_a_line_each(check: str, kept: str) -> None:
    found = parse_description(Reply(text="Well.\n" + WHOLE.format(check)))
    assert found == Description(cause="It adds twice.", change="It adds `once`.", check=kept)


def test_a_part_that_is_not_closed_ends_with_the_next() -> None:
    found = parse_description(Reply(text="<cause>It adds twice.\n<change>It adds once."))
    assert found == Description(cause="It adds twice.", change="It adds once.")


def test_a_long_part_is_cut_between_words() -> None:
    found = parse_description(Reply(text=f"<cause>{'many words ' * 900}</cause>\n<change>x</change>"))
    assert isinstance(found, Description)
    assert LONGEST - 20 < len(found.cause) <= LONGEST + 2
    assert found.cause.endswith(("many …", "words …"))


@pytest.mark.parametrize("text", ["", "It is fixed.", "<cause></cause>\n<change>x</change>", "<cause>x</cause>"])
def test_what_is_missing_is_named(text: str) -> None:
    found = parse_description(Reply(text=text))
    assert isinstance(found, Problem)
    assert "there is no <c" in found.text
