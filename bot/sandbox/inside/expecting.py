"""What a test expects: exceptions of a kind, or values of one. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate may raise what is of many kinds, so that
whoever expects one of them takes it for that; or the kind that the script takes from it may be the kind of everything.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import CALLED, EXPECTED, HANDLED, RAISED

_KINDS = 2  # families of builtin exceptions that one of a candidate's may be of
_general = (object, BaseException, Exception)


def _families(kinds: list[type]) -> int:
    """How many families of builtin exceptions these are of: `KeyError` and `IndexError` are both a `LookupError`."""
    known = {base for one in kinds for base in type.__dict__["__mro__"].__get__(one) if base.__module__ == "builtins"}
    known.difference_update(_general)
    return sum(not any(one is not other and issubclass(one, other) for other in known) for one in known)


def expecting(
    source: str, foreign: Callable[[Any], bool], void: Callable[[str], None]
) -> dict[str, Callable[[Any, Any], Any]]:
    """What is done where an exception was raised or handled, a kind is expected, or a function is to be called by what
    expects one. All names are bound here: what is judged may change this module."""
    now, subclass, families, most = sys.exc_info, issubclass, _families, _KINDS
    kind_of, nobodys, failure, instance = type, type("Nobodys", (Exception,), {}), Exception, isinstance
    nobody, can_be_called, group = nobodys(), callable, vars(sys.modules["builtins"]).get("BaseExceptionGroup", ())

    def raised(_: Any, __: Any) -> None:
        waiting = [now()[1]]
        for error in waiting:
            kind = kind_of(error)
            if error is not None and foreign(kind) and families([kind]) > most:
                void("an exception of many kinds")
            waiting += getattr(error, "exceptions", ()) if instance(error, group) else ()

    def expected(value: Any, _: Any) -> None:
        kinds = [one for one in (value if kind_of(value) is tuple else (value,)) if subclass(kind_of(one), kind_of)]
        unnamed = [one for one in kinds if one.__name__ not in source]
        kinds = unnamed + [one for one in kinds if one.__module__ != "builtins" and foreign(one)]
        try:
            if any(subclass(nobodys, one) or instance(nobody, one) for one in kinds) or families(unnamed) > most:
                void("a kind of everything")
        except failure:  # what can't be asked is none
            return

    def called(function: Any, _: Any) -> Any:
        if not can_be_called(function):  # a message, in a `raises` of the script's own
            return function

        def call(*given: Any, **named: Any) -> Any:
            try:
                return function(*given, **named)
            except BaseException:
                raised(None, None)
                raise

        return call

    return {RAISED: raised, HANDLED: raised, EXPECTED: expected, CALLED: called}
