"""Whether the tools that a test script judges by are still what they were. Standard library only, Python 3.8+.

Executed by `runner.py` before anything of the tree is imported, never imported itself. A candidate can replace
`unittest.TestCase.assertEqual`, `pytest.raises`, `math.isclose` or `builtins.isinstance` when it is imported, so that
every test passes. So what the script imports from elsewhere is imported first and noted, function by function and class
by class, and compared before each of the script's assertions and calls, and at its end: a patch that undoes itself is
there when it is used. Libraries replace functions of the standard library, too, and test scripts do so with mocks: a
replacement from a file that the candidate did not change is theirs.
"""

from __future__ import annotations

import _ast
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_TOOLS = ("unittest", "_pytest", "pytest", "doctest")  # nobody but pytest's plugins replaces what is in these
_MOCKED = frozenset(("open", "print", "input", "exit", "quit", "help", "breakpoint", "__import__", "eval", "exec"))
_RECORDED = frozenset(f"warnings.{name}" for name in ("showwarning", "_showwarnmsg", "_showwarnmsg_impl"))  # by lists
_OFTEN = 500  # checks, then ever fewer: a loop of assertions must not take long
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_ONLY_AST = 0x400  # of compile(): `ast.PyCF_ONLY_AST`, without the milliseconds that `ast` takes
CHECK = "__troop_check__"

# The tree may have a copy of another package that is installed, too.
_OUTSIDE = {*getattr(sys, "stdlib_module_names", ("json", "math", "re", "unittest")), "pytest", "numpy", "hypothesis"}

_function = type(lambda: None)


def _imported(node: Any) -> Iterator[str]:
    """Modules that the script names, wherever it imports them."""
    if isinstance(node, _ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, _ast.ImportFrom):
        if node.module and not node.level:
            yield node.module
    else:
        for block in _BLOCKS:
            for inner in getattr(node, block, ()):
                yield from _imported(inner)


def _entries(module: Any) -> Iterator[tuple[Any, str, object, str]]:
    """Namespace, name, value and dotted name of what can be called in a module and in its classes."""
    for name, value in list(vars(module).items()):
        if not callable(value) or name == "_":
            continue
        yield vars(module), name, value, f"{module.__name__}.{name}"
        if isinstance(value, type) and value.__module__ == module.__name__:
            for attribute, method in list(vars(value).items()):
                if callable(method) or isinstance(method, (staticmethod, classmethod, property)):
                    yield vars(value), attribute, method, f"{module.__name__}.{name}.{attribute}"


def _file_of(value: Any) -> str:
    """The file that a function, a class or an object is from; "" where that can't be told."""
    for name in ("__func__", "fget", "func"):  # of methods, properties and partial functions
        inner = getattr(value, name, None)
        if not isinstance(value, (type, _function)) and isinstance(inner, _function):
            value = inner
    if isinstance(value, _function):
        return value.__code__.co_filename
    kind = value if isinstance(value, type) else type(value)
    for inner in vars(kind).values():
        if isinstance(inner, _function):
            return inner.__code__.co_filename  # where it says that it is from may be a lie
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or ""


