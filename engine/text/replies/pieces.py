"""The parts of a reply."""

import json
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

Schemas = dict[str, dict[str, Any]]  # the parameters of each tool, by its name


class Content(NamedTuple):
    """Text for the reader of the reply."""

    text: str


class Thought(NamedTuple):
    """Text that the model wrote for itself."""

    text: str


class ToolCall(NamedTuple):
    """A whole call; `arguments` is a JSON object."""

    name: str
    arguments: str


Piece = Content | Thought | ToolCall


class ReplyReader(ABC):
    """Takes one reply apart while it grows. How it is cut into pieces of text does not change what is found."""

    _text = ""  # not yet taken apart

    def push(self, text: str) -> list[Piece]:
        """What `text` completes. A call is held back until it is whole; a broken one comes as content."""
        self._text += text
        return self._read(last=False)

    def end(self) -> list[Piece]:
        """What is left at the reply's end."""
        return self._read(last=True)

    @abstractmethod
    def _read(self, last: bool) -> list[Piece]:
        """Take from the text what is complete; `last`: no more text comes."""


def parsed(text: str) -> Any:
    """A JSON value.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def sequence(text: str, between: str = "") -> list[Any]:
    """JSON values one after another, with blanks between them, and perhaps a mark.

    Raises:
        ValueError: there is something else, or one is nested too deeply.
    """
    found, text = [], text.strip()
    try:
        while text:
            value, end = _DECODER.raw_decode(text)
            found.append(value)
            text = text[end:].lstrip().removeprefix(between).lstrip()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found


def as_call(value: Any, *arguments: str) -> ToolCall:
    """A call that was written as a JSON object.

    Args:
        value: the object, with the tool's `name`.
        arguments: keys under which the arguments may be; without any of them there are none.

    Raises:
        ValueError: it is no call.
    """
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ValueError("no name")
    given: Any = next((value[key] for key in arguments if value.get(key) is not None), {})
    if isinstance(given, str):
        given = parsed(given)
    return call_of(value["name"], given)


def call_of(name: str, arguments: Any) -> ToolCall:
    """A call of tool `name`.

    Raises:
        ValueError: the arguments are no object, or it has no name.
    """
    if not isinstance(arguments, dict) or not name:
        raise ValueError("the arguments are not an object")
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
