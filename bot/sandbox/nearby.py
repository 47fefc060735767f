"""Values that are near another one, and not equal to it. Standard library only, Python 3.8+.

Executed by `runner.py` for `agreeing.py`, never imported itself.
"""

from __future__ import annotations

import os
import sys
from itertools import chain, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_LEAVES = 40  # of a value that are changed one by one
_MOST_ALIKE = 160  # objects that differ from one in one attribute
_LETTERS = "bcdfghjklmnpqrstvwxz"


def _random(most: int) -> int:
    return 1 + int.from_bytes(os.urandom(4), "big") % most


def _of_leaf(value: Any) -> list[Any]:
    """Others of its type: some close, some farther away."""
    kind = type(value)
    if kind is bool:
        return [not value]
    if kind in (int, float, complex):
        # A neighbour among them: no modulus takes it for the same.
        steps = [kind(step) for step in (1, _random(9), -_random(9), 10 + _random(90), -1000 - _random(9000))]
        moved = steps if value != value else [value + step for step in steps]  # what is no number stays none
        return [other for other in moved if other != value]
    if kind is str:
        letter = _LETTERS[_random(len(_LETTERS)) - 1]
        place = _random(len(value) + 1) - 1
        return [value + letter, value[:place] + letter + value[place:], letter * (len(value) + 1), value[:-1] + "~q"]
    if kind is bytes:
        return [value + b"q", b"z" + value, value[:-1] + b"~q"]
    if value is None:
        return [0, "q", object()]
    return []


def _attributes(value: Any) -> dict[str, Any] | None:
    """Of an object that is nothing but these."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return None
    return dict(found) if type(found) is dict else None


def _like(value: Any, attributes: dict[str, Any]) -> Any:
    other = object.__new__(type(value))
    object.__getattribute__(other, "__dict__").update(attributes)
    return other


def _changed(value: Any, depth: int = 0) -> Iterator[list[Any]]:
    """For each leaf of the value, the value with others in its place; an object's attributes are one leaf together."""
    kind = type(value)
    if depth > 4:
        return
    if kind in (list, tuple):
        made: Callable[[list[Any]], Any] = kind
        for at, one in enumerate(value):
            for others in _changed(one, depth + 1):
                yield [made([*value[:at], other, *value[at + 1 :]]) for other in others]
    elif kind is dict:
        for key, one in value.items():
            for others in _changed(one, depth + 1):
                yield [{**value, key: other} for other in others]
    elif others := _of_leaf(value):
        yield others
    else:
        alike = list(islice(_alike(value, depth), _MOST_ALIKE + 1))
        if 0 < len(alike) <= _MOST_ALIKE:  # where there are more, what counts may not be among them
            yield alike


def _alike(value: Any, depth: int) -> Iterator[Any]:
    """The object with any of its attributes changed. They are taken together: what an honest one equals may differ in
    some, such as a cache or a name, but not in whichever."""
    attributes = _attributes(value) or {}
    for name, one in attributes.items():
        found = _changed(one, depth + 1)
        for others in chain([next(found, [object()])], found):  # what can't be changed is replaced
            for other in others:
                try:
                    yield _like(value, {**attributes, name: other})
                except TypeError:  # it can't be made so
                    return


def nearby(value: Any, whole: bool = False) -> list[Any]:
    """Values near that one; with `whole` a list of them for each of its leaves, of which some are taken."""
    if not whole:
        return [value, *_of_leaf(value)]
    found: list[Any] = []
    for others in _changed(value):
        found.append(others)
        if len(found) >= _LEAVES:
            break
    return found


def differ_alike(differences: list[Any]) -> bool:
    """Whether they are as large as each other, or nothing, which differences to unlike numbers are not."""
    if all(not one for one in differences):
        return True
    sizes = {float(abs(one)) for one in differences}
    return len(sizes) == 1 and max(sizes) < float("inf")


def close_to(value: Any, others: tuple[Any, ...]) -> bool:
    """Whether numpy, which a value may answer for, takes it for close to all of them."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and all(numpy.allclose(value, one) for one in others)
