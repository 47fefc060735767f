"""Lark, as far as the grammars for calls need it."""

import json
from collections.abc import Callable
from typing import Any

from engine.text.grammar import SPACE

Mark = Callable[[str], str]  # a mark in Lark: a token, or its text
ANY = r"/(.|\n)*/"


class Values:
    """Writes rules for the values of a call's arguments, as one family of models has them."""

    def __init__(self, mark: Mark, rule: Callable[..., str]) -> None:
        """
        Args:
            mark: writes a mark in Lark.
            rule: adds a rule of this body, perhaps with what ends it; its name.
        """
        self._mark = mark
        self._rule = rule


def quoted(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)


def spaced(schema: Any) -> Any:
    """A JSON schema with bounds on the blanks between the parts of a value."""
    return schema | {"x-guidance": {"whitespace_pattern": SPACE}} if isinstance(schema, dict) else schema
