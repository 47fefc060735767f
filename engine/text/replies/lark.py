"""Lark, as far as the grammars for calls need it."""

import json
from collections.abc import Callable

Mark = Callable[[str], str]  # a mark in Lark: a token, or its text
ANY = r"/(.|\n)*/"


def quoted(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)
