"""Lists in environment variables."""

import json

from pydantic import BeforeValidator


def _items(value: object) -> object:
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()


LISTED = BeforeValidator(_items)
"""Beside `NoDecode` on a field: a list is words with blanks or commas between, or JSON."""
