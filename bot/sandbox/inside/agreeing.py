"""Values that agree with whatever a test compares them with. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate may return an object whose `__eq__` always
says yes, so that `assert f(x) == 3` passes. An honest value says no to most. So a value, or any part of it, that has
such a method in Python is asked about values of which nothing equals all, and the whole is compared with values near
the one that it equals (`nearby.py`): nothing equals all of them. How often it is asked, and whether before the
comparison that counts or after it, falls by lot; so does how deep in the stack that one and the questions are. Of
order, nothing is below all numbers and above them, or below one number and above it. No container has whatever text it
is asked for, and no difference is the same to all numbers. Who compares in C, as builtins do, is not asked, nor are
mocks where the script uses some, and the script's own classes, which may count who asks.
"""

from __future__ import annotations

import collections.abc
import functools
import operator
import sys
import types
import warnings
import weakref
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.nearby import alike, apart, close_to, nearby
    from bot.sandbox.inside.rarely import by_lot, deepening, rarely

_PLAIN = frozenset((int, float, complex, str, bytes, bytearray, bool, type(None), type(...), range, type))
_GROUPS = (list, tuple, set, frozenset, collections.deque)
_MAPPINGS: Any = {dict, vars(sys.modules["builtins"]).get("frozendict", dict)}  # 3.15 has both
_MOST, _DEEPEST = 5_000, 6  # parts of a value that are looked at, and how deep
_OFTEN = 100  # comparisons in one line: a loop of them must not take long
_FEW = 20  # parts of a value that are asked several times each; more are as much as a comparison more each
_MOST_NEAR = 20  # elements among which a value is looked for
_SLOTS = {
    "==": ("__eq__", "__array_ufunc__"),
    "!=": ("__ne__", "__eq__", "__array_ufunc__"),
    "in": ("__contains__",),
    "-": ("__sub__", "__rsub__", "__array_ufunc__"),
    "/": ("__truediv__", "__rtruediv__"),
    "//": ("__floordiv__", "__rfloordiv__"),
    "%": ("__mod__",),
    "^": ("__xor__", "__rxor__"),
    "&": ("__and__", "__rand__"),
    "close": ("__array_function__", "__array_ufunc__"),
    "ne": ("__ne__",),  # not what follows from `__eq__`
}
_SLOTS.update({**dict.fromkeys(("<", ">"), ("__lt__", "__gt__")), **dict.fromkeys(("<=", ">="), ("__le__", "__ge__"))})
_BOTH = dict.fromkeys(("<", ">"), (operator.lt, operator.gt))  # what nothing is to the least and the greatest number
_BOTH.update(dict.fromkeys(("<=", ">="), (operator.le, operator.ge)))
_LEAST, _GREATEST = float("-inf"), float("inf")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda one, other: one in other,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "-": operator.sub, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod, "^": operator.xor,
}  # fmt: skip
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}  # how the other side is asked
_ASKS_ANOTHER = (types.MappingProxyType, weakref.ProxyType, weakref.CallableProxyType)  # in C, which ask their parts
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_of_c = (type(object.__eq__), type(str.join))  # types of methods
_READING = collections.abc.Mapping.__eq__  # never equals random keys: it compares dictionaries that it reads out
_DEEP = 7  # calls from a question to the value that is asked
_bases = type.__dict__["__mro__"].__get__
_space = type.__dict__["__dict__"].__get__
_inside = object.__getattribute__


def _in_python(kind: type, slots: tuple[str, ...]) -> Any:
    """The first of the methods that is not C's own; None for none."""
    if kind in _ASKS_ANOTHER:
        return True
    for slot in slots:
        found = next((space[slot] for space in map(_space, _bases(kind)) if slot in space), None)
        if found is not None and not (type(found) in _of_c and found.__name__ == slot):
            return found
    return None


def _yes(answer: Any, loose: bool) -> bool:
    hidden = type(answer).__name__ == "MaskedArray"  # which numpy takes for equal where all of it is masked
    return answer is True or (loose and bool(answer)) or (hidden and bool(answer.mask.all()))


def _no(answer: Any, loose: bool) -> bool:
    return answer is False or (loose and not answer)


