"""Values that are near another one, and not equal to it. Standard library only, Python 3.8+.

Executed by `runner.py` for `agreeing.py`, never imported itself.
"""

from __future__ import annotations

import os
import sys
from itertools import chain, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_LEAVES = 40  # of a value that are changed one by one
_LONG = 1_000  # elements of a group, in all that are made of it: of a long one few are changed
_MOST_ALIKE = 160  # objects that differ from one in one attribute
_LETTERS = "bcdfghjklmnpqrstvwxz"
_LIBRARY = frozenset((  # modules whose values can be made anew, with another part
    *("builtins", "collections", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid"),
))  # fmt: skip


def _random(most: int) -> int:
    return 1 + int.from_bytes(os.urandom(4), "big") % most


def _of_leaf(value: Any) -> list[list[Any]]:
    """Others of its type: likely ones, and these with less likely ones. A candidate's value may equal small numbers, or
    words, alone."""
    kind = type(value)
    if kind is bool:
        return [[not value]]
    if kind in (int, float, complex):
        # A neighbour among them: no modulus takes it for the same.
        near = [kind(step) for step in (1, _random(9), 9 + _random(9))]
        steps = [near, [*near, -kind(_random(9)), kind(10 + _random(90)), -kind(1000 + _random(9000))]]
        moved = [some if value != value else [value + step for step in some] for some in steps]
        return [[other for other in others if other != value] for others in moved]  # what is no number stays none
    if kind is str:
        letter = _LETTERS[_random(len(_LETTERS)) - 1]
        place = _random(len(value) + 1) - 1
        near = [value + letter, value[:place] + letter + value[place:], letter * (len(value) + 1)]
        near = [sys.intern(one) for one in near]  # as a name in the script's text is
        return [near, [*near, value[:-1] + "~q"]]
    if kind is bytes:
        alike = [value[:at] + bytes([one ^ _random(3)]) + value[at + 1 :] for at, one in enumerate(value[:8])]
        return [*([alike] if alike else []), [value + b"q", b"z" + value, value[:-1] + b"~q"]]
    if value is None:
        return [[0, "q", object()]]
    return []


def _is_of_library(kind: type) -> bool:
    named = hasattr(kind, "_fields") or hasattr(kind, "__members__")
    return named or kind.__module__.partition(".")[0] in _LIBRARY


def _of_library(value: Any, depth: int, close: bool) -> Iterator[Any]:
    """Others of an enumeration, a tuple with names or a type of the standard library's, which are made of what pickle
    makes of the value, with another part."""
    if hasattr(type(value), "__members__"):
        yield from (one for one in type(value) if one is not value)
        return
    try:
        make, given, state, items, pairs = (*value.__reduce_ex__(2), None, None, None)[:5]
    except Exception:  # it can't be pickled
        return
    if type(given) is tuple and given and type(given[0]) is str:
        text, digit = given[0], str(_random(9))  # of a number
        at = 0 if text[:1].isdigit() else 1
        given = (text[:at] + digit + text[at:], *given[1:])
        yield from _made(make, [given, state, None, None])
        return
    for changed in _changed([given, state or (), [*(items or ())], [*(pairs or ())]], depth + 1, close):
        for parts in changed:
            yield from _made(make, parts)


def _made(make: Any, parts: list[Any]) -> list[Any]:
    """What pickle would make of that; none where there is no such value."""
    given, state, items, pairs = parts
    try:
        other = make(*given)
        for name, one in dict(state or ()).items():
            object.__setattr__(other, name, one)
        for one in items or ():
            other.append(one)
        for key, one in pairs or ():
            other[key] = one
    except Exception:
        return []
    return [other]


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


def _changed(value: Any, depth: int = 0, close: bool | None = None) -> Iterator[Iterable[Any]]:
    """For each leaf of the value, the value with others in its place, each of which is to be taken before the next leaf
    is; an object's attributes are one leaf together, and so is what a value of the standard library's is made of.
    `close`: in such a one, whether likely others alone; objects stay there, since a set has room for those alone that
    can be told apart."""
    kind = type(value)
    if depth > 7:
        return
    if kind in (list, tuple):
        made: Callable[[list[Any]], Any] = kind
        for at in _some(len(value)):
            for others in _changed(value[at], depth + 1, close):
                yield (made([*value[:at], other, *value[at + 1 :]]) for other in others)
    elif kind is dict:
        keys = list(value)
        for at in _some(len(keys)):
            for others in _changed(value[keys[at]], depth + 1, close):
                yield ({**value, keys[at]: other} for other in others)
    elif found := _of_leaf(value):
        yield from found[:1] if close else found
    elif kind.__module__ == "numpy" and hasattr(value, "shape"):
        yield [value + _random(9), value - _random(9)]
    elif _is_of_library(kind):
        for near in (True,) if close else (True, False):
            yield from _if_any(islice(_of_library(value, depth, near), _MOST_ALIKE))
    elif close is None:
        others = _alike(value, depth)
        # Where there are more, what counts may not be among them: nothing equals the last one.
        yield from _if_any(chain(islice(others, _MOST_ALIKE), (object() for _ in islice(others, 1))))


def _if_any(others: Iterator[Any]) -> Iterator[Iterable[Any]]:
    """These, where there are any."""
    for first in others:
        yield chain([first], others)
        return


def _some(length: int) -> list[int]:
    """Places in a group of that length: all, or a few by lot where it is long."""
    most = 1 + _LONG // (length + 1)
    return list(range(length)) if length <= most else sorted({_random(length) - 1 for _ in range(most)})


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


def nearby(value: Any, whole: bool = False) -> Iterable[Any]:
    """Values near that one; with `whole` those for each of its leaves, of which some are taken."""
    if whole:
        return islice(_changed(value), _LEAVES)
    changed = _changed(value) if _is_of_library(type(value)) else ()  # objects may be what none can be
    return [value, *islice(chain.from_iterable(changed), _LEAVES)]


def apart() -> list[tuple[Any, ...]]:
    """Values of which nothing equals all: no number of any modulus two neighbours, none that is about right a number
    and what is far from it."""
    one, other = (int.from_bytes(os.urandom(7), "big") + 10**17 for _ in range(2))
    near, text, words = 2 + one % 90, f"\0{one}", f"\0{other}"
    return [
        *((object(), object()), (one, one + 1, -other), (near, near + 1, -near), (text, words), (True, False)),
        *((text.encode(), words.encode()), ([one], [other]), ((one,), (other,)), ({one}, {other})),
        *(({text: one}, {words: other}), (f"{near}", f"{-near}")),
    ]


def alike(operator: str, value: Any, answers: list[Any]) -> bool:
    """Whether the operator gave what it can't give for unlike operands: nothing, or each time the same."""
    answers = [one.sum() if hasattr(one, "shape") else one for one in answers]  # of arrays
    if all(not one for one in answers):
        sized = any(hasattr(one, "__len__") for one in answers)  # an empty set less anything is empty
        return operator == "^" or (operator in ("-", "%") and bool(value if operator == "%" or sized else True))
    if operator not in ("-", "/", "//"):
        return False
    sizes = {float(abs(one) if operator == "-" else one) for one in answers}
    return len(sizes) == 1 and max(map(abs, sizes)) < float("inf")


def close_to(value: Any, others: tuple[Any, ...]) -> bool:
    """Whether numpy, which a value may answer for, takes it for close to all of them."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and all(numpy.allclose(value, one) for one in others)
