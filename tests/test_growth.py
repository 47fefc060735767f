"""A square is told from a line, in the interpreter and in its regular expressions."""

import re

from tests.growth import grows_evenly


def test_lines_and_squares() -> None:
    assert grows_evenly(lambda text: [ord(character) for character in text], "ab", 80_000)
    assert grows_evenly(re.compile("a.*b").search, "ab", 80_000)
    assert not grows_evenly(lambda text: [text.count("c") for _ in text], "ab", 8_000)
    assert not grows_evenly(re.compile("<!--.*?-->").search, "<!--", 8_000)
