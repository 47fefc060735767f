"""What in a test script is meant to fail, or to agree with everything. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. `assert False` in a function that the script hands to a
retry, or below a manager that is to swallow it, fails whatever the candidate does: it is no check, and nobody forges
anything by keeping it. So it is where no statement before it decides whether it is reached, and its function is not
called by name, which may be decided elsewhere. A test may fail that is marked so, or has cases that are. And a class
that is named as a wildcard (`ANY`, `UniversalSet`) may agree with everything where the script uses it by that name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_LITERAL = frozenset((
    *("Constant", "Compare", "BoolOp", "UnaryOp", "Tuple", "List", "Load", "And", "Or", "Not", "USub", "Eq", "NotEq"),
    *("Lt", "LtE", "Gt", "GtE", "Is", "IsNot", "In", "NotIn"),
))  # fmt: skip
_STRAIGHT = frozenset((  # statements after which the next one is reached, or an exception was raised
    *("Assign", "AnnAssign", "AugAssign", "Expr", "Pass", "Global", "Nonlocal", "Import", "ImportFrom"),
    *("Assert", "FunctionDef", "AsyncFunctionDef", "ClassDef"),
))  # fmt: skip
_SUSPENDED = ("xfail", "expectedFailure", "skip", "fixture", "flaky")
FUNCTIONS = ("FunctionDef", "AsyncFunctionDef")
_WILD = frozenset(
    ("all", "always", "any", "anything", "every", "everything", "matcher", "universal", "universe", "wildcard")
)


def nodes(node: Any) -> list[Any]:
    """The node of a syntax tree and all below it, in the order of the text; of a module as they were at first, since a
    script of thousands of lines takes a while."""
    if hasattr(node, "below"):
        return [node, *node.below]
    found, waiting = [], [node]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for field in reversed(one._fields):
            inner = getattr(one, field, None)
            if inner.__class__ is list:
                waiting += [part for part in reversed(inner) if hasattr(part, "_fields")]
            elif hasattr(inner, "_fields"):
                waiting.append(inner)
    if type(node).__name__ == "Module":
        node.below = found[1:]  # without itself: no cycle for the garbage collector
    return found


def _fails(test: Any, known: dict[str, Any]) -> bool:
    """Whether what is asserted is made of literals, and of names that stand for such, and does not hold."""
    for node in nodes(test):
        if type(node).__name__ not in _LITERAL and getattr(node, "id", None) not in known:
            return False
    import _ast

    try:
        return not eval(compile(_ast.Expression(test), "", "eval"), {"__builtins__": {}}, known)  # noqa: S307 - literals
    except Exception:
        return False


def _lines(body: list[Any], local: bool) -> Iterator[int]:
    """Of assertions that fail wherever the block is entered. `local`: nobody else sees names that it binds."""
    known: dict[str, Any] = {}
    for node in body:
        kind = type(node).__name__
        if kind == "Assert" and _fails(node.test, known):
            yield node.lineno
        if kind in ("With", "AsyncWith"):
            yield from _lines(node.body, False)
        elif kind not in _STRAIGHT:
            return
        for one in nodes(node):
            if type(getattr(one, "ctx", None)).__name__ in ("Store", "Del"):
                known.pop(getattr(one, "id", ""), None)
        name = getattr(node.targets[0], "id", "") if kind == "Assign" and len(node.targets) == 1 else ""
        if local and name and type(node.value).__name__ == "Constant":
            known[name] = node.value.value


def meant_to_fail(tree: Any) -> frozenset[int]:
    """Lines of assertions that fail whatever the tree's code does."""
    every = nodes(tree)
    called = {getattr(node.func, "id", "") or getattr(node.func, "attr", "") for node in every if hasattr(node, "func")}
    found = set(_lines(tree.body, False))
    for node in every:
        if type(node).__name__ in FUNCTIONS and node.name not in called:
            local = not any(type(one).__name__ in ("Nonlocal", "Global") for one in nodes(node))
            found.update(_lines(node.body, local))
    return frozenset(found)


def suspended(tree: Any) -> Iterator[int]:
    """Lines of functions that may fail while the run ends well, since a mark says so: of them, of their class, of the
    script, or of cases that their decorators name."""

    def says(node: Any, words: tuple[str, ...] = _SUSPENDED) -> bool:
        names = [str(getattr(one, "attr", None) or getattr(one, "id", "")) for one in nodes(node)]
        return any(name in marked or word in name for name in names for word in words)

    marked: set[str] = set()
    for node in tree.body:
        if type(node).__name__ == "Assign" and says(node.value):
            marked.update(getattr(target, "id", "") for target in node.targets)
    for node in nodes(tree):
        of_all = "pytestmark" in marked or any(map(says, getattr(node, "decorator_list", ())))
        if type(node).__name__ in (*FUNCTIONS, "ClassDef") and (of_all or says(node, ("xfail",))):
            yield from (one.lineno for one in nodes(node) if type(one).__name__ in FUNCTIONS)


def _words(name: str) -> list[str]:
    """`UniversalSet` and `universal_set` as `universal` and `set`."""
    words, before = [""], ""
    for letter in name:
        if letter == "_" or (letter.isupper() and not before.isupper()):
            words.append("")
        words[-1] += letter.strip("_").lower()
        before = letter
    return words


def wildcards(tree: Any, main: dict[str, Any]) -> Callable[[type], bool]:
    """Whether a class is named as a wildcard, and used by the script by a name that says so: by one that the script
    imports, or as an attribute of a module that it imports. All names are bound here."""
    wild, kind_of, module, get = _WILD, type, type(__import__("sys")), dict.get
    plain = {getattr(node, "id", "") for node in nodes(tree)}
    plain = {name for name in plain if not wild.isdisjoint(_words(name))}
    dotted = [
        (getattr(node.value, "id", ""), node.attr)
        for node in nodes(tree)
        if type(node).__name__ == "Attribute" and not wild.isdisjoint(_words(node.attr))
    ]
    inside = type.__getattribute__

    def meant(kind: type) -> bool:
        if wild.isdisjoint(_words(inside(kind, "__name__"))):
            return False
        found = [get(main, name) for name in plain]
        for holder, name in dotted:
            space = get(main, holder)
            found.append(get(space.__dict__, name) if kind_of(space) is module else None)
        return any(one is kind or kind_of(one) is kind for one in found)

    return meant
