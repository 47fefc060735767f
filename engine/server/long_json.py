"""JSON of any length, read and written so that other threads have their turn.

The scanner and the encoder in C keep the interpreter's lock from a list's first item to its last: seconds, of millions
of token ids. What is long is therefore walked in Python, and only runs of numbers are left to C, a piece at a time.
"""

import json
import re
from collections.abc import Callable
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from starlette.exceptions import HTTPException

from engine.errors import one_line

AT_ONCE = 1 << 17  # bytes of JSON that C reads whole: milliseconds
MAX_KEYS = 10_000  # of one object: pydantic makes an error of a kilobyte for each that is wrong
MAX_VALUES = 1 << 20  # that are no numbers in lists; only of JSON that is longer
_NUMBERS = re.compile(r"[-+.0-9eE \t\n\r,]{1,65536}")
_BLANKS = re.compile(r"[ \t\n\r]*")
_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(body: bytes) -> Any:
    """The value of a body.

    Raises:
        JSONDecodeError: it is not JSON.
        HTTPException: it is not UTF-8, or holds what no request needs.
    """
    try:
        if len(body) <= AT_ONCE:
            return json.loads(body, object_pairs_hook=_object)
        return json.loads(body, cls=_InTurns)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise HTTPException(400, "the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise HTTPException(400, "the body is not UTF-8") from error
    except ValueError as error:  # a number of thousands of digits
        raise HTTPException(400, f"the body can't be read: {one_line(error)}") from error


def write_json(value: Any) -> str:
    """JSON of a value, as starlette's `JSONResponse` writes it.

    Raises:
        ValueError: a number is not finite.
    """
    return "".join(_WRITER.iterencode(value))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise HTTPException(400, f"an object in the body has {len(pairs)} fields, more than {MAX_KEYS}")
    return dict(pairs)


class _InTurns(json.JSONDecoder):
    """Reads one text."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._counted)
        self._values = 0
        self.parse_array = self._array
        self.scan_once = py_make_scanner(self)

    def _count(self, more: int) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            raise HTTPException(400, f"the body has more than {MAX_VALUES} values")

    def _counted(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._count(1 + len(pairs))
        return _object(pairs)

    def _array(self, state: tuple[str, int], scan: Callable[[str, int], tuple[Any, int]]) -> tuple[list[Any], int]:
        """The list that begins before a place in a text, and where it ends; see `json.decoder.JSONArray`."""
        text, at = state
        found: list[Any] = []
        at = _behind_blanks(text, at)
        if text[at : at + 1] == "]":
            self._count(1)
            return found, at + 1
        while True:
            run = _NUMBERS.match(text, at)
            last = text.rfind(",", at, run.end()) if run else -1
            if last >= 0:
                numbers = json.loads(f"[{text[at:last]}]")
                if not numbers:
                    raise json.JSONDecodeError("Expecting value", text, at)
                found += numbers
                at = _behind_blanks(text, last + 1)
                continue
            self._count(1)
            try:
                value, at = scan(text, at)
            except StopIteration as error:
                raise json.JSONDecodeError("Expecting value", text, error.value) from None
            found.append(value)
            at = _behind_blanks(text, at)
            if text[at : at + 1] == "]":
                return found, at + 1
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _behind_blanks(text, at + 1)


def _behind_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()
