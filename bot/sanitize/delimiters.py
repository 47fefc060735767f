"""Escapes what looks like a tag of a prompt or of a reply, so that data can't end the block that holds it. Pure."""

import functools
import re

# Blocks of prompts; those of `_HTML` are HTML too, which issues quote, so they are left where they can end nothing.
_BLOCKS = ("customs", "issue", "comment", "file", "summaries", "sandbox", "test", "candidate", "command", "paths")
_HTML = ("title", "output")
_REPLIES = (
    *("ranking", "relevant", "irrelevant", "read", "run", "edit", "define", "diff", "create", "delete", "choose"),
    *("wrong", "show", "done", "approve", "approved", "think", "system", "user", "assistant"),
)
_MARKERS = re.compile(r"^([<>=]{5,})(?=\s*(?:SEARCH|REPLACE)?\s*$)", re.MULTILINE)


def escaped(text: str) -> str:
    """The text without any tag of a prompt or a reply, and without the markers of an edit."""
    return _MARKERS.sub(r"\\\1", _tags((*_BLOCKS, *_HTML, *_REPLIES)).sub("&lt;", text))


def as_data(text: object, block: str) -> str:
    """The text as it may stand in `block`: `<` is `&lt;` where it begins a tag of a prompt's blocks.

    An `issue` can hold none of them. Of what programs print and models write, only the block's own tag is escaped: the
    rest may be copied into an edit or a test, letter by letter.
    """
    own = (*_BLOCKS, block) if block in ("issue", "comment", "title") else (block,)
    return _tags(own).sub("&lt;", str(text))


@functools.cache
def _tags(names: tuple[str, ...]) -> re.Pattern[str]:
    # Whitespace is bounded, so that the search takes linear time on any text.
    return re.compile(rf"<(?=\s{{0,20}}/?\s{{0,20}}(?:{'|'.join(names)})(?![\w-]))", re.IGNORECASE)