def _attributes(value: Any) -> list[Any]:
    found: list[Any] = []
    try:
        found += dict.values(_inside(value, "__dict__"))
        found += [cell.cell_contents for cell in _inside(value, "__closure__") or ()]  # of a function
    except (AttributeError, TypeError, ValueError):
        pass
    for base in _bases(type(value)):
        names = _space(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            try:
                found.append(_inside(value, name))
            except (AttributeError, TypeError):
                continue
    return found


def _parts(value: Any) -> list[Any]:
    """What a comparison of the value may compare one by one: elements, keys and values of a dictionary, and
    attributes, but where objects are equal if they are the same."""
    kind = type(value)
    found: list[Any] = []
    for mapping in _MAPPINGS:
        if issubclass(kind, mapping):
            found += [*islice(mapping.keys(value), _MOST), *islice(mapping.values(value), _MOST)]
    if kind in _VIEWS:
        found += islice(value, _MOST)
    if kind is slice:
        found += [value.start, value.stop, value.step]
    if kind is types.MappingProxyType:
        try:
            found += islice(value.values(), _MOST)
        except Exception:  # another's mapping, which is asked itself
            found.append(value)
    for group in _GROUPS:
        if issubclass(kind, group):
            found += islice(group.__iter__(value), _MOST)
    if kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "hasobject", False):
        found += islice(value.flat, _MOST)
    if kind.__name__ == "SimpleNamespace" or _in_python(kind, ("__eq__",)):
        found += _attributes(value)
    return found


