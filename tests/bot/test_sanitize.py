import base64
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bot.sanitize import BODY_LIMIT, CUT_NOTE, REDACTED, clean, fence, fit, inline, neutralize, redact
from tests.growth import grows_evenly

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

# What Markdown and GitHub act on, so that random text meets it often.
PIECES = (
    *"`~<>![]()#@*_-|&\\:/ \n\"'=x1é\u200b\u202e\U000e0041",
    *("```", "~~~", "<!--", "-->", "<details>", "</details>", "<img src=x alt='y'>", "<b title='x'>"),
    *("fixes #1", "GH-1", "@octocat", "![a](http://b)", "[a]: http://b 'c'", "https://x.example", "&#64;"),
    *("\n\n", "    ", "| a |\n|---|\n", "- ", "> ", "/troop stop"),
)
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


# -- into prompts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned", "flag"),
    [
        ("a <!-- hidden --> b", "a  b", "HTML comments"),
        ("<!--\nhidden\n\nmore\n-->\nx", "\nx", "HTML comments"),
        ("seen\n\n<!-- hidden to the end\n\nx", "seen\n\n", "HTML comments"),
        ("> <!-- hidden --> b", ">  b", "HTML comments"),
        ("- a\n  <!-- hidden -->", "- a\n  ", "HTML comments"),
        ("\\` <!-- hidden ` -->", "\\` ", "HTML comments"),
        ("a ` b\n<!-- hidden ` -->", "a ` b\n", "HTML comments"),
        ("<div>\n` <!-- hidden ` -->\n</div>", "<div>\n` \n</div>", "HTML comments"),
        ("| ` | <!-- hidden ` --> |\n|---|---|", "| ` |  |\n|---|---|", "HTML comments"),
        ("# ` title\n<!-- hidden ` -->", "# ` title\n", "HTML comments"),
        ("a <? hidden ?> b", "a  b", "HTML comments"),
        ("a <!X hidden> b", "a  b", "HTML comments"),
        ("a <![CDATA[ hidden ]]> b", "a  b", "HTML comments"),
        ("<<!-- x -->!-- hidden -->", "", "HTML comments"),
        ("![hidden](http://x.example/y.png) z", "[image] z", "images and their alt text"),
        ("![hidden [a] b](<u> 'hidden') z", "[image] z", "images and their alt text"),
        ("![hidden][r] z", "[image] z", "images and their alt text"),
        ('<img src="x" alt="hidden"> z', "[image] z", "images and their alt text"),
        ("<picture><source srcset='x'><img alt='hidden'></picture> z", "[image] z", "images and their alt text"),
        ("<IMG alt='a > b'> z", "[image] z", "images and their alt text"),
        ('<a href="u" title="hidden > x">t</a>', '<a href="u">t</a>', "hidden attributes of HTML tags"),
        ("<p data-x='hidden'>t</p>", "<p>t</p>", "hidden attributes of HTML tags"),
        ("[t](http://x.example 'hidden')", "[t](http://x.example)", "titles of links"),
        ("[//]: # (hidden)\nseen", "seen", "link definitions"),
        ("[hidden words]: http://x.example\n\nseen", "\nseen", "link definitions"),
        ("[a]: x\n[a]: hidden\n\nseen", "\nseen", "link definitions"),
        ("a\u200bb\u2060c\ufeffd", "abcd", "zero-width characters"),
        ("a\u202eb\u2066c", "abc", "characters that change the direction of text"),
        ("a\U000e0049\U000e0067b\U000e007f", "ab", "invisible tag characters"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc", "control characters"),
        ("a\ufe0f\ufe01\U000e0101b", "ab", "zero-width characters"),
    ],
)
def test_attack_13_what_people_do_not_see_is_stripped_and_flagged(text: str, cleaned: str, flag: str) -> None:
    found = clean(text)
    assert found.text == cleaned
    assert found.flags == (flag,)


@pytest.mark.parametrize(
    "text",
    [
        "plain text with a < b and c > d, x = 'y'",
        "```html\n<!-- code --> <img alt='x'> ![a](b)\n```",
        "~~~\n<!-- code -->\n~~~",
        "    <!-- code -->",
        "- a\n\n  ```\n  <!-- code -->\n  ```",
        "`<!-- code -->` and ``<img alt=`x`>``",
        "```\n<!-- never closed",
        "```\n[//]: # (code)\n```",
        "a <!-- never closed",
        "for (int i = 0; i<n; i++) { a[i] = b; }",
        "List<String> x = new Map<K, V>();",
        "if a<b: print(x=1)\nif c>d: pass",
        "x[0](y) and f(a)[1]",
        "tab\tand\n\nblank lines\n",
        "\u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467 1\ufe0f\u20e3 \u00e9 \u4e2d\u6587 \u0639\u0631",
        "- [ ] task\n- [x] done",
        "[text](http://x.example) <https://x.example>",
        "&lt;!-- shown --&gt;",
    ],
)
def test_what_people_see_is_kept(text: str) -> None:
    assert clean(text) == clean(text).model_copy(update={"text": text, "flags": ()})


