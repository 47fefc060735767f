"""Grammars for calls as MiniMax M3 and Kimi K3 write them: each argument in an element of its own."""

import json
from collections.abc import Callable
from typing import Any

from engine.text.replies.lark import ANY, Values, quoted, spaced
from engine.text.replies.markup import escaped
from engine.text.replies.nested import ITEM, SPACE_MARK
from engine.text.replies.unquoted import parameter, types_of

_DEEPEST = 4  # schemas within a schema; what is deeper is written as JSON
_NAMES = {"integer": "number"}  # of types, where Kimi K3 has another


class _Written(Values):
    def _ended(self, schema: Any, end: str) -> str:
        """A value that is written as it is, and what ends it."""
        written = self._mark(end)
        if isinstance(schema, dict) and isinstance(schema.get("enum"), list) and schema["enum"]:
            texts = [value if isinstance(value, str) else json.dumps(value) for value in schema["enum"]]
            return f"({' | '.join(map(quoted, texts))}) {written}"
        if "string" not in types_of(schema):
            return f"{self._rule(f'%json {json.dumps(spaced(schema))}')} {written}"
        return f"{self._rule(ANY)} {written}" if written.startswith("<[") else self._rule(ANY, end)


class TaggedValues(_Written):
    """As MiniMax M3 writes them: objects and lists as elements within elements."""

    def call(self, tool: str, schema: dict[str, Any]) -> str:
        """A call of one tool."""
        begin, end = self._mark(f'{SPACE_MARK}<invoke name="{tool}">'), self._mark(f"{SPACE_MARK}</invoke>\n")
        return f"{begin} {self._members(schema, 0)} {end}"

    def _element(self, name: str, schema: Any, depth: int) -> str:
        begin, end, types = f"{SPACE_MARK}<{name}>", f"{SPACE_MARK}</{name}>", types_of(schema)
        named = isinstance(schema, dict) and isinstance(schema.get("properties"), dict)
        if depth < _DEEPEST and types == {"object"} and named:
            return self._rule(f"{self._mark(begin)} {self._members(schema, depth + 1)} {self._mark(end)}")
        if depth < _DEEPEST and types == {"array"} and isinstance(schema.get("items"), dict):
            whole = schema | {"properties": {ITEM: schema["items"]}}
            item = self._element(ITEM, parameter(whole, ITEM), depth + 1)
            return self._rule(f"{self._mark(begin)} {item}* {self._mark(end)}")
        return self._rule(f"{self._mark(begin)} {self._ended(schema, end)}")

    def _members(self, schema: dict[str, Any], depth: int) -> str:
        return " ".join(_each(schema, lambda key, own: self._element(key, own, depth)))


class TypedValues(_Written):
    """As Kimi K3 writes them: each with its type, all but texts as JSON."""

    def call(self, tool: str, schema: dict[str, Any]) -> str:
        """A call of one tool."""
        named, behind = self._mark(f'<|open|>call tool="{tool}" index="'), self._mark('"<|sep|>')
        begin = f"{named} /[0-9]+/ {behind}"
        return " ".join([begin, *_each(schema, self._argument), self._mark("<|close|>call<|sep|>")])

    def _argument(self, key: str, schema: Any) -> str:
        types, ways = types_of(schema), []
        if "string" in types:
            enum = schema.get("enum") if isinstance(schema, dict) else None
            texts = {"enum": [value for value in enum if isinstance(value, str)]} if enum else {}
            ways.append(self._written(key, ["string"], texts))
        others = sorted({_NAMES.get(kind, kind) for kind in types - {"string"}})
        if others or not types:
            alone = {"type": others} if "string" in types else schema
            ways.append(self._written(key, others or ["object", "array"], alone))
        return self._rule(" | ".join(ways))

    def _written(self, key: str, types: list[str], schema: Any) -> str:
        kinds = " | ".join(map(quoted, types))
        begin, behind = self._mark(f'<|open|>argument key="{escaped(key)}" type="'), self._mark('"<|sep|>')
        return f"{begin} ({kinds}) {behind} {self._ended(schema, '<|close|>argument<|sep|>')}"


def _each(schema: dict[str, Any], write: Callable[[str, Any], str]) -> list[str]:
    """The properties of an object, in their order; those that are not required may be left out."""
    properties, demanded = schema.get("properties"), schema.get("required")
    required = demanded if isinstance(demanded, list) else []
    found = []
    for key in properties if isinstance(properties, dict) else ():
        written = write(key, parameter(schema, key))
        found.append(written if key in required else f"{written}?")
    return found
