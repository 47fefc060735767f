"""The blocks of a Markdown text. Pure."""

import re
from collections.abc import Iterable
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

# Unlike GitHub's, this parser takes none whose address has a parenthesis too many.
_DEFINITION = re.compile(r"^([ >]*\[(?:[^\[\]\\]|\\.){1,999}\]:(?:[ \t]*+\n)?+[ \t>]*+)([^\s<]\S*)", re.MULTILINE)
# Block structure only: inline rules are not needed, and take more than linear time.
# GitHub's parser has no limit of nesting; this one sees what is in something deeper than all that can be read.
_blocks = MarkdownIt("commonmark", {"html": True, "maxNesting": 100}).enable("table").disable("inline")
# Tokens within each other that can still be read: lists, of which each has two, then fill the page's width.
_DEEPEST = 40


def parsed(text: str) -> tuple[list[Token], dict[str, Any]]:
    """The blocks, and what the parser notes of link definitions."""
    env: dict[str, Any] = {}
    return _blocks.parse(_DEFINITION.sub(_balanced, text), env), env


def _balanced(found: re.Match[str]) -> str:
    opened = found[2].count("(") >= found[2].count(")")
    return found[1] + (re.sub("[()]", "_", found[2]) if opened else found[2])


def too_deep(tokens: Iterable[Token]) -> set[int]:
    """The numbers of the lines that are so far to the right that nobody sees them."""
    return {n for token in tokens if token.level > _DEEPEST and token.map for n in range(*token.map)}


def lines_of(wanted: str, segments: Iterable[tuple[int, int, str]]) -> set[int]:
    """The numbers of the lines of that kind."""
    return {n for start, end, kind in segments if kind == wanted for n in range(start, end)}


def segments_of(tokens: Iterable[Token], count: int) -> list[tuple[int, int, str]]:
    """The text's lines as `(start, end, kind)` in order: `code`, `html`, `table`, `inline` (one paragraph), `other`."""
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
    found += [(a, b, "table") for a, b in tables]
    segments: list[tuple[int, int, str]] = []
    at = 0
    for start, end, kind in sorted(found):
        if start > at:
            segments.append((at, start, "other"))
        segments.append((start, end, kind))
        at = max(at, end)
    segments.append((at, count, "other"))
    return segments
