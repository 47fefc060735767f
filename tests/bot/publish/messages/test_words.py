"""Texts that are cut: never within a word, which may be a secret that the forge redacts afterwards."""

import pytest

from bot.publish.messages.pull_request import TITLE_LIMIT, title
from bot.publish.messages.words import cut
from bot.sanitize import redact
from tests.bot.sample import issue

SECRET = "ghp_" + "s3cr3t" * 6


@pytest.mark.parametrize("limit", range(1, 80))
def test_no_part_of_a_secret_is_left(limit: int) -> None:
    text = cut(f"it printed {SECRET} and\n{SECRET}", limit)
    assert len(text) <= limit
    assert "s3cr3t" not in redact(text, [SECRET])


def test_short_texts_stay_and_long_ones_end_between_words() -> None:
    assert cut("one two", 7) == "one two"
    assert cut("one two three", 9) == "one two…"
    assert cut("日本語の題名", 4) == "日本語…"
    assert cut("one\ntwo", 6) == "one…"
    assert cut("word", 2) == "…"


def test_a_long_title() -> None:
    made = title(issue(title=f"{'word ' * 37}{SECRET} {'more ' * 50}"))
    assert len(made) <= TITLE_LIMIT
    assert "ghp_" not in made
    assert made.startswith("Fix: word")