def _with_checks(block: list[Any]) -> list[Any]:
    """The statements with a check before each one that may judge."""
    found = []
    for node in block:
        for name in _BLOCKS:
            inner = getattr(node, name, None)
            if name in ("handlers", "cases"):
                for one in inner or ():
                    one.body = _with_checks(one.body)
            elif isinstance(inner, list):
                setattr(node, name, _with_checks(inner))
        judges = isinstance(node, (_ast.Assert, _ast.With, _ast.AsyncWith, _ast.If, _ast.Return))
        if judges or (isinstance(node, _ast.Expr) and isinstance(node.value, _ast.Call)):
            where = {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
            called = _ast.Call(_ast.Name(CHECK, _ast.Load(), **where), [], [], **where)
            found.append(_ast.Expr(called, **where))
        found.append(node)
    return found


def _noted(tree: Any, provided: Callable[[str], bool]) -> tuple[list[Any], list[Any]]:
    """What is looked at before each assertion, and all that is looked at in the end."""
    named = {"builtins"}
    for name in dict.fromkeys(_imported(tree)):
        top = name.partition(".")[0]
        if top in _OUTSIDE and not provided(top):
            try:
                __import__(name)
            except BaseException:  # noqa: S112 - the script gets the same, in its own place
                continue
            named |= {name, top}
    often, all_of_them = [], []
    for name, module in list(sys.modules.items()):
        if (
            name in ("__main__", "runner", "guard")
            or not hasattr(module, "__dict__")
            or not hasattr(module, "__name__")
        ):
            continue
        entries = [(sys.modules, name, module, f"module {name}"), *_entries(module)]
        all_of_them += entries
        if name in named or name in ("unittest.case", "_pytest.raises", "_pytest.python_api", "_pytest.outcomes"):
            often += entries
    return often, all_of_them


def _judges(
    changed: set[str], uses_mocks: bool
) -> tuple[Callable[[Any], bool], Callable[[dict[str, Any], str, str], bool]]:
    """Whether a value is from a changed file, or from none; whether what a namespace has in a place was tampered with.

    All names are bound here: what is judged may change this module.
    """
    file_of, real, is_text, split = _file_of, os.path.realpath, str.startswith, str.split
    tools, recorded = _TOOLS, _RECORDED

    def of_plugin(name: str) -> bool:
        """Whether the file is a plugin's of pytest, such as `pytest_asyncio/plugin.py`: some replace parts of it."""
        place = split(name, "/")[-2:]
        return place[0] not in tools and "pytest" in "/".join(place)

    def foreign(value: Any) -> bool:
        name = file_of(value)
        return not name or real(name) in changed or name in changed or (is_text(name, "<") and name[:8] != "<frozen ")

    def tampered(space: Any, name: str, dotted: str) -> bool:
        value = space.get(name)
        if is_text(dotted, "module "):
            return not is_text(dotted, "module encodings") and (value is None or foreign_module(value))
        if value is None:
            return True
        if dotted.partition(".")[0] in tools:
            return foreign(value) or not of_plugin(file_of(value))
        if dotted in recorded:
            return False
        if is_text(dotted, "builtins.") and name not in _MOCKED:
            return True
        if is_text(getattr(type(value), "__module__", ""), "unittest.mock"):
            return not uses_mocks
        return foreign(value)

    def foreign_module(value: Any) -> bool:
        place = getattr(value, "__file__", None)
        if uses_mocks and is_text(getattr(type(value), "__module__", ""), "unittest.mock"):
            return False
        return type(value) is not type(sys) or (place is not None and (real(place) in changed or place in changed))

    return foreign, tampered


def guarded(
    source: bytes, script: str, report: int, changed: set[str], provided: Callable[[str], bool]
) -> tuple[Any, Callable[[], None], Callable[[dict[str, Any]], None]] | None:
    """The program with checks in it, the check, and the last one of a namespace; None for what is no program.

    `provided`: whether the tree has a module of that name.
    """
    try:
        tree = compile(source, script, "exec", _ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    often, everything = _noted(tree, provided)
    kinds = (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef)
    plain = [node for node in tree.body if isinstance(node, kinds) and not node.decorator_list]
    own = [(node.name, isinstance(node, _ast.ClassDef)) for node in plain]
    tree.body = _with_checks(tree.body)
    write, file_of, real, get = os.write, _file_of, os.path.realpath, dict.get
    mine = real(script)
    foreign, tampered = _judges(changed, b"mock" in source.lower() or b"monkeypatch" in source)

    def look(entries: list[Any]) -> None:
        for space, name, value, dotted in entries:
            if space.get(name) is not value and tampered(space, name, dotted):
                write(report, b"void replaced " + dotted.encode("utf-8", "replace") + b"\n")

    seen = [0]

    def check() -> None:
        seen[0] += 1
        count = seen[0]
        if count < _OFTEN or count & (count - 1) == 0 or count % (count // _OFTEN + 1) == 0:
            look(often)

    def last(main: dict[str, Any]) -> None:
        look(everything)
        if get(main, CHECK) is not check:
            write(report, b"void replaced the check\n")
        for name, is_class in own:
            value = get(main, name)
            parts = list(vars(value).values()) if is_class and isinstance(value, type) else [value]
            for part in parts:
                if isinstance(part, _function) and real(file_of(part)) != mine and foreign(part):
                    write(report, b"void replaced a function of the script\n")

    return tree, check, last
