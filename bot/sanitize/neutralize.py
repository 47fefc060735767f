"""Turns text that a model or a program wrote into Markdown that has no effect on GitHub."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt

from bot.sanitize.characters import BIDI, CONTROL, strip_invisible

# Parses as GitHub will parse the result, whose HTML and link definitions are broken.
_blocks = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["inline", "reference"])

_BREAK = "\u200b"  # a zero-width space: breaks what GitHub acts on, and is harmless within code

_ACTIVE = re.compile(
    r"(?P<mention>@)"  # @user, @org/team, user@host
    r"|(?P<number>\#(?=\d)|GH-(?=\d))"  # fixes #1, owner/name#1, GH-1
    r"|(?P<html><)"  # tags, comments, <https://...>
    r"|(?P<entity>&(?=[#A-Za-z]))"  # &#64;user is a mention, too
    r"|(?P<image>!(?=\[))"
    r"|(?P<link>\](?=[(\[:]))"  # [text](url), [text][reference], [reference]: url
    r"|(?P<url>:(?=//)|(?<=www)(?=\.)|(?<=mailto)(?=:)|(?<=xmpp)(?=:))"  # what GitHub links on its own
    r"|(?P<troop>(?<=/)(?=troop\b))",  # a command, which Troop would obey
    re.IGNORECASE,
)
_SAFE_LANGUAGE = re.compile(r"[A-Za-z0-9+#-]{1,30}")
_RENDERED_LANGUAGES = frozenset({"mermaid", "math", "geojson", "topojson", "stl", "suggestion"})


def neutralize(text: str) -> str:
    """Prose that a model or a program wrote, as Markdown that has no effect on GitHub.

    A zero-width space breaks mentions, issue references (and so closing keywords), links, images, raw HTML, entities
    and `/troop`; they stay readable. Fenced code at the outermost level is kept and always closed. The length is not
    limited.
    """
    text = strip_invisible(text, set())
    lines = text.split("\n")
    out: list[str] = []
    at = 0
    for token in _blocks.parse(text):
        if token.type == "fence" and token.level == 0 and token.map is not None:
            out.append(_break(lines[at : token.map[0]]))
            out.append(fence(token.content, token.info.strip()))
            at = token.map[1]
    out.append(_break(lines[at:]))
    return "\n".join(part for part in out if part)


def _break(lines: Sequence[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        return match[0] + _BREAK

    return _ACTIVE.sub(replace, "\n".join(lines))


def fence(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in the text, so that the text can't end it.

    Control characters are removed; those that change the direction of text are shown as escapes.
    """
    text = re.sub(r"\r\n?", "\n", text)
    text = re.sub(rf"[{BIDI}]", lambda found: f"\\u{ord(found[0]):04x}", text)
    text = re.sub(rf"[{CONTROL}\ud800-\udfff]", "", text).removesuffix("\n")
    if not _SAFE_LANGUAGE.fullmatch(language) or language.lower() in _RENDERED_LANGUAGES:
        language = ""  # GitHub would render it instead of showing it
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def inline(text: str) -> str:
    """A code span, e.g. of a path or a test's name, that is also safe in a table cell."""
    text = " ".join(strip_invisible(text, set()).replace("|", "\u2502").split()) or "(empty)"
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


_SKIP = re.compile(r"\[\s*((?:skip|no)[ _-]+[\w -]{1,30}|[\w-]{1,30}[ _-]+skip)\s*\]", re.IGNORECASE)
_SKIP_TRAILER = re.compile(r"^([ \t]*skip-checks)[ \t]*:", re.IGNORECASE | re.MULTILINE)


def run_checks(message: str) -> str:
    """A commit message without what tells services to skip their checks, e.g. `[skip ci]`, which becomes `(skip ci)`.

    https://docs.github.com/actions/managing-workflow-runs/skipping-workflow-runs
    """
    message = re.sub(r"\*\*\*(NO_CI)\*\*\*", r"\1", message, flags=re.IGNORECASE)
    return _SKIP_TRAILER.sub(r"\1 -", _SKIP.sub(r"(\1)", message))
