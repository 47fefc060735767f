"""Values that agree with whatever a test compares them with. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate may return an object whose `__eq__` always
says yes, so that `assert f(x) == 3` passes. An honest value says no to most. So a value is asked about pairs of which
nothing equals both, and whether it is below all numbers and above them: an honest infinity is one of both. Who
compares in C, as builtins do, is not asked, nor are mocks and the script's own classes, which may count who asks.
"""

from __future__ import annotations

import operator
import os
import warnings
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_PLAIN = frozenset((int, float, complex, str, bytes, bytearray, bool, type(None), type(...), range, type))
_GROUPS = frozenset((list, tuple, set, frozenset, dict))
_MOST, _DEEPEST = 100, 4  # parts of a list or dictionary that are asked, and how deep
_SLOTS = {"==": ("__eq__",), "!=": ("__ne__", "__eq__"), "in": ("__contains__",)}
_SLOTS.update(dict.fromkeys(("<", ">"), ("__lt__", "__gt__")))
_SLOTS.update(dict.fromkeys(("<=", ">="), ("__le__", "__ge__")))
_BOTH = dict.fromkeys(("<", ">"), (operator.lt, operator.gt))  # what nothing is to the least and the greatest number
_BOTH.update(dict.fromkeys(("<=", ">="), (operator.le, operator.ge)))
_LEAST, _GREATEST = float("-inf"), float("inf")
_slot_wrapper = type(object.__eq__)
_bases = type.__dict__["__mro__"].__get__
_space = type.__dict__["__dict__"].__get__


def _in_python(kind: type, slots: tuple[str, ...]) -> bool:
    """Whether one of the methods is not C's own."""
    for slot in slots:
        found = next((space[slot] for space in map(_space, _bases(kind)) if slot in space), None)
        if found is not None and not (type(found) is _slot_wrapper and found.__name__ == slot):
            return True
    return False


def _pairs() -> list[tuple[Any, Any]]:
    """Values of which nothing equals both."""
    one, other = (int.from_bytes(os.urandom(7), "big") + 10**17 for _ in range(2))
    text, words = f"\0{one}", f"\0{other}"
    return [
        *((object(), object()), (one, -other), (text, words), (True, False), (text.encode(), words.encode())),
        *(([one], [other]), ((one,), (other,)), ({one}, {other}), ({text: one}, {words: other})),
    ]


def _yes(answer: Any, loose: bool) -> bool:
    return answer is True or (loose and bool(answer))


def _no(answer: Any, loose: bool) -> bool:
    return answer is False or (loose and not answer)


def agreeing(source: str, own: Callable[[type], bool], foreign: Callable[[type], bool]) -> Callable[..., bool]:
    """What tells whether a value agrees with everything: `(value, how, loose)`.

    `how`: the operator that it is left of. `loose`: whether all that is true counts as a yes, not `True` alone; where
    libraries make queries of comparisons, these are true. `own`, `foreign`: whether a class is the script's, or the
    candidate's. All names are bound here: what is judged may change this module.
    """
    plain, groups, slots, both, in_python, pairs = _PLAIN, _GROUPS, _SLOTS, _BOTH, _in_python, _pairs
    kind_of, bases, parts_of, most, deepest, quiet = type, _bases, islice, _MOST, _DEEPEST, warnings.catch_warnings
    yes, no, least, greatest = _yes, _no, _LEAST, _GREATEST

    def excused(value: Any, kind: type) -> bool:
        """Whether it may count who asks, or is a wildcard that the script names."""
        if foreign(kind):
            return False
        if own(kind) or any(base.__name__ == "NonCallableMock" for base in bases(kind)):
            return True
        names = [kind.__name__, *([value.__name__] if issubclass(kind, kind_of) else [])]
        return any(name.strip("_") in source for name in names)

    def answers(value: Any, how: str, loose: bool) -> Iterator[Callable[[], bool]]:
        if how in both:
            below, above = both[how]
            yield lambda: yes(below(value, least), loose) and yes(above(value, greatest), loose)
            return
        if how == "in":
            yield lambda: object() in value
            return
        for one, other in pairs():
            if how == "==":
                yield lambda a=one, b=other: yes(value == a, loose) and yes(value == b, loose)  # type: ignore[misc]
            else:
                yield lambda a=one, b=other: no(value != a, loose) and no(value != b, loose)  # type: ignore[misc]

    def asked(value: Any, how: str, loose: bool) -> bool:
        for answer in answers(value, how, loose):
            try:
                if answer():
                    return True
            except Exception:  # noqa: S112 - it can't be compared with that
                continue
        return False

    def agrees(value: Any, how: str, loose: bool, depth: int = 0) -> bool:
        kind = kind_of(value)
        if kind in plain or depth > deepest:
            return False
        if kind in groups:
            if how not in ("==", "!="):
                return False
            parts = list(parts_of(value.values() if kind is dict else value, most))
            return any(agrees(part, "==", True, depth + 1) for part in parts)
        if not in_python(kind, slots[how]) or excused(value, kind):
            return False
        with quiet(record=True):
            return asked(value, how, loose)

    return agrees
