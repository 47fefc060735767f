"""Lark, as far as the grammars for calls need it."""

import json
from collections.abc import Callable
from typing import Any

from engine.text.grammar import SPACE

Mark = Callable[[str], str]  # a mark in Lark: a token, or its text
ANY = r"/(.|\n)*/"


def quoted(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)


def spaced(schema: Any) -> Any:
    """A JSON schema with bounds on the blanks between the parts of a value."""
    return schema | {"x-guidance": {"whitespace_pattern": SPACE}} if isinstance(schema, dict) else schema
