"""Functions of a test script that it hands to the tree's code, and that must run. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate's decorator, or a function of its that calls
what it is given, may never call it: no assertion in it fails then. So where such a function asserts something whatever
happens, and the script calls it by its name or is a test, it must have begun, in this process or in a fork of it; one
that another function defines, where that one began. A script that asserts something must reach an assertion. Where it
gives itself to unittest or pytest, each test that nothing of the script skips or chooses must have begun: a candidate
may steer which are found (`TestLoader.testMethodPrefix`, `sys.argv`, `pytest.exit`).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import (
        _COMPILING,
        _OPERATORS,
        BEGAN,
        COMPARED,
        HANDLED,
        HELD,
        HELPERS,
        MARKED,
        OF_TREE,
        RAISED,
        SECOND,
        SUSPENDED,
        _check,
        _decorated_by,
        _names,
        _statement,
    )
    from bot.sandbox.inside.meant import FUNCTIONS, nodes


_HANDED, _TEST = "a function that was handed over", "a test of the script"
_CHOOSING = (b"skip", b"load_tests", b"::", b"deselect", b"collect", b"__test__", b"importorskip", b"argv")
# By which classes are found without their names.
_FINDING = (*(mark + b"main(" for mark in (b".", b" ", b"\t", b"\n")), b"Loader", b"Runner")
_UNSEEN = b"assert=plain"  # by which pytest does not make anything of assertions
_NOT_CHOOSING = ("verbosity", "exit", "failfast", "buffer", "warnings", "catchbreak", "tb_locals", "durations")
_HARMLESS = frozenset((
    *("-q", "-qq", "-v", "-vv", "-x", "-s", "-p", "-W", "-ra", "-rA", "-rp", "-rf", "--no-header", "--maxfail=1"),
    *("--tb=short", "--tb=no", "--tb=long", "--tb=line", "--tb=native", "--disable-warnings", "--color=no"),
))  # fmt: skip
_OF_TOOLS = frozenset(("pytest", "unittest", "mock", "patch"))  # whose decorators leave a test to be run
_CASE_CLASSES = frozenset(("TestCase", "IsolatedAsyncioTestCase"))


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


def _named(tree: Any) -> tuple[set[str], bool]:
    """Names that the script reads, and whether it reaches functions by these alone."""
    named = {getattr(node, "id", "") for node in nodes(tree) if type(getattr(node, "ctx", None)).__name__ == "Load"}
    return named, named.isdisjoint(("globals", "locals", "vars", "dir"))


def must_assert(tree: Any, source: bytes) -> bool:
    """Whether a script is to reach an assertion: it has one that is neither for some cases alone nor in a function or
    class that nothing names; of pytest's tests only where all run."""
    by_pytest = b"pytest.main" in source
    if by_pytest and (b"__file__" not in source or any(word in source.lower() for word in (*_CHOOSING, _UNSEEN))):
        return False
    named, by_name = _named(tree)
    finds = any(word in source for word in _FINDING)

    def asserts(body: list[Any], in_class: bool = False) -> bool:
        for node in body:
            kind = type(node).__name__
            if kind == "Assert" and type(node.test).__name__ != "Constant":
                return True
            main = kind == "If" and getattr(getattr(node.test, "left", None), "id", "") == "__name__"
            is_plain = kind != "If" and hasattr(node, "body") and not getattr(node, "decorator_list", ())
            test = by_pytest and getattr(node, "name", "").startswith("test")
            found = in_class if kind in FUNCTIONS else finds or kind != "ClassDef"
            unused = by_name and not (found or test or getattr(node, "name", "") in named)
            if (main or is_plain) and not unused and asserts(node.body, kind == "ClassDef"):
                return True
        return False

    return asserts(tree.body)


def _runs_all(tree: Any, source: bytes) -> str:
    """The tool that runs the script's tests, where the script says nothing of which ones; else ""."""
    if any(word in source.lower() for word in _CHOOSING):
        return ""
    for node in nodes(tree):
        called = _names(node.func) if type(node).__name__ == "Call" else []
        if called == ["main", "unittest"] or (called == ["main"] and b"from unittest import" in source):
            return "" if node.args or any(one.arg not in _NOT_CHOOSING for one in node.keywords) else "unittest"
        if called == ["main", "pytest"] and len(node.args) == 1:
            given = getattr(node.args[0], "elts", ())
            texts = [one.value for one in given if type(one).__name__ == "Constant"]
            itself = any(getattr(one, "id", "") == "__file__" for one in given) and len(texts) + 1 == len(given)
            return "pytest" if itself and all(text in _HARMLESS or text[:1] != "-" for text in texts) else ""
    return ""


