"""What a model wrote has no effect on GitHub, and reads the same."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.sanitize import fence, inline, neutralize
from tests.bot.sanitize.markdown import GITHUB, MARKDOWN


def _seen(text: str) -> str:
    return text.replace("\u200b", "")


@pytest.mark.parametrize(
    "text",
    [
        "ask @octocat and @octo-org/team",
        "fixes #1, closes octo-org/octo-repo#12, resolves GH-3",
        "Fixes https://github.com/octo-org/octo-repo/issues/1",
        "![beacon](https://evil.example/x.png)",
        "![beacon][r]\n\n[r]: https://evil.example/x.png",
        "[text](https://evil.example)",
        "[text][r]",
        "<https://evil.example>",
        "https://evil.example www.evil.example mailto:a@b.example ftp://evil.example",
        "<img src=https://evil.example/x.png>",
        "</details></td></table>",
        "<script>alert(1)</script>",
        "<!-- troop:status -->",
        "&#64;octocat &commat;octocat &lt;b&gt;",
        "/troop stop",
        "| a | b |\n|---|---|\n| @octocat | <b> |",
        "- ```\n  @octocat\n  ```\n",
        "`@octocat` and `fixes #1`",
        "> @octocat\n> fixes #1",
        "a\u200b@octocat fixes #\u200b1",
        "fixes #\u206012",
        "_GH-1_ _www.evil.example_ __@octocat__",
    ],
)
def test_attack_19_nothing_acts_on_github(text: str) -> None:
    out = neutralize(text)
    _assert_harmless(out)
    visible = re.sub("[\u200b\u2060]", "", text)
    assert _seen(out).rstrip("\n") == visible.rstrip("\n")  # still reads the same


def _assert_harmless(out: str) -> None:
    """By the whole Markdown parser, then by what GitHub looks for in the text it makes."""
    for token in GITHUB.parse(out):
        assert token.type != "html_block", out
        for child in token.children or ():
            assert child.type not in ("html_inline", "image", "link_open"), (child, out)
            if child.type == "text":
                assert not re.search(r"@[A-Za-z0-9]", child.content), out
                assert not re.search(r"#\d|GH-\d", child.content, re.IGNORECASE), out
                assert not re.search(r"(https?|ftp)://|www\.|mailto:", child.content), out
                assert not re.match(r"\s*/troop\b", child.content), out


@settings(max_examples=500)
@given(MARKDOWN | st.text())
@example("```\n</details>")
@example("   ```\n@octocat\n```\n@octocat")
@example("<details>\n```\n@octocat\n```")
@example("- ```\n@octocat\n```")
@example("````\n```\n@octocat\n````\n@octocat")
@example("`\n```\n@octocat\n```\n`")
@example("[a]: x '\n```\n@octocat\n```\n'")
@example("| a |\n|---|\n```\n@octocat")
@example("~~~ `\n@octocat")
@example("&\u202e#64;octocat")
def test_attack_19_whatever_a_model_writes_does_nothing(text: str) -> None:
    out = neutralize(text)
    _assert_harmless(out)
    # Nothing stays open: what stands below is read as what it is.
    last = GITHUB.parse(f"{out}\n\nbelow <b>")[-3:]
    assert [token.type for token in last] == ["paragraph_open", "inline", "paragraph_close"]
    assert last[0].level == 0
    assert last[1].content.startswith("below")


def test_fenced_code_is_kept_as_it_is() -> None:
    text = "See:\n\n```python\n@decorator  # fixes #1\ndef f(): ...\n```\n\ndone"
    assert neutralize(text) == text


@pytest.mark.parametrize("language", ["mermaid", "math", "geojson", "suggestion", "x y", "js onload=x"])
def test_a_fence_that_github_would_draw_is_only_shown(language: str) -> None:
    assert neutralize(f"```{language}\ngraph\n```") == "```\ngraph\n```"


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("`~ \nab\t")) | st.text(), st.sampled_from(["", "python", "diff"]))
@example("```\n</details>", "")
@example("\n\n", "")
@example("", "")
def test_nothing_gets_out_of_a_fence(text: str, language: str) -> None:
    tokens = GITHUB.parse(f"before\n\n{fence(text, language)}\n\nafter")
    assert [token.type for token in tokens if token.type in ("fence", "paragraph_open")] == [
        "paragraph_open",
        "fence",
        "paragraph_open",
    ]
    [code] = [token for token in tokens if token.type == "fence"]
    assert code.info == language


@given(st.text(alphabet="`~ \nab|\\<@"))
@example("x\n\n```diff\n-a\n+b\n```")
def test_a_fence_shows_the_text(text: str) -> None:
    [code] = [token for token in GITHUB.parse(fence(text)) if token.type == "fence"]
    assert code.content.removesuffix("\n") == text.removesuffix("\n")


def test_a_fence_shows_what_changes_the_direction_of_text() -> None:
    assert fence("a\u202eb\x1b[0m") == "```\na\\u202eb[0m\n```"


@given(st.text() | MARKDOWN)
@example("`")
@example("a|b``")
@example("\n")
@example("@octocat <b>")
@example("\\")
def test_inline_code_is_one_span_in_one_cell(text: str) -> None:
    tokens = GITHUB.parse(f"| a | b |\n|---|---|\n| {inline(text)} | c |")
    code, other = [token for token in tokens if token.type == "inline"][2:]
    assert [child.type for child in code.children or ()] == ["code_inline"]
    assert other.content == "c"
