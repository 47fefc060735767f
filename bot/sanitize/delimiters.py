"""Keeps data from ending the block of a prompt that holds it. Pure.

What looks like a tag is escaped; a block that must hold its text letter by letter has a tag that the text does not.
"""

import functools
import re
import sys
from html import escape

# Blocks of prompts; those of `_HTML` are HTML too, which issues quote, so they are left where they can end nothing.
_BLOCKS = (
    "customs",
    "issue",
    "comment",
    "feedback",
    "file",
    "summaries",
    "sandbox",
    "test",
    "candidate",
    "command",
    "paths",
)
_HTML = ("title", "output")
_BY_PEOPLE = ("issue", "comment", "feedback", "title")
_REPLIES = (
    *("ranking", "relevant", "irrelevant", "read", "run", "edit", "define", "diff", "create", "delete", "choose"),
    *("wrong", "show", "done", "approve", "approved", "answer", "think", "system", "user", "assistant"),
)
# Where chat templates begin and end messages: most servers read these in any text as the template's own.
_MESSAGES = re.compile(
    r"<(?=[|\uff5c][^<>\s]{1,60}>|[A-Za-z_]{1,30}[|\uff5c]>|/?s>|(?:start|end)_of_turn>|/?(?:bos|eos|BOS|EOS)(?:_token)?>"
    r"|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|MODEL_SETTINGS)\])"
)
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"'}
_ENTITY = re.compile(rf"&(?:({'|'.join(_ENTITIES)})|#(\d{{1,7}}));")
_MARKERS = re.compile(r"^([<>=]{5,})(?=[^\S\n]*+(?:(?:SEARCH|REPLACE)[^\S\n]*+)?$)", re.MULTILINE)


def escaped(text: str) -> str:
    """The text without any tag of a prompt or a reply, and without the markers of an edit."""
    return _MARKERS.sub(r"\\\1", _tags((*_BLOCKS, *_HTML, *_REPLIES)).sub("&lt;", _without_messages(text)))


def _without_messages(text: str) -> str:
    return _MESSAGES.sub(lambda found: "&lt;" if found[0] == "<" else "&#91;", text)


def as_data(text: object, block: str) -> str:
    """The text as it may stand in `block`: `<` is `&lt;` where it begins a tag of a prompt's blocks.

    An `issue` can hold none of them, nor the marks of a chat template. Of what programs print and models write, only
    the block's own tag is escaped: the rest may be copied into an edit or a test, letter by letter.
    """
    by_people = block in _BY_PEOPLE
    text = _without_messages(str(text)) if by_people or block == "check" else str(text)
    return _tags((*_BLOCKS, block) if by_people else (block,)).sub("&lt;", text)


def tag_of(text: object, block: str) -> str:
    """The tag of the block that holds the text as it is, letter by letter: one that the text does not close.

    `block`, or where the text closes that, `block-2` or the first number after it. The text alone decides, so that
    prompts with the same files begin alike.
    """
    closed = _closing(block).findall(str(text))
    if "" not in closed:
        return block
    taken = {int(number) for number in closed if number}
    return f"{block}-{next(number for number in range(2, len(taken) + 3) if number not in taken)}"


@functools.cache
def _closing(block: str) -> re.Pattern[str]:
    return re.compile(rf"<\s{{0,20}}/\s{{0,20}}{block}(?:-(\d{{1,9}}))?(?![\w-])", re.IGNORECASE)


def as_attribute(text: object) -> str:
    """The text as the value of a tag's attribute: on one line, its quotes and brackets escaped."""
    return _without_messages(escape(" ".join(str(text).split())))


def as_path(path: str) -> str:
    """The path of a file as the value of an attribute, or on a line of its own: nothing in it ends either.

    A usual path stays as it is. `path_as_meant` gives back any.
    """
    plain = re.sub(r'["<>]', lambda found: escape(found[0]), _ENTITY.sub(lambda found: "&amp;" + found[0][1:], path))
    return plain if plain.isprintable() else "".join(c if c.isprintable() else f"&#{ord(c)};" for c in plain)


def path_as_meant(text: str) -> str:
    """The path that `as_path` wrote so."""
    return _ENTITY.sub(lambda found: _ENTITIES[found[1]] if found[1] else chr(min(int(found[2]), sys.maxunicode)), text)


@functools.cache
def _tags(names: tuple[str, ...]) -> re.Pattern[str]:
    # Whitespace is bounded, so that the search takes linear time on any text.
    return re.compile(rf"<(?=\s{{0,20}}/?\s{{0,20}}(?:{'|'.join(names)})(?![\w-]))", re.IGNORECASE)
