"""Where HTML tags and images end, by the rules of CommonMark and HTML. In time linear in the text. Pure."""

import bisect
import re

from markdown_it.common.html_blocks import block_names

_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*+)")
_ATTRIBUTE = re.compile(  # of CommonMark
    r"\s++[A-Za-z_:][\w:.-]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'=<>`]++))?+"
)
_LAX_NAME = re.compile(r"</?([A-Za-z][^\s/>]*+)")
_LAX_ATTRIBUTE = re.compile(  # of HTML: whatever is not the end
    r"[\s/]++|=?[^\s/>=]++(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>\"'][^\s>]*+)?+)?+|="
)
_ADDRESS = r"(?!(?:javascript|vbscript|data):)[^\s\"'<>]++"
_HREF = re.compile(rf"=?href\s*=\s*(?:\"{_ADDRESS}\"|'{_ADDRESS}'|{_ADDRESS})", re.IGNORECASE)
_INLINE = (
    "a abbr audio b bdi bdo big br button cite code data datalist del dfn em font i img input ins kbd label map "
    "mark math meter noscript object output picture pre progress q rp rt ruby s samp script select small span "
    "strike strong style sub sup svg template textarea time tt u var video wbr"
)
ELEMENTS = frozenset((*block_names, *_INLINE.split()))  # of HTML
_BARE_ADDRESS = re.compile(r"(?:https?://|ftp://|www\.)[^\s<]++", re.IGNORECASE)
_STEPS = 20  # characters that may be read, for each of the text
_ESCAPABLE = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class Tags:
    """Finds the ends of tags in one text."""

    def __init__(self, text: str, *, in_html: bool) -> None:
        self._text = text
        self._in_html = in_html
        self._left = _STEPS * len(text)

    def name_and_end(self, start: int) -> tuple[str, int] | None:
        """The name of the tag at `start`, and the index past its `>`; None if it is no tag.

        In an HTML block, an open tag hides what is left of the block.
        """
        name, attribute = (_LAX_NAME, _LAX_ATTRIBUTE) if self._in_html else (_NAME, _ATTRIBUTE)
        found = name.match(self._text, start)
        if found is None or (self._left <= 0 and not self._in_html):
            # A text that was made to be slow: what might be a tag counts as one.
            close = self._text.find(">", start, start + 1_000) if found else -1
            return (found[1], close + 1) if found and close >= 0 else None
        at = found.end()
        while step := attribute.match(self._text, at):
            at = step.end()
        self._left -= at - start
        end = re.compile(r"\s*+/?>").match(self._text, at)
        if end is not None:
            return found[1], end.end()
        if self._in_html and at >= len(self._text) and at > found.end():
            return found[1], at
        return None


def address_of(tag: str) -> str:
    """The first `href` of a tag as it is written, if its value is an address; else ""."""
    name = _LAX_NAME.match(tag)
    at = name.end() if name else len(tag)
    while step := _LAX_ATTRIBUTE.match(tag, at):
        at = step.end()
        if step[0].lower().startswith("href"):
            return step[0] if _HREF.fullmatch(step[0]) else ""
    return ""


class Addresses:
    """The addresses in one text that GitHub links as they stand: no character in one escapes or begins code."""

    def __init__(self, text: str) -> None:
        self._spans = [found.span() for found in _BARE_ADDRESS.finditer(text)]

    def __contains__(self, at: int) -> bool:
        before = bisect.bisect(self._spans, (at, at)) - 1
        return before >= 0 and at < self._spans[before][1]


def brackets(text: str, addresses: Addresses, *, in_html: bool) -> dict[int, int]:
    """Index of each `[` to that of its `]`; escaped ones and those in code spans do not count."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    ticks: dict[int, list[int]] = {}
    if not in_html:
        for run in re.finditer("`+", text):
            ticks.setdefault(len(run[0]), []).append(run.start())
        for starts in ticks.values():
            starts.reverse()
    at = 0
    while at < len(text):
        char = text[at]
        if char in "\\`" and at in addresses:
            at += 1
            continue
        if char == "\\" and text[at + 1 : at + 2] in _ESCAPABLE:
            at += 2
            continue
        if char == "`" and not in_html:
            length = 1
            while text.startswith("`", at + length):
                length += 1
            starts = ticks.get(length, [])
            while starts and starts[-1] <= at:
                starts.pop()
            at = (starts.pop() if starts else at) + length
            continue
        if char == "[":
            opened.append(at)
        elif char == "]" and opened:
            pairs[opened.pop()] = at
        at += 1
    return pairs