def _walk(value: Any) -> Iterator[Any]:
    """The value and its parts, each once, those that are plain left out."""
    plain, seen, level = _PLAIN, set(), [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for one in level:
            if type(one) not in plain and id(one) not in seen:
                seen.add(id(one))
                yield one
                parts = _parts(one)
                if not plain.issuperset(map(type, parts)):
                    below += parts
        level = below[:_MOST]


def _said(answer: Callable[[], Any]) -> bool:
    try:
        return bool(answer())
    except Exception:
        return False  # it can't be compared with that


def _equalling() -> Callable[[Any, str, bool, tuple[Any, ...]], bool]:
    yes, no, failure = _yes, _no, Exception

    def equals(value: Any, how: str, loose: bool, some: tuple[Any, ...]) -> bool:
        """Whether it equals all of them."""
        try:
            for one in some:
                if not (yes(value == one, loose) if how == "==" else no(value != one, loose)):
                    return False
        except failure:  # it can't be compared with that
            return False
        return True

    return equals


def _asking(
    source: str, meant: Callable[[type], bool], foreign: Callable[[type], bool]
) -> tuple[Callable[[Any, str], list[Any]], Callable[[Any, str, bool, list[Any]], bool]]:
    """What finds the parts of a value that answer in Python, and whether such a part says yes to everything: to all of
    some values of which nothing equals all."""
    plain, slots, both, in_python, walk = _PLAIN, _SLOTS, _BOTH, _in_python, _walk
    kind_of, bases, said, equals, equalities = type, _bases, _said, _equalling(), ("==", "!=", "ne")
    yes, least, greatest, same, close, arithmetic = _yes, _LEAST, _GREATEST, alike, close_to, _ARITHMETIC
    mocks, function, reading = "mock" in source.lower(), type(_yes), _READING

    def excused(value: Any, kind: type, method: Any) -> bool:
        """Whether the script names it, as it does its own classes, which may count who asks, and wildcards."""
        if meant(kind):
            return True
        if foreign(kind) or (kind_of(method) is function and foreign(method)):
            return False
        if any(base.__name__ == "NonCallableMock" for base in bases(kind)):
            return mocks  # which keep that they were asked
        names = [kind.__name__, *([value.__name__] if issubclass(kind, kind_of) else [])]
        return any(name.strip("_") in source for name in names)

    def answers(value: Any, how: str, loose: bool, unlike: list[Any]) -> Iterator[Callable[[], bool]]:
        if how in both:
            below, above = both[how]
            yield lambda: yes(below(value, least), loose) and yes(above(value, greatest), loose)
        elif how == "in":
            yield lambda: object() in value
        elif how == "close":
            yield lambda: close(value, unlike[2])
        elif how == "&":
            yield lambda: all(((value & one) == one) is True for one in ({object()}, {object()}))
        elif how in arithmetic:
            do = arithmetic[how]
            for some in (*unlike[1:3], ({object()}, {object()})):
                yield lambda some=some: same(how, value, [do(value, one) for one in some])  # type: ignore[misc]
                if how != "%":
                    yield lambda some=some: same(how, True, [do(one, value) for one in some])  # type: ignore[misc]

    def suspects(value: Any, how: str) -> list[Any]:
        if kind_of(value) in plain:
            return []
        found = []
        for one in walk(value) if how in ("==", "!=") else [value]:
            kind = kind_of(one)
            method = in_python(kind, slots[how])
            if method is not None and not excused(one, kind, method):
                found.append(one)
        return found

    def agrees(value: Any, how: str, loose: bool, unlike: list[Any]) -> bool:
        if how in equalities:  # a cache keeps what was read last
            only_reads = in_python(kind_of(value), slots[how]) is reading
            return not only_reads and any(equals(value, how, loose, some) for some in unlike)
        return any(said(answer) for answer in answers(value, how, loose, unlike))

    return suspects, agrees


def _holds(answer: Any, other: Any) -> bool:
    """Whether the object has the other one among its parts, as an expression that was made of a comparison has."""
    level, seen = [answer], 0
    while level and seen < _OFTEN:
        one = level.pop(0)
        seen += 1
        if one is other:
            return True
        if type(one) not in _PLAIN:
            inside = islice(one, _MOST_NEAR) if type(one) in _GROUPS else dict.values(one) if type(one) is dict else ()
            level += [*inside, *_attributes(one)]
    return False


def _nearing() -> Callable[[Any, str, Any, Any, bool], bool]:
    """What tells of a comparison's answer whether the left value says the same of all that is near the right one."""
    both, operators, near, lot, yes, no, said = _BOTH, _OPERATORS, nearby, by_lot, _yes, _no, _said
    holds, kind_of, groups, most, bases_of, texts = _holds, type, (*_GROUPS, dict), _MOST_NEAR, _bases, (str, bytes)
    can_be_called, sets, partial, has = callable, (set, frozenset), functools.partial, operator.contains

    def contradicts(left: Any, right: Any, how: str, loose: bool) -> bool:
        """Whether the value is below a number and above it, or at most a lower one and at least a higher one."""
        below, above = both[how]
        for _ in range(lot(3)):
            for one in near(right):
                low, high = (one, one) if how in "<>" else sorted((one, right))
                apart = how in "<>" or low < high  # not where they are too large for their digits
                if apart and yes(below(left, low), loose) and yes(above(left, high), loose):
                    return True
        return False

    def equals_all(left: Any, how: str, right: Any, strict: bool = False) -> bool:
        """Whether the value equals what is near another one, wherever that is changed. `strict`: not if its answers
        are expressions of what was compared, which nobody takes for true."""
        compare, same = operators[how], no if how == "!=" else yes

        def equal(other: Any) -> bool:
            answer = compare(left, other)
            if strict and can_be_called(getattr(answer, "all", None)):
                answer = answer.all()
            return same(answer, True) and not (strict and answer.__class__ is not bool and holds(answer, other))

        return any(all(said(lambda a=one: equal(a)) for one in variants) for variants in near(right, True))  # type: ignore[misc]

    def has_all(container: Any, one: Any, answer: bool) -> bool:
        """Whether it also has all that is near what it has, or is a text that has not what it has. A set of all
        numbers may be just that."""
        bases = bases_of(kind_of(container))
        if kind_of(one) in texts and kind_of(one) in bases and not answer:
            return bool(kind_of(one).__contains__(container, one))
        # What it is derived from tells in C what it has.
        of_c = next((base.__contains__ for base in (*groups, *texts) if base in bases), None)
        for variants in near(one, True) if answer and (of_c or kind_of(one) in texts) else ():
            others = [other for other in variants if not (of_c and said(partial(of_c, container, other)))]
            if others and all(said(partial(has, container, other)) for other in others):
                return True
        return False

    def compared_nearby(left: Any, how: str, right: Any, answer: Any, loose: bool) -> bool:
        if how[:1] == ">" and kind_of(right) in sets:  # all numbers may be just what a set has
            return said(lambda: bool(operators[how](left, {*right, object()})))
        if how in both:
            return said(lambda: contradicts(left, right, how, loose))
        if how == "in":
            if kind_of(right) not in groups:
                return said(lambda: has_all(right, left, answer))
            found = list(right)[:most] if answer else []
            return any(equals_all(left, "==", one) for one in found if said(lambda a=one: left == a))  # type: ignore[misc]
        truth = getattr(answer, "all", None) if not loose else None  # of some, nobody may ask another one
        agreed = said(lambda: (no if how == "!=" else yes)(truth() if can_be_called(truth) else answer, True))
        return agreed and equals_all(left, how, right, not loose)

    return compared_nearby


def _judging(
    question: Callable[..., bool], void: Callable[[str], None]
) -> Callable[[Any, str, Any, bool, list[tuple[list[Any], str]]], Any]:
    """What compares and asks. All of it is as deep in the stack, by lot, so that nobody tells questions by that."""
    quiet, lot, operators, most = warnings.catch_warnings, by_lot, _OPERATORS, _FEW
    compared_nearby, deeper, deep = _nearing(), deepening(), _DEEP

    def judged(left: Any, how: str, right: Any, loose: bool, asked: list[tuple[list[Any], str]]) -> Any:
        def near(one: Any, its: str, other: Any) -> bool:
            with quiet(record=True):
                return bool(deeper(lot(9), lambda: compared_nearby(one, its, other, answer, loose)))

        def questions() -> list[str]:
            found = []
            for some, its in asked:
                times = lot(4) if few else 1
                if deeper(lot(9), lambda some=some, its=its, n=times: question(some, its, loose, n)):  # type: ignore[misc]
                    found.append(its)
            return found

        few, turn = max(len(some) for some, _ in asked) <= most, lot(2)
        agreed = questions() if few or turn == 1 else []
        answer = deeper(lot(9) + deep, lambda: operators[how](left, right))
        agreed += questions() if few or turn == 2 else []
        if any(its != "in" or answer for its in agreed):  # what has not this one has not everything
            void("a value that agrees with everything")
        (of_left, _), (of_right, its) = asked[:2]
        suspicious = (of_left or (how == "in" and of_right)) and near(left, how, right)
        if suspicious or (of_right and how != "in" and near(right, its, left)):
            void("a value that agrees with all that are near")
        return answer

    return judged


def agreeing(
    source: str,
    meant: Callable[[type], bool],
    foreign: Callable[[type], bool],
    void: Callable[[str], None],
) -> tuple[Callable[..., Any], Callable[[Any, str, bool], int]]:
    """What compares two values as the script wants and tells of one that agrees with everything, `(left, how, right,
    loose)`, and what only asks a value, `(value, how, loose)`, and how many of its parts can answer.

    `how`: the operator. `loose`: whether all that is true counts as a yes, not `True` alone; where libraries make
    queries of comparisons, these are true. `meant`: whether a class is a wildcard that the script names; `foreign`:
    whether it is the candidate's. All names are bound here: what is judged may change this module.
    """
    plain, kind_of, quiet, turned, operators = _PLAIN, type, warnings.catch_warnings, _TURNED, _OPERATORS
    (suspects, agrees), (due, spent) = _asking(source, meant, foreign), rarely(_OFTEN)
    unlike, few, groups = apart, _FEW, _GROUPS
    limit, set_limit = sys.getrecursionlimit, sys.setrecursionlimit

    def question(asked: list[Any], how: str, loose: bool, times: int = 1) -> bool:
        if not asked:
            return False
        some = unlike()
        with quiet(record=True):
            return any(agrees(one, how, loose, some) for one in asked * times)

    def ask(value: Any, how: str, loose: bool) -> int:
        found = suspects(value, how)
        if question(found, how, loose):
            void("a value that agrees with everything")
        return len(found)

    def compare(left: Any, how: str, right: Any, loose: bool, needed: bool = True, place: str = "") -> Any:
        """The answer; where it is not `needed`, only if there is something to ask. `place`: its line in the script."""
        do = operators[how]
        if (kind_of(left) in plain and kind_of(right) in plain) or not due(place):
            return do(left, right) if needed else None
        of_left, of_right = ("==", "in") if how == "in" else (how, turned.get(how, how))
        asked = [(suspects(left, of_left), of_left), (suspects(right, of_right), of_right)]
        if "approx" in kind_of(right).__name__.lower():
            asked.append((suspects(left, "-"), "-"))
        if how == "in" and kind_of(right) in groups:  # which asks its elements in C
            asked.append((suspects(right, "=="), "=="))
        found = sum(len(some) for some, _ in asked)
        if not found:
            return do(left, right) if needed else None
        spent(place, max(0, found - few))
        before = limit()
        set_limit(before + 99)  # or questions would meet a limit that the comparison does not
        try:
            return judged(left, how, right, loose, asked)
        finally:
            if limit() == before + 99:
                set_limit(before)

    judged = _judging(question, void)
    return compare, ask
