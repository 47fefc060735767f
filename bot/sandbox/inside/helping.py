"""Whether the repository's own helpers and data of tests, which a script imports or reads, are those of their files.
Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. No candidate may change a file among tests, but it could
set `tests.helpers.check`, put a module in that one's place, or write the file anew before the script imports it; so it
could write what is expected (`tests/golden.txt`), or lead the script to another folder.
"""

from __future__ import annotations

import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import ONLY_AST
    from bot.sandbox.inside.meant import FUNCTIONS, nodes
    from bot.sandbox.inside.surroundings import _own_constants

_AMONG_TESTS = frozenset(("tests", "test", "testing", "__tests__", "spec"))


def _named(tree: Any) -> Iterator[tuple[str, str, str]]:
    """Module, name in it, and name in the script of each import; "" for the module itself."""
    for node in nodes(tree):
        kind = type(node).__name__
        if kind == "Import":
            yield from ((alias.name, "", "") for alias in node.names)
        elif kind == "ImportFrom" and node.module and not node.level:
            for alias in node.names:
                yield node.module, alias.name, alias.asname or alias.name
                yield f"{node.module}.{alias.name}", "", ""


def among_tests(module: str) -> bool:
    parts = module.split(".")
    return not _AMONG_TESTS.isdisjoint(parts) or parts[-1].startswith("test_") or module.endswith("conftest")


def helpers(tree: Any) -> set[str]:
    """Names that the script has of modules among tests."""
    return {local or module.partition(".")[0] for module, _, local in _named(tree) if among_tests(module)}


def _file_of_helper(name: str, script: str) -> str:
    """The file of a module of the tree that is among tests; "" for another."""
    folders = [os.getcwd(), os.path.dirname(script), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for folder in filter(None, folders) if among_tests(name) else ():
        for ending in (".py", os.sep + "__init__.py"):
            path = os.path.join(folder, *name.split(".")) + ending
            if os.path.isfile(path):
                return path
    return ""


def _defined(path: str, said: set[str]) -> dict[str, Any]:
    """The code of the file's functions, under "", and of its classes' methods; none of what a decorator may replace.
    And its constants but those `said`, which the script may set itself."""
    with open(path, "rb") as file:
        source = file.read()
    tree: Any = compile(source, path, "exec", ONLY_AST, dont_inherit=True)
    codes = {(one.co_name, one.co_firstlineno): one for one in _codes(compile(source, path, "exec", dont_inherit=True))}
    found: dict[str, Any] = {name: value for name, value in _own_constants(tree) if name not in said}
    for node in tree.body:
        if getattr(node, "decorator_list", [0]):
            continue
        inside = node.body if type(node).__name__ == "ClassDef" else [node]
        plain = [one for one in inside if type(one).__name__ in FUNCTIONS and not one.decorator_list]
        found[node.name] = {
            one.name if one is not node else "": codes[one.name, one.lineno]
            for one in plain
            if one.name[:2] != "__" or one.name[-2:] == "__"  # others are called otherwise in a class
        }
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, type(code)):
            yield one
            yield from _codes(one)


def _data(tree: Any) -> dict[str, int]:
    """Files in folders of tests that the script names, or whose folder it names, with when each was changed."""
    texts = {str(node.value) for node in nodes(tree) if type(getattr(node, "value", None)) is str}
    named = {part for text in texts if len(text) < 200 for part in text.split("/")} - {""}
    found: dict[str, int] = {}
    for folder in _AMONG_TESTS:
        for place, _, files in os.walk(folder) if named else ():
            for name in files:
                if name in named or os.path.basename(place) in named - _AMONG_TESTS:
                    path = os.path.abspath(os.path.join(place, name))
                    found[path] = os.lstat(path).st_ctime_ns
    return found


def _comparing(rewritten: str) -> Callable[[Any, Any, frozenset[str]], bool]:
    """What compares a helper with its file. `rewritten`: a name that code has which pytest changed, "" for none."""
    code_of = _code_of
    fine: dict[int, Any] = {}  # code that was compared

    def other(value: Any, meant: Any, paths: frozenset[str]) -> bool:
        """Whether that is no function of this code, or no class with methods of these; or no such constant."""
        if type(meant) is not dict:
            return type(value) is not type(meant) or bool(value != meant)
        for name, its in meant.items():
            code = code_of(vars(value).get(name) if name else value)
            if code is None or code.co_filename not in paths:
                return True
            if fine.get(id(code)) is not code:
                if code != its and not (rewritten and rewritten in code.co_names):
                    return True
                fine[id(code)] = code
        return False

    return other


def helping(tree: Any, script: str, main: dict[str, Any]) -> Callable[[], str]:
    """What tells which helper is not what its file has; "" for none. Called before anything of the tree is imported.

    All names are bound here: what is judged may change this module.
    """
    known: dict[str, tuple[frozenset[str], int, dict[str, Any]]] = {}
    bound: list[tuple[str, str, str]] = []
    stored = {getattr(one, "attr", "") for one in nodes(tree) if type(getattr(one, "ctx", None)).__name__ == "Store"}
    texts = (value for one in nodes(tree) if type(value := getattr(one, "value", None)) is str)
    said = stored.union(text.rpartition(".")[2] for text in texts)  # what the script may set itself
    for module, name, local in _named(tree):
        path = _file_of_helper(module, script)
        if path and module not in known:
            try:
                paths = frozenset((path, os.path.realpath(path)))
                known[module] = paths, os.stat(path).st_ctime_ns, _defined(path, said)
            except (OSError, SyntaxError, ValueError):
                continue
        if module in known and name in known[module][2]:
            bound.append((module, name, local))
    modules, stat, get = sys.modules, os.stat, dict.get
    type_of, lazy = type, getattr(types, "LazyImportType", None)
    other = _comparing("@pytest_ar" if any(module == "pytest" for module, _, _ in _named(tree)) else "")
    data, lstat, cwd, here = _data(tree), os.lstat, os.getcwd, os.getcwd()
    moves = any(getattr(node, "attr", "") == "chdir" for node in nodes(tree))

    def changed(module: str) -> str:
        paths, before, defined = known[module]
        now = get(modules, module)
        if now is None:
            return ""
        for path in paths:
            if stat(path).st_ctime_ns != before:
                return f"the file of {module}"
        space = vars(now)
        for name, meant in defined.items():
            if name in space and other(space[name], meant, paths):
                return f"{module}.{name}"
        return "" if defined.keys() <= space.keys() or getattr(now.__spec__, "_initializing", False) else module

    def replaced() -> str:
        try:
            for path, before in data.items():
                if lstat(path).st_ctime_ns != before:
                    return path
            if data and not moves and cwd() != here:
                return "the working directory"
            for module in known:
                what = changed(module)
                if what:
                    return what
            for module, name, local in bound:
                value, (paths, _, defined) = get(main, local), known[module]
                if value is not None and type_of(value) is not lazy and other(value, defined[name], paths):
                    return f"{module}.{name}"
        except Exception:  # it is no class, no module, or the file is gone
            return "a helper of tests"
        return ""

    return replaced if known or data else (lambda: "")


def _code_of(value: Any) -> Any:
    """A function's code; None for anything else. `__new__` is a static method without being called one."""
    if value.__class__ is staticmethod or value.__class__ is classmethod:
        value = value.__func__
    return value.__code__ if value.__class__ is _plain_function else None


_plain_function = type(lambda: None)
