"""What answers where a test script calls a method of a value. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate's text may begin with everything, and its
list count whatever is looked for; and it may put a function of its own before a method of an object that is none of its
own: a mock that the script hands it, or the stream that it writes to.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import COUNTED, METHOD

_FOUND: dict[str, Callable[[Any], bool]] = {  # what says that an answer to any word is a lie
    **dict.fromkeys(("startswith", "endswith", "contains", "equals", "issuperset"), bool),
    **dict.fromkeys(("find", "rfind", "index", "rindex"), lambda answer: answer >= 0),
    "count": lambda answer: answer > 0,
    "symmetric_difference": lambda answer: not answer,
}
_ANYBODYS = frozenset(("startswith", "endswith", "contains", "equals"))  # the others may do something else elsewhere
_TEXTS_AND_GROUPS = (str, bytes, list, tuple, set, frozenset, dict)
_OF_C = tuple(type(dict.__dict__[name]) for name in ("get", "fromkeys", "__len__"))  # methods of classes
_OUTSIDE = frozenset((*getattr(sys, "stdlib_module_names", ("io", "unittest")), "_pytest", "pytest"))


def _answering(foreign: Callable[[Any], bool]) -> Callable[[Any, str], bool]:
    """Whether a candidate's value says yes to any beginning or end, equals any text, or finds whatever is sought."""
    urandom, kind_of, found, anybodys, groups = os.urandom, type, _FOUND, _ANYBODYS, _TEXTS_AND_GROUPS
    is_a, sets = isinstance, (set, frozenset)

    def answering(value: Any, name: str) -> bool:
        known = name in found and (name in anybodys or is_a(value, groups))
        if not known or not foreign(kind_of(value)):
            return False
        for word in (urandom(6).hex(), urandom(6)):
            try:
                if found[name](getattr(value, name)({word} if is_a(value, sets) else word)):
                    return True
            except Exception:  # noqa: S112 - the other kind, then
                continue
        return False

    return answering


def _planting(foreign: Callable[[Any], bool]) -> Callable[[Any, str], bool]:
    """Whether a candidate's function stands before a method of a library's object."""
    bases, space, inside = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__, object.__getattribute__
    kind_of, outside, can_be_called, is_kind, of_c, parent = type, _OUTSIDE, callable, issubclass, _OF_C, super

    def planting(value: Any, name: str) -> bool:
        kind = kind_of(value)
        if is_kind(kind, kind_of) or kind is parent:
            return False
        if kind.__module__.partition(".")[0] not in outside:
            return False
        try:
            own = inside(value, "__dict__")
        except (AttributeError, TypeError):
            own = {}
        found = [names[name] for names in (own, *map(space, bases(kind))) if name in names]
        is_c = found and kind_of(found[0]) in of_c
        return len(found) > 1 and not is_c and can_be_called(found[0]) and foreign(found[0])

    return planting


def methods(
    source: str,
    foreign: Callable[[Any], bool],
    ask: Callable[[Any, str, bool], int],
    void: Callable[[str], None],
) -> dict[str, Callable[[Any, Any], None]]:
    """What is done where the script calls a method, or asks a mock whether it was called: `(value, name)`.

    All names are bound here: what is judged may change this module.
    """
    answering, planting, begins = _answering(foreign), _planting(foreign), str.startswith
    bases, counts, kind_of = type.__dict__["__mro__"].__get__, COUNTED, type
    test = getattr(sys.modules.get("unittest.case"), "TestCase", None)
    tests = vars(test) if test else ()
    sets = any(f".{name} = " in source for name in counts)

    def called(value: Any, name: Any) -> None:
        if answering(value, name):
            void(f"a value whose {name} always says yes")
        if planting(value, name):
            void(f"replaced {name} of an object")
        kinds = bases(kind_of(value))
        if test is not None and begins(name, "assert") and name in tests and test not in kinds and foreign(kinds[0]):
            void("a test that is none")
        of_calls = begins(name, "assert_") or name in counts
        if of_calls and any(base.__name__ == "NonCallableMock" for base in kinds):
            ask([one for call in value.mock_calls for one in call], "==", True)
            calls = len(value.call_args_list)
            if not sets and (value.call_count != calls or value.called != bool(calls)):
                void("calls of a mock that nobody made")

    return {METHOD: called}
