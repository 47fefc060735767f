"""Removes from an issue what its readers on GitHub don't see, before a prompt shows it to a model."""

import re
from collections.abc import Iterable
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.records import Issue, Record
from bot.sanitize.characters import strip_invisible

# Block structure only: inline rules are not needed, and take more than linear time.
_blocks = MarkdownIt("commonmark", {"html": True}).enable("table").disable("inline")


class Cleaned(Record):
    """The visible text, and in words what was removed."""

    text: str
    flags: tuple[str, ...] = ()


# The first alternative that matches wins, as in Markdown: an escape, a code span, then what is removed.
_SPAN = r"(?P<escape>\\[!-/:-@\[-`{-~])|(?P<code>(?<!`)(?P<ticks>`+)(?!`))|"
# Repetitions are bounded, so that the search takes linear time on any text.
_IMAGE = (
    r"(?P<image>!\[(?:[^\[\]\\]|\\.|\[[^\[\]]{0,200}\]){0,2000}\]"
    r"(?:\([^()\n]{0,2000}(?:\([^()\n]{0,500}\)[^()\n]{0,2000})?\)|\[[^\]]{0,500}\])?)"
)
_ATTRIBUTES = r"""(?:[^<>"']|"[^"]{0,2000}"|'[^']{0,2000}'){0,200}"""
_HIDDEN = (
    r"(?P<comment><!--|<\?|<![A-Za-z]|<!\[CDATA\[)"
    r"|(?P<picture></?(?:picture|source|video|audio|img)\b)"
    rf"|(?P<tag><[A-Za-z][A-Za-z0-9-]{{0,20}}(?=[\s/])(?=[^<>]{{0,2000}}=){_ATTRIBUTES}>)"
    r"|(?P<title>(?<=\]\()(?P<url>[^\s()<>]{0,2000})[ \t\n]+"
    r"(?:\"[^\"]{0,2000}\"|'[^']{0,2000}'|\([^()]{0,2000}\))[ \t\n]*(?=\)))"
)
_INLINE = re.compile(_SPAN + _IMAGE + "|" + _HIDDEN, re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(_IMAGE + "|" + _HIDDEN, re.DOTALL | re.IGNORECASE)
_ENDS = {"<!--": "-->", "<?": "?>", "<![cdata[": "]]>"}
_LINK_ATTRIBUTE = re.compile(r"\b(?:href)\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>]+)", re.IGNORECASE)


def clean(text: str) -> Cleaned:
    """Remove what is hidden from whoever reads the rendered issue; code is kept as it is.

    Removed: HTML comments and declarations, pictures with their alt text, titles and other hidden attributes, link
    definitions, zero-width, bidirectional, tag and control characters. Idempotent in its text.
    """
    flags: set[str] = set()
    for _ in range(8):  # a removal may join text that is hidden in turn; a pass or two are enough for most
        before = text
        text = _clean_once(strip_invisible(text, flags), flags)
        if text == before:
            break
    return Cleaned(text=text, flags=tuple(sorted(flags)))


def clean_issue(title: str, body: str, *, number: int = 0, author: str = "", url: str = "") -> Issue:
    """An issue as prompts may hold it: title and body cleaned, the title on one line."""
    cleaned_title, cleaned_body = clean(title), clean(body)
    return Issue(
        title=" ".join(cleaned_title.text.split()),
        body=cleaned_body.text,
        number=number,
        author=author,
        url=url,
        flags=tuple(sorted({*cleaned_title.flags, *cleaned_body.flags})),
    )


def _clean_once(text: str, flags: set[str]) -> str:
    lines = text.split("\n")
    env: dict[str, Any] = {}
    tokens = _blocks.parse(text, env)
    out: list[str] = []
    done = 0
    hidden = {n for ref in env.get("references", {}).values() for n in range(*ref["map"])}
    hidden |= {n for ref in env.get("duplicate_refs", []) for n in range(*ref["map"])}
    for start, end, kind in _segments(tokens, len(lines)):
        start = max(start, done)
        if start >= end:
            continue
        done = end
        part = lines[start:end]
        if kind != "code" and hidden:
            kept = [line for n, line in enumerate(part, start) if n not in hidden]
            if len(kept) < len(part):
                flags.add("link definitions")
            part = kept
            if not part:
                continue
        out.append("\n".join(part) if kind == "code" else _clean_part("\n".join(part), kind == "html", flags))
    return "\n".join(out)


def _segments(tokens: Iterable[Token], count: int) -> list[tuple[int, int, str]]:
    """The text's lines as `(start, end, kind)` in order: `code`, `html`, `inline` (one paragraph), or `other`."""
    found = []
    tables: list[tuple[int, int]] = []
    for token in tokens:
        if token.map is None:
            continue
        start, end = token.map
        if token.type == "table_open":
            tables.append((start, end))
        elif token.type in ("fence", "code_block"):
            found.append((start, end, "code"))
        elif token.type == "html_block":
            found.append((start, end, "html"))
        elif token.type == "inline" and not any(a <= start < b for a, b in tables):
            found.append((start, end, "inline"))
    # Cell borders end code spans, so nothing in a table counts as code.
    found += [(a, b, "html") for a, b in tables]
    segments: list[tuple[int, int, str]] = []
    at = 0
    for start, end, kind in sorted(found):
        if start > at:
            segments.append((at, start, "other"))
        segments.append((start, end, kind))
        at = max(at, end)
    segments.append((at, count, "other"))
    return segments


def _clean_part(text: str, in_html: bool, flags: set[str]) -> str:
    """One block that is not code. In an HTML block, backticks have no meaning, and an open comment hides the rest."""
    pattern = _BLOCK if in_html else _INLINE
    out: list[str] = []
    at = 0
    missing: set[str] = set()  # end markers that do not occur any more: they are searched for once
    while match := pattern.search(text, at):
        out.append(text[at : match.start()])
        at = match.end()
        groups = match.groupdict()
        if groups.get("escape"):
            out.append(match[0])
        elif groups.get("code"):
            ticks = groups["ticks"] or ""
            close = None
            if ticks not in missing:
                close = re.compile(rf"(?<!`){ticks}(?!`)").search(text, at)
                if close is None:
                    missing.add(ticks)
            stop = close.end() if close else at
            out.append(text[match.start() : stop])
            at = stop
        elif groups["image"]:
            flags.add("images and their alt text")
            out.append("[image]")
        elif opening := groups["comment"]:
            ending = _ENDS.get(opening.lower(), ">")
            stop = -1 if ending in missing else text.find(ending, match.end() - (2 if opening == "<!--" else 0))
            if stop < 0:
                missing.add(ending)
                if not in_html:
                    out.append(match[0])  # an open comment is shown by GitHub
                    continue
                at = len(text)
            else:
                at = stop + len(ending)
            flags.add("HTML comments")
        elif opening := groups["picture"]:
            flags.add("images and their alt text")
            end = _picture_end(text, match.start(), opening.lower())
            out.append("[image]" if opening[1] != "/" and "source" not in opening.lower() else "")
            at = end
        elif groups["tag"]:
            tag = match[0]
            link = _LINK_ATTRIBUTE.search(tag)
            name = re.split(r"[\s/]", tag[1:], maxsplit=1)[0]
            bare = f"<{name} {link[0]}>" if link else f"<{name}>"
            if bare != tag:
                flags.add("hidden attributes of HTML tags")
            out.append(bare)
        else:
            flags.add("titles of links")
            out.append(groups["url"] or "")
    out.append(text[at:])
    return "".join(out)


def _picture_end(text: str, start: int, opening: str) -> int:
    """Where `<picture>...</picture>`, or the tag alone, ends."""
    name = opening.strip("</")
    if name in ("picture", "video", "audio") and opening[1] != "/":
        close = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(text, start, start + 20_000)
        if close:
            return close.end()
    tag = re.compile(rf"<{_ATTRIBUTES}>", re.DOTALL).match(text, start)
    if tag:
        return tag.end()
    line = text.find("\n", start)
    return len(text) if line < 0 else line