def test_line_ends_are_made_one_kind_without_a_flag() -> None:
    found = clean("a\r\nb\rc\u2028d")
    assert (found.text, found.flags) == ("a\nb\nc\nd", ())


def test_half_a_surrogate_pair_can_be_stored() -> None:
    clean("x\ud800y").text.encode()


INVISIBLE = re.compile(
    "[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\x00-\x08\x0b-\x1f\x7f]"
)


@settings(max_examples=300)
@given(st.text() | MARKDOWN)
@example("![" * 50)
@example("<!" + "-" * 20 + ">")
def test_cleaned_text_is_clean(text: str) -> None:
    found = clean(text)
    assert not INVISIBLE.search(found.text)
    assert clean(found.text).text == found.text
    found.text.encode()
    if not found.flags:
        assert found.text == re.sub("\r\n?|[\x85\u2028\u2029]", "\n", text)


@settings(max_examples=300)
@given(MARKDOWN)
def test_what_is_left_hides_nothing_when_rendered(text: str) -> None:
    """A second opinion: the whole parser, inline rules and all, finds no image and no comment in the result."""
    for token in GITHUB.parse(clean(text).text):
        assert not (token.type == "html_block" and re.search("<!--.*-->", token.content, re.DOTALL)), token
        for child in token.children or ():
            assert child.type != "image"
            assert not (child.type == "html_inline" and child.content.startswith(("<!", "<?", "<img"))), child


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
            "#1",
        ),
    ],
)
def test_nothing_takes_long(function: Callable[[str], object], part: str) -> None:
    assert grows_evenly(function, part, 90_000)


# -- out to GitHub -----------------------------------------------------------------------------------------------


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


# -- length ------------------------------------------------------------------------------------------------------


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


# -- secrets -----------------------------------------------------------------------------------------------------

SECRET = "t0p-S3cret/value+with=signs&more"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join("QUJD" * 16 for _ in range(4)) + "\n-----END RSA PRIVATE KEY-----\n"
)


def _forms(secret: str) -> dict[str, str]:
    raw = secret.encode()
    wrapped = base64.b64encode(raw).decode()
    return {
        "whole": secret,
        "split": "\n".join(secret),
        "halves": f"{secret[:10]}\n  {secret[10:]}",
        "escaped": f"{secret[:10]}\\n{secret[10:]}",
        "base64": wrapped,
        "base64-1": base64.b64encode(b"x" + raw + b"t").decode(),
        "base64-2": base64.b64encode(b"xy" + raw + b"t").decode(),
        "base64-url": base64.urlsafe_b64encode(raw).decode(),
        "base64-wrapped": "\n".join(wrapped[i : i + 10] for i in range(0, len(wrapped), 10)),
        "url": quote(secret, safe=""),
        "percent": "".join(f"%{byte:02x}" for byte in raw),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "hex-dump": raw.hex(" "),
        "hex-colons": raw.hex(":"),
        "hex-python": "".join(f"\\x{byte:02x}" for byte in raw),
    }


@pytest.mark.parametrize("form", _forms(SECRET))
def test_attack_20_a_known_secret_is_found_in_every_form(form: str) -> None:
    shown = _forms(SECRET)[form]
    out = redact(f"before {shown} after", [SECRET, ""])
    assert REDACTED in out
    assert out.startswith("before ")
    assert out.endswith(" after")
    # At most what lies at an encoding's edges is left; never six characters of it in a row.
    left = out.removeprefix("before ").removesuffix(" after").replace(REDACTED, "\0")
    assert not any(shown[i : i + 6] in left for i in range(len(shown) - 5)), left


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2" * 9,
        "ghs_" + "a1B2" * 9,
        "gho_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 12,
        "sk-" + "a1B2" * 12,
        "sk-proj-" + "a1_-" * 12,
        "glpat-" + "a1B2" * 5,
        "xoxb-" + "123456789012-abc",
        "AKIA" + "A1B2" * 4,
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
        PEM.strip(),
        PEM[:60],
    ],
    ids=lambda token: token[:12],
)
def test_attack_20_token_shapes_are_found(token: str) -> None:
    assert redact(f"x {token}", []) == f"x {REDACTED}"


def test_attack_20_a_secret_of_several_lines_is_found_by_its_lines() -> None:
    key = "\n".join(["-----BEGIN KEY-----", "first line of the key", "second line of the key", "-----END KEY-----"])
    out = redact("see: second line of the key!", [key])
    assert out == f"see: {REDACTED}!"
    assert redact(repr(key), [key]) == f"'{REDACTED}'"


@pytest.mark.parametrize(
    "text", ["", "sk-learn and ghp_ are words", "a task-runner", "risk-assessment-of-everything-here"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text, ["", "short", SECRET]) == text


@given(st.text(min_size=8, max_size=40).filter(lambda s: len(s.strip()) >= 8), st.text(), st.text())
def test_attack_20_no_known_secret_is_left(secret: str, before: str, after: str) -> None:
    assert secret.strip() not in redact(before + secret + after, [secret])


def test_redacting_does_not_take_long() -> None:
    secrets = [SECRET, PEM, *(f"another-secret-{n:08}" for n in range(2))]
    assert grows_evenly(lambda text: redact(text, secrets), "t0p-S3cret/valu ", 200_000)
