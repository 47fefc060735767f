"""Functions of a test script that it hands to the tree's code, and that must run. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A candidate's decorator, or a function of its that calls
what it is given, may never call it: no assertion in it fails then. So where such a function asserts something whatever
happens, and the script calls it by its name or is a test, it must have begun, in this process or in a fork of it; one
that is only given to a call must have begun where the script asserts nothing else. Where the script gives itself to
unittest or pytest, each test that nothing of the script skips or chooses must have begun: a candidate may steer which
are found (`TestLoader.testMethodPrefix`, `sys.argv`, `pytest.exit`).
"""

from __future__ import annotations

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
        OF_TREE,
        RAISED,
        SECOND,
        SUSPENDED,
        _decorated_by,
        _names,
        _statement,
    )
    from bot.sandbox.inside.meant import FUNCTIONS, nodes


# What must run: always; where the script asserts nothing else; as a test.
_SURE, _ALONE, _TEST = (
    "a function that was handed over",
    "a function that was handed over alone",
    "a test of the script",
)
_CHOOSING = (b"skip", b"load_tests", b"::", b"deselect", b"collect", b"__test__", b"importorskip", b"argv")
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


def must_assert(body: list[Any]) -> bool:
    """Whether a script of these statements is to reach an assertion: it has one that is not for some cases alone."""
    for node in body:
        kind = type(node).__name__
        if kind == "Assert" and type(node.test).__name__ != "Constant":
            return True
        main = kind == "If" and getattr(getattr(node.test, "left", None), "id", "") == "__name__"
        is_plain = kind != "If" and hasattr(node, "body") and not getattr(node, "decorator_list", ())
        if (main or is_plain) and must_assert(node.body):
            return True
    return False


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


def _begin(node: Any, line: str) -> None:
    """Have the function tell that it began."""
    first = node.body[0]
    at = int(type(first).__name__ == "Expr" and type(first.value).__name__ == "Constant")
    node.body.insert(at, _statement(BEGAN, node.body[min(at, len(node.body) - 1)], line))


def handed(tree: Any, source: bytes) -> dict[str, str]:
    """Functions that must run, by their lines, each made to tell that it began; and what each is."""
    given: set[str] = set()
    called: set[str] = set()
    tests = list(_tests(tree, tool)) if (tool := _runs_all(tree, source)) else []
    for node in nodes(tree):
        if type(node).__name__ == "Call":
            names = _names(node.func)
            called.update(names[:1] if len(names) == 1 else ())
            if not OF_TREE.isdisjoint(names[-1:]):
                given.update(getattr(one, "id", "") for one in [*node.args, *(one.value for one in node.keywords)])
    found = {}
    for node in nodes(tree):
        if type(node).__name__ not in FUNCTIONS or node in tests or not _asserts(node.body):
            continue
        words = _decorated_by(node)
        by_tree = any(not OF_TREE.isdisjoint(_names(one)[-1:]) for one in node.decorator_list)
        if node.lineno in SUSPENDED or any(part in word.lower() for word in words for part in _COMPILING):
            continue
        sure = by_tree and (node.name in called or node.name.startswith("test"))
        if sure or by_tree or node.name in given:
            found[str(node.lineno)] = _SURE if sure else _ALONE
            _begin(node, str(node.lineno))
    for node in tests:
        found[str(node.lineno)] = _TEST
        _begin(node, str(node.lineno))
    return found


def beginning(expected: dict[str, str], sure: bool) -> tuple[dict[str, Callable[[Any, Any], None]], Callable[[], str]]:
    """What notes that such a function began, or that something was judged; and which kind of them never began that must
    have, "" for none. `sure`: whether the script is to assert something.

    All names are bound here: what is judged may change this module.
    """
    import mmap  # what forks write in it is seen here

    lines = {line: at for at, line in enumerate(expected)}
    begun, asserted = mmap.mmap(-1, len(expected) + 1), [False, not sure]
    kinds, alone = dict(expected), _ALONE

    def begins(_: Any, line: str) -> None:
        begun[lines[line]] = 1

    def asserts(_: Any, __: Any) -> None:
        asserted[:] = True, True

    def judges(_: Any, __: Any) -> None:
        asserted[1] = True

    def missing() -> str:
        for line, at in lines.items():
            if begun[at] == 0 and (kinds[line] != alone or not asserted[0]):
                return kinds[line]
        return "" if asserted[1] else "an assertion"

    noting = {**dict.fromkeys((COMPARED, HANDLED, *_OPERATORS.values()), judges)}
    noting.update(dict.fromkeys((HELD, SECOND, RAISED), asserts))
    return {BEGAN: begins, **noting}, missing
