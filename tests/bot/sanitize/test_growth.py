"""No text takes a time that grows with the square of its length."""

from collections.abc import Callable

import pytest

from bot.sanitize import clean, fit, neutralize
from tests.growth import grows_evenly


def cut(text: str) -> str:
    return fit(text, len(text) * 2 // 3)


@pytest.mark.parametrize("function", [clean, neutralize, cut], ids=["clean", "neutralize", "fit"])
@pytest.mark.parametrize(
    "part",
    [
        *(
            "[",
            "`",
            "<!--",
            ">",
            "![",
            "\\`",
            "<a ",
            '<a "',
            "<a x='",
            '](a "',
            "<picture>",
            "``` ",
            "![[",
            "<![CDATA[",
        ),
        *(
            "![a](",
            "` `` ",
            '<img x="',
            "[a]: b\n",
            "- ",
            "  - ",
            "<details>",
            "<details>\n\n",
            "```\n",
            "\u202e",
            "$\\color{white}",
            "$\\mathchoice{",
            "][a",
            "[^a]: b\n",
            "a|-|",
            "<rp>",
            "<svg>",
            "<svg><math></svg>",
            "#1",
            '<a x="<a x=" y=',
            "<a x ",
            "</a ",
            "[](",
            "[^1]: a\n",
            "[^1]: a\n\n    b\n",
            "\\[^1] ",
            "[a]:\n",
            "<sub>",
            "<x> ",
            "$a\n",
            "[**](a) ",
            "&#82",
            "$",
            "$\\phantom{",
            "```math\n\\phantom{",
        ),
    ],
)
def test_nothing_takes_long(function: Callable[[str], object], part: str) -> None:
    assert grows_evenly(function, part, 90_000)
