"""A body that is cut to a limit is still valid Markdown."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.sanitize import BODY_LIMIT, CUT_NOTE, fence, fit
from tests.bot.sanitize.markdown import GITHUB, MARKDOWN


def _table(rows: int) -> str:
    return "| candidate | votes |\n|---|---|\n" + "".join(f"| {n} | {n % 7} |\n" for n in range(rows))


LONG = [
    "word " * 20_000,
    "x" * 100_000,
    "line\n" * 20_000,
    _table(10_000),
    "```diff\n" + "+line\n" * 20_000 + "```\n",
    "<details>\n<summary>2</summary>\n\n" + fence("+x\n" * 40_000, "diff") + "\n\n</details>\n",
    "<details>\n\n<details>\n\n" + "text\n" * 20_000 + "\n</details>\n</details>\n",
    "<!-- " + "hidden\n" * 20_000 + "-->",
    "```\n```\n" + "\n" * 100_000,
    "<details><!--\n\nx\n\n" + "word\n" * 20_000,
    "~~~~\n" + "`" * 100_000 + "\n~~~~",
    "`" * 100_000,
    "<b>" * 30_000,
    "<details><summary>" * 6_000,
    "- a\n" * 30_000,
    "- ```\n" + "  code\n" * 30_000,
    "> " * 50_000,
    "\n" * 100_000,
    "é中\U0001f600" * 40_000,
]


@pytest.mark.parametrize("text", LONG, ids=[f"{text[:12]!r}" for text in LONG])
@pytest.mark.parametrize("limit", [1000, 10_000])
def test_attack_26_a_long_body_is_cut_and_still_valid(text: str, limit: int) -> None:
    _assert_fits(text, limit)


@pytest.mark.parametrize("text", LONG[3:6], ids=["table", "fence", "fence in details"])
def test_attack_26_a_body_is_cut_to_githubs_limit(text: str) -> None:
    _assert_fits(text, BODY_LIMIT)


def _assert_fits(text: str, limit: int) -> None:
    out = fit(text, limit)
    assert len(out) <= limit
    if len(text) <= limit:
        assert out == text
        return
    tokens = GITHUB.parse(out)
    assert [token.type for token in tokens[-3:]] == ["paragraph_open", "inline", "paragraph_close"]
    assert tokens[-3].level == 0, out[-300:]
    assert tokens[-2].content == CUT_NOTE, out[-300:]
    html = "".join(
        piece.content
        for token in tokens
        for piece in [token, *(token.children or ())]
        if piece.type in ("html_block", "html_inline")
    )
    html = re.sub("<!--.*?-->", "", html, flags=re.DOTALL)
    assert "<!--" not in html
    assert len(re.findall("<details", html)) <= len(re.findall("</details", html))


@settings(max_examples=300)
@given(st.lists(MARKDOWN | st.sampled_from(LONG).map(lambda text: text[:1500]), max_size=12).map("\n".join))
def test_attack_26_whatever_is_long_is_cut_and_still_valid(text: str) -> None:
    _assert_fits(text, 1000)


def test_most_of_the_room_is_used() -> None:
    assert len(fit("line\n" * 20_000)) > BODY_LIMIT - 200


def test_the_beginning_is_kept() -> None:
    out = fit("<!-- troop:status -->\n" + "line\n" * 20_000)
    assert out.startswith("<!-- troop:status -->\nline\n")


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1,000"):
        fit("x", 10)
