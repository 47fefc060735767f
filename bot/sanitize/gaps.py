"""Text so far to the right, or so far below, that nobody looks for it. Pure."""

import re

_GAP = re.compile(r"[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]{8,}")
_TAB = 8  # columns, as GitHub shows it
# Columns of a gap that no table needs, and of all of them: beyond a screen's width nobody scrolls.
_WIDE, _FAR = 60, 150
_LINE_END = re.compile(r"(\n|<br\s{0,9}/?>|</p>)", re.IGNORECASE)
# A line without any word: rules, empty items, cells and headings, tags, pictures, punctuation.
_WORDLESS = re.compile(r"(?:<[^<>\n]{0,200}>|&#?\w{1,31};|\[image\]|\d{1,9}[.)](?!\w)|[^\w<]|[<_])*+")
_FAR_BELOW = 100  # such lines in a row, after which nobody looks what comes


def without_gaps(lines: list[str], flags: set[str]) -> list[str]:
    """The lines of preformatted text, those brought near that begin so far to the right that nobody sees them."""
    return [_without_gaps(line, flags) for line in lines]


def _without_gaps(line: str, flags: set[str]) -> str:
    gaps = [len(found[0]) + (_TAB - 1) * found[0].count("\t") for found in _GAP.finditer(line.rstrip())]
    if sum(gap for gap in gaps if gap >= _WIDE) < _FAR:
        return line
    flags.add("text far to the right in code")
    return _GAP.sub("    ", line)


def brought_up(text: str, flags: set[str]) -> str:
    """The text without lines that have no word, where so many follow each other that nobody looks below them."""
    parts = _LINE_END.split(text)  # lines, and how each ends, in turn
    out: list[str] = []
    at = begin = 0
    while begin < len(parts):
        at = begin
        while at < len(parts) - 1 and _WORDLESS.fullmatch(parts[at]):
            at += 2
        if at - begin >= 2 * _FAR_BELOW:
            flags.add("text far below")
            if out and out[-1] != "\n":
                out.pop()
            out.append("\n")
            begin = at
        else:
            at = max(at, begin + 2)
            out += parts[begin:at]
            begin = at
    return "".join(out)
