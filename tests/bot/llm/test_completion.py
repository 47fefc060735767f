import pytest

from bot.llm.completion import without_thoughts


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("<think>hm <test>draft</test></think>\n\n<done/>", "<done/>"),
        ("\n<thinking>a</thinking><done/>", "<done/>"),
        ("hm, well\n</think>\n\n<done/>", "<done/>"),
        ("<think>never ends <done/>", ""),
        ("no thoughts at all", "no thoughts at all"),
        ('<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\n</think>\n>>>>>>> REPLACE\n</edit>', None),
    ],
)
def test_thoughts_are_dropped(said: str, left: str | None) -> None:
    assert without_thoughts(said) == (said if left is None else left)
