"""A grammar for the arguments of calls as Gemma 4 writes them."""

import json
from typing import Any

from engine.text.replies.gemma import QUOTE
from engine.text.replies.lark import ANY, Values, quoted
from engine.text.replies.unquoted import parameter, types_of

_DEEPEST = 4  # schemas within a schema; what is deeper may be anything


class GemmaValues(Values):
    """Writes rules for values: keys are bare, texts stand between marks, the rest is as in JSON."""

    def of(self, schema: Any, depth: int = 0) -> str:
        """The rule of a value of this schema."""
        if isinstance(schema, dict) and isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._rule(" | ".join(self._constant(value) for value in schema["enum"]))
        types = types_of(schema)
        if depth > _DEEPEST or not types:
            return self._anything()
        return self._rule(" | ".join(self._of_type(kind, schema, depth) for kind in sorted(types)))

    def _of_type(self, kind: str, schema: Any, depth: int) -> str:
        if kind == "string":
            return self._text()
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            items = schema.get("items") if isinstance(schema, dict) else None
            item = self.of(items, depth + 1) if items else self._anything()
            return f'"[" ({item} ("," {item})*)? "]"'
        limits = {key: value for key, value in schema.items() if key in _LIMITS} if isinstance(schema, dict) else {}
        return self._rule(f"%json {json.dumps({'type': kind} | limits)}")

    def _object(self, schema: dict[str, Any], depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            closed = schema.get("additionalProperties") is False
            return '"{" "}"' if closed else f'"{{" ({self._pair()} ("," {self._pair()})*)? "}}"'
        demanded = schema.get("required")
        required: list[Any] = demanded if isinstance(demanded, list) else []
        rest = {True: '""', False: '""'}  # of the pairs, by whether none was written before
        for key in reversed(properties):
            pair = f"{quoted(f'{key}:')} {self.of(parameter(schema, key), depth + 1)} {rest[False]}"
            rest = {
                first: self._rule(way if key in required else f"{way} | {rest[first]}")
                for first, way in ((True, pair), (False, f'"," {pair}'))
            }
        return f'"{{" {rest[True]} "}}"'

    def _text(self) -> str:
        mark = self._mark(QUOTE)
        if mark.startswith("<["):  # a token
            return f"{mark} {self._rule(ANY)} {mark}"
        return f"{mark} {self._rule(ANY, QUOTE)}"

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self._mark(QUOTE)} {quoted(value)} {self._mark(QUOTE)}"
        return quoted(json.dumps(value))

    def _pair(self) -> str:
        return f'/[A-Za-z0-9_.-]+/ ":" {self._anything()}'

    def _anything(self) -> str:
        """Any value, two levels deep."""
        scalar = self._rule(f'{self._text()} | %json {{"type": ["number", "boolean", "null"]}}')
        listed = self._rule(f'{scalar} | "[" ({scalar} ("," {scalar})*)? "]"')
        named = f'/[A-Za-z0-9_.-]+/ ":" {listed}'
        return self._rule(f'{listed} | "{{" ({named} ("," {named})*)? "}}"')


_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
