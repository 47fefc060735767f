"""Reads JSON, TOML and INI that a stranger wrote: each failure is a `ValueError`, and none takes the square of a text.

The libraries' own parsers recurse, and two of them take quadratic time: `tomllib` for a key of very many parts, and
`configparser` for a line with very many blanks, within one regular expression that no other thread interrupts.
"""

import configparser
import json
import re
import tomllib
from typing import Any

_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"(?:\\.|[^"\\\n]){0,200}+"|'[^'\n]{0,200}+')[ \t]*+\.[ \t]*+){50}""")
_BLANKS = re.compile(r"[^\S\n]{200}")


def of_json(text: str, **options: Any) -> Any:
    """The value. `options` are those of `json.loads`."""
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def of_toml(text: str) -> dict[str, Any]:
    """The tables."""
    if _LONG_KEY.search(text):
        raise ValueError("a key has more than 50 parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_ini(parser: configparser.RawConfigParser, text: str) -> None:
    """Add what the text says to the parser, as far as it could be read."""
    if _BLANKS.search(text):
        raise ValueError("a line has more than 200 blanks in a row")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(str(error)) from error