def _tests(tree: Any, tool: str) -> Iterator[Any]:
    """Functions of the script that the tool runs as tests whatever happens."""
    for node in {getattr(one, "name", one): one for one in tree.body}.values():
        is_class = type(node).__name__ == "ClassDef" and not node.decorator_list and not node.keywords
        bases = [_names(base)[0] for base in node.bases] if is_class else []
        of_tree = [base for base in bases if base in OF_TREE and (tool == "unittest" or "test" in base.lower())]
        cases = bool(of_tree) or not _CASE_CLASSES.isdisjoint(bases)
        if is_class and (cases or (tool == "pytest" and not bases and node.name.startswith("Test"))):
            inside = list({getattr(one, "name", one): one for one in node.body}.values())
        else:
            inside = [node] if tool == "pytest" else []
        kinds = FUNCTIONS if cases else FUNCTIONS[:1]  # pytest needs a plugin for the other kind
        for one in inside:
            if type(one).__name__ in kinds and one.name.startswith("test"):
                decorators = [_names(decorator) for decorator in one.decorator_list]
                if all(names[-1] in _OF_TOOLS and "fixture" not in names for names in decorators):
                    yield one


def _functions(node: Any, outer: Any = None) -> Iterator[tuple[Any, Any]]:
    """All functions of the script, each with the one that defines it."""
    if type(node).__name__ in FUNCTIONS:
        yield node, outer
        outer = node
    for field in getattr(node, "_fields", ()):
        inner = getattr(node, field, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if hasattr(one, "_fields"):
                yield from _functions(one, outer)


def _called(node: Any) -> set[str]:
    """Names by which anything is called there."""
    found = [_names(one.func) for one in nodes(node) if type(one).__name__ == "Call"]
    return {names[0] for names in found if len(names) == 1}


def _begin(node: Any) -> None:
    """Have the function tell that it began, once."""
    if hasattr(node, "begins"):
        return
    node.begins, line = True, str(node.lineno)
    first = node.body[0]
    at = int(type(first).__name__ == "Expr" and type(first.value).__name__ == "Constant")
    node.body.insert(at, _statement(BEGAN, node.body[min(at, len(node.body) - 1)], line))


def _mark(decorator: Any, line: str) -> Any:
    """The decorator, which is looked at where it is of a module among tests: of pytest's marks, some skip the test."""
    return _check(MARKED, decorator, decorator, line) if _names(decorator)[-1] in HELPERS else decorator


def handed(tree: Any, source: bytes) -> dict[str, tuple[str, str]]:
    """Functions that must run, by their lines, each made to tell that it began: what each is, and the line of the one
    that defines it, which tells so, too."""
    tests = list(_tests(tree, tool)) if (tool := _runs_all(tree, source)) else []
    called, found = _called(tree), {}
    named, by_name = _named(tree)
    alone = by_name and not any(word in source for word in (*_FINDING, b"pytest.main"))
    for node, outer in list(_functions(tree)):
        kind = _TEST if node in tests else ""
        if not kind and _asserts(node.body) and node.lineno not in SUSPENDED:
            by_tree = any(not OF_TREE.isdisjoint(_names(one)[-1:]) for one in node.decorator_list)
            compiled = any(part in word.lower() for word in _decorated_by(node) for part in _COMPILING)
            is_test = outer is None and node.name.startswith("test") and not (alone and node.name not in named)
            runs = is_test or node.name in (_called(outer) if outer else called)
            kind = _HANDED if by_tree and runs and not compiled else ""
        if kind:
            found[str(node.lineno)] = kind, str(outer.lineno) if outer else ""
            node.decorator_list = [_mark(one, str(node.lineno)) for one in node.decorator_list]
            for one in filter(None, (node, outer)):
                _begin(one)
    return found


def beginning(
    expected: dict[str, tuple[str, str]], sure: bool
) -> tuple[dict[str, Callable[[Any, Any], None]], Callable[[], str]]:
    """What notes that such a function began, or that something was judged; and which kind of them never began that must
    have, "" for none. `sure`: whether the script is to assert something.

    All names are bound here: what is judged may change this module.
    """
    import mmap  # what forks write in it is seen here

    lines = {line: at for at, line in enumerate({*expected, *(outer for _, outer in expected.values())})}
    begun, asserted, kinds = mmap.mmap(-1, len(lines) + 1), [not sure], dict(expected)
    begun[lines.get("", len(lines))] = 1  # the script itself
    kind, mark = type, getattr(sys.modules.get("_pytest.mark.structures"), "MarkDecorator", ())

    def begins(_: Any, line: str) -> None:
        begun[lines[line]] = 1

    def marks(value: Any, line: str) -> None:
        if kind(value) is mark and value.mark.name in ("skip", "skipif"):
            begun[lines[line]] = 1

    def asserts(_: Any, __: Any) -> None:
        asserted[0] = True

    def missing() -> str:
        for line, (kind, outer) in kinds.items():
            if begun[lines[line]] == 0 and begun[lines[outer]] == 1:
                return kind
        return "" if asserted[0] else "an assertion"

    judging = (COMPARED, HANDLED, *_OPERATORS.values(), HELD, SECOND, RAISED)
    return {BEGAN: begins, MARKED: marks, **dict.fromkeys(judging, asserts)}, missing
