"""A long body, cut to GitHub's limit and still valid Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.sanitize.redact import redact

_blocks = MarkdownIt("commonmark", {"html": True}).enable("table").disable("inline")

BODY_LIMIT = 65_536  # characters of a comment or a pull request's body; a check run's summary takes 65,535
CUT_NOTE = "_The rest did not fit into GitHub's limit and was cut off._"
_VOID = frozenset({"br", "hr", "img", "input", "source", "wbr", "col", "area", "link", "meta"})


class _OpenTags(HTMLParser):
    """Which tags are still open at the end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass


_markdown = MarkdownIt("commonmark", {"html": True}).enable("table")


def _closing(text: str) -> str:
    """What closes everything that the text leaves open: a fence, a comment, HTML tags."""
    out = ""
    tokens = _blocks.parse(text)
    last = tokens[-1] if tokens else None
    lines = text.split("\n")
    if last is not None and last.type == "fence" and last.level == 0 and last.map is not None:
        close = re.compile(rf" {{0,3}}{re.escape(last.markup[0])}{{{len(last.markup)},}}[ \t]*")
        first, end = last.map  # without a closing line the block goes on to the end
        if end - 1 == first or not close.fullmatch(lines[end - 1]):
            out += "\n" + last.markup
    # Raw HTML is one text: a comment or a tag that one piece opens stays open through the Markdown after it.
    html = _uncommented("\n".join(_html(tokens)))
    if "<!--" in html:
        out += "\n\n<!-- -->"
        html = html[: html.index("<!--")]
    tags = _OpenTags()
    tags.feed(html)
    return out + "".join(f"\n\n</{tag}>" for tag in reversed(tags.stack))


def _uncommented(html: str) -> str:
    """The HTML without comments, except one that is never closed and everything after it. Takes linear time."""
    kept, at = [], 0
    while (begin := html.find("<!--", at)) >= 0 and (end := html.find("-->", begin + 4)) >= 0:
        kept.append(html[at:begin])
        at = end + 3
    return "".join(kept) + html[at:]


def _html(tokens: Sequence[Token]) -> Iterator[str]:
    """The pieces of raw HTML, in order."""
    for token in tokens:
        if token.type == "html_block":
            yield token.content
        elif token.type == "inline" and "<" in token.content:
            children = _markdown.parseInline(token.content)[0].children or ()
            yield from (child.content for child in children if child.type == "html_inline")


def fit(markdown: str, limit: int = BODY_LIMIT, note: str = CUT_NOTE) -> str:
    """The text, cut to at most `limit` characters where it is longer, with what was open closed and a note at the end.

    Cuts between lines; only a line that is too long by itself is cut within. Put hidden markers first. Raises
    `ValueError` for a limit below 1,000 characters.
    """
    if limit < 1000:
        raise ValueError(f"a limit of {limit} characters leaves no room; give at least 1,000")
    if len(markdown) <= limit:
        return markdown
    room = limit
    while True:
        head = markdown[: max(0, room - len(note) - 2)]
        cut = head.rfind("\n")
        if cut > len(head) // 2:
            head = head[:cut]
        else:  # one very long line: cut before an incomplete tag or code span
            head = head.rstrip("`")
            if head.rfind("<") > head.rfind(">"):
                head = head[: head.rfind("<")]
        whole = f"{head}{_closing(head)}\n\n{note}"
        if len(whole) <= limit:
            return whole
        room -= max(len(whole) - limit, 1)


def outgoing(markdown: str, secrets: Iterable[str]) -> str:
    """What may go to GitHub of a text: redacted, then cut to its limit. In this order: half a secret is not found."""
    return fit(redact(markdown, secrets))
