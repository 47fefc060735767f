"""Tool calls as Gemma 4 writes them: `<|tool_call>call:NAME{KEY:VALUE,...}<tool_call|>`, marks in place of quotes."""

import re
from typing import Any

from engine.text.replies.pieces import Schemas, ToolCall, call_of
from engine.text.replies.unquoted import literal

BEGIN, END, QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_CALL = re.compile(r"\s*call:([\w.-]+)\s*(?=\{)")
_BARE = re.compile(r"[^,\[\]{}]*")
_KEY = re.compile(r"\s*([^\s:,{}]+)\s*:")


def gemma4(section: str, _: Schemas) -> list[ToolCall]:
    """One call.

    Raises:
        ValueError: it is broken.
    """
    body = section.removeprefix(BEGIN).removesuffix(END)
    named = _CALL.match(body)
    if named is None:
        raise ValueError("no function")
    try:
        arguments, at = _value(body, named.end())
    except (IndexError, RecursionError) as error:
        raise ValueError("it is cut short or nested too deeply") from error
    if body[at:].strip():
        raise ValueError("text behind the arguments")
    return [call_of(named[1], arguments)]


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    at = _behind_blanks(text, at)
    if text.startswith(QUOTE, at):
        return _quoted(text, at)
    if text[at] == "{":
        found: dict[str, Any] = {}
        at = _behind_blanks(text, at + 1)
        while text[at] != "}":
            key, at = _key(text, at)
            found[key], at = _value(text, at)
            at = _next(text, at, "}")
        return found, at + 1
    if text[at] == "[":
        items = []
        at = _behind_blanks(text, at + 1)
        while text[at] != "]":
            item, at = _value(text, at)
            items.append(item)
            at = _next(text, at, "]")
        return items, at + 1
    bare = _BARE.match(text, at)
    assert bare is not None
    said = bare[0].strip()
    if not said:
        raise ValueError("no value")
    try:
        return literal(said), bare.end()
    except ValueError:
        return said, bare.end()


def _key(text: str, at: int) -> tuple[str, int]:
    if text.startswith(QUOTE, at):
        key, at = _quoted(text, at)
        at = _behind_blanks(text, at)
        if text[at] != ":":
            raise ValueError("a key without a value")
        return key, at + 1
    named = _KEY.match(text, at)
    if named is None:
        raise ValueError("no key")
    return named[1], named.end()


def _quoted(text: str, at: int) -> tuple[str, int]:
    begin = at + len(QUOTE)
    end = text.find(QUOTE, begin)
    if end < 0:
        raise ValueError("a text that does not end")
    return text[begin:end], end + len(QUOTE)


def _next(text: str, at: int, close: str) -> int:
    """Behind a comma, or at what closes."""
    at = _behind_blanks(text, at)
    if text[at] == ",":
        return _behind_blanks(text, at + 1)
    if text[at] != close:
        raise ValueError("no comma")
    return at


def _behind_blanks(text: str, at: int) -> int:
    while text[at].isspace():
        at += 1
    return at
