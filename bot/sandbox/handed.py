"""Functions of a test script that it hands to the tree's code, and that must run. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate's decorator, or a function of its that calls
what it is given, may never call it: no assertion in it fails then. So where such a function asserts something whatever
happens, and the script calls it by its name or is a test, it must have begun, in this process or in a fork of it; one
that is only given to a call must have begun where the script asserts nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.checked import (
        _COMPILING,
        _SUSPENDED,
        BEGAN,
        HELD,
        OF_TREE,
        RAISED,
        SECOND,
        _decorated_by,
        _names,
        _statement,
    )
    from bot.sandbox.meant import FUNCTIONS, nodes


def _asserts(body: list[Any]) -> bool:
    """Whether one of the statements asserts something, wherever it is not for some cases alone."""
    for node in body:
        kind = type(node).__name__
        if kind == "Assert" and type(node.test).__name__ != "Constant":
            return True
        if kind == "Expr" and type(node.value).__name__ == "Call" and "assert" in _names(node.value.func)[0].lower():
            return True
        if kind in ("With", "AsyncWith", "Try") and _asserts(node.body):
            return True
        if kind in ("Return", "Raise"):
            return False
    return False


def handed(tree: Any) -> dict[str, bool]:
    """Functions that must run, by their lines, each made to tell that it began; whether that is so even where the
    script asserts something else."""
    given: set[str] = set()
    called: set[str] = set()
    for node in nodes(tree):
        if type(node).__name__ == "Call":
            names = _names(node.func)
            called.update(names[:1] if len(names) == 1 else ())
            if not OF_TREE.isdisjoint(names[-1:]):
                given.update(getattr(one, "id", "") for one in [*node.args, *(one.value for one in node.keywords)])
    found = {}
    for node in nodes(tree):
        if type(node).__name__ not in FUNCTIONS or not _asserts(node.body):
            continue
        words = _decorated_by(node)
        by_tree = any(not OF_TREE.isdisjoint(_names(one)[-1:]) for one in node.decorator_list)
        if any(part in word.lower() for word in words for part in (*_COMPILING, *_SUSPENDED)):
            continue
        sure = by_tree and (node.name in called or node.name.startswith("test"))
        if sure or by_tree or node.name in given:
            line = str(node.lineno)
            found[line] = sure
            first = node.body[0]
            at = int(type(first).__name__ == "Expr" and type(first.value).__name__ == "Constant")
            node.body.insert(at, _statement(BEGAN, node.body[min(at, len(node.body) - 1)], line))
    return found


def beginning(
    expected: dict[str, bool],
) -> tuple[dict[str, Callable[[Any, Any], None]], Callable[[str], None], Callable[[], bool]]:
    """What notes that such a function began, what is told of every check, and whether one never began that must have.

    All names are bound here: what is judged may change this module.
    """
    if not expected:
        return {}, (lambda what: None), (lambda: False)
    import mmap  # what forks write in it is seen here

    lines, asserting = {line: at for at, line in enumerate(expected)}, (HELD, SECOND, RAISED)
    begun, asserted = mmap.mmap(-1, len(expected) + 1), [False]
    sure = dict(expected)

    def begins(_: Any, line: str) -> None:
        begun[lines[line]] = 1

    def note(what: str) -> None:
        if what in asserting:
            asserted[0] = True

    def missing() -> bool:
        return any(begun[at] == 0 and (sure[line] or not asserted[0]) for line, at in lines.items())

    return {BEGAN: begins}, note, missing
