"""Mistakes of one kind are told from others."""

import pytest

from bot.patch.apply import Problem


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("SEARCH text was not found in a/b.py\nmore", "SEARCH text was not found in c.py", True),
        ("SEARCH text was found 2 times in a.py", "SEARCH text was found 13 times in b_c.py", True),
        ("a.py would no longer parse after the edit", "b.py would no longer parse after the edit", True),
        ("it fails for a reason of its own: NameError", "it fails for a reason of its own: SyntaxError: x", True),
        ("SEARCH text was not found in a.py", "SEARCH text was found 2 times in a.py", False),
        ("no <edit> found", "no <test> found", False),
    ],
)
def test_kinds_of_problems(one: str, other: str, alike: bool) -> None:
    assert (Problem(text=one).kind == Problem(text=other).kind) is alike
