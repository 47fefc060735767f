"""Tool calls as MiniMax M3 writes them: each element of an argument in tags of its own, all tags behind one mark."""

import re
from typing import Any

from engine.text.replies.pieces import Schemas, ToolCall, call_of
from engine.text.replies.unquoted import parameter, types_of, value_of

SPACE_MARK = "]<]minimax[>["  # before each tag, so that a text may spell tags
BEGIN, END = f"{SPACE_MARK}<tool_call>", f"{SPACE_MARK}</tool_call>"
_TAG = re.compile(re.escape(SPACE_MARK) + r"\s*<(/?)([^<>]+)>")
_INVOKE = re.compile(r'invoke\s+name="([^"]+)"')
ITEM = "item"  # an element of a list
_DEPTH = 100


class _Elements:
    """The elements of a section, one after another."""

    def __init__(self, text: str) -> None:
        before, *rest = _TAG.split(text)
        self._tags = list(zip(rest[::3], rest[1::3], rest[2::3], strict=True))  # slash, name, the text behind it
        self._at = 0
        if before.strip():
            raise ValueError("text before a call")

    @property
    def left(self) -> bool:
        return self._at < len(self._tags)

    def next(self, slash: str, name: str | None = None) -> tuple[str, str]:
        """The name of the tag that follows, and the text behind it."""
        if not self.left or self._tags[self._at][0] != slash or name not in (None, self._tags[self._at][1]):
            raise ValueError("another tag is missing")
        _, found, text = self._tags[self._at]
        self._at += 1
        return found, text

    def opens(self) -> bool:
        return self.left and not self._tags[self._at][0]

    def element(self, whole: dict[str, Any], depth: int = 0) -> tuple[str, Any]:
        """A name and a value. `whole`: the schema of what it is in."""
        if depth > _DEPTH:
            raise ValueError("nested too deeply")
        name, text = self.next("")
        schema = parameter(whole, name)
        parts: list[tuple[str, Any]] = []
        if self.opens():
            _blank(text)
            inner = _within(schema)
            while self.opens():
                parts.append(self.element(inner, depth + 1))
        _blank(self.next("/", name)[1])
        types = types_of(schema)
        if parts and all(key == ITEM for key, _ in parts) and "object" not in types:
            return name, [value for _, value in parts]
        if parts or (types == {"object"} and not text.strip()):
            return name, dict(parts)
        return name, [] if types == {"array"} and not text.strip() else value_of(text, whole, name)


def minimax_m3(section: str, schemas: Schemas) -> list[ToolCall]:
    """The calls of a section.

    Raises:
        ValueError: it is broken.
    """
    elements = _Elements(section.removeprefix(BEGIN).removesuffix(END))
    calls: list[ToolCall] = []
    while not calls or elements.left:
        tag, text = elements.next("")
        named = _INVOKE.fullmatch(tag)
        if named is None:
            raise ValueError("no function")
        _blank(text)
        arguments: dict[str, Any] = {}
        while elements.opens():
            name, arguments[name] = elements.element(schemas.get(named[1], {}))
        _blank(elements.next("/", "invoke")[1])
        calls.append(call_of(named[1], arguments))
    return calls


def _within(schema: Any) -> dict[str, Any]:
    """The schema of what is in a value: of an object itself, of a list such that its elements have the name `item`."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(schema.get("items"), dict):
        return schema | {"properties": {ITEM: schema["items"]}}
    return schema


def _blank(text: str) -> None:
    if text.strip():
        raise ValueError("text between tags")
