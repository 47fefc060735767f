"""Completes Python test scripts that a model wrote. Pure.

A script may use a name that only a statement in the issue defines: `bound` adds the statement. It may use one that a
module defines from which it imports others: `imported` adds the import. Or it may define test functions for a test
runner and never call them, and so pass on any code: `completed` adds the calls. `needed_by` finds what a call of an
interactive session needs of the session.
"""

import ast
import builtins
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

from bot.patch.syntax import parsed, tree_of

_MOST_LINES = 12  # of a quoted statement
_PROMPT = re.compile(r"^\s*(?:>>>|\.\.\.) ?")
_RUNNERS = frozenset(
    ("pytest", "unittest", "globals", "locals", "__name__", "doctest")
)  # a script that names one of these runs its tests itself
_PYTEST = 'import pytest\n\nraise SystemExit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))'

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def statements(text: str) -> list[str]:
    """The Python statements in an issue, as far as they parse, without duplicates.

    Prompts of interactive sessions and the indentation of a whole example are removed.
    """
    lines = [_PROMPT.sub("", line) for line in text.split("\n")]
    found: dict[str, None] = {}
    begin = 0
    while begin < len(lines):
        margin = len(lines[begin]) - len(lines[begin].lstrip())
        for end in range(min(len(lines), begin + _MOST_LINES), begin, -1):
            block = "\n".join(part[margin:] for part in lines[begin:end])
            if _is_statement(block):
                found[block] = None
                begin = end - 1
                break
        begin += 1
    return list(found)


def _is_statement(text: str) -> bool:
    """Whether it is one complete statement, and more than a single word."""
    if not text.strip() or text != text.strip("\n"):
        return False
    tree = tree_of(text)
    body = tree.body if tree else []
    return len(body) == 1 and not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Name | ast.Constant))


def bound(text: str, quoted: list[str]) -> str:
    """The script, with the quoted statements that define names it uses and never defines, after its first imports.

    An issue may say "first, `d = {...}`", and the test of `f(d)` forget it. A script that does not parse is unchanged.
    """
    if (tree := tree_of(text)) is None:
        return text
    body = tree.body
    missing = _used(body) - _binds(body) - set(dir(builtins))
    needed: list[str] = []
    for statement in reversed(quoted):
        said = parsed(statement).body
        if missing & _binds(said):
            needed.insert(0, statement)
            missing |= _used(said) - _binds(said)
    return _after_imports(text, body, needed)


def needed_by(call: str, before: Sequence[str], name: str = "") -> list[str]:
    """Of the statements before a call those that define what it uses, in their order; none that defines `name`."""
    needed, kept = _named(call) - {name}, []
    for statement in reversed(before):
        try:
            nodes = list(ast.walk(ast.parse(statement)))
        except SyntaxError:
            continue
        defined = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        defined |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        defined |= {(node.asname or node.name).split(".")[0] for node in nodes if isinstance(node, ast.alias)}
        if defined & needed and name not in defined:
            kept.append(statement)
            needed |= _named(statement) - {name}
    return kept[::-1]


def _named(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def imported(text: str, defined: Callable[[str], Collection[str]]) -> str:
    """The script, with imports of what it uses, never binds, and leaves no doubt about, after its first imports.

    That is what a module defines from which the script imports already (`defined`: by the module's name), and modules
    of the standard library. An issue shows `Box(size=SMALL)`, and a test imports `Box` alone. A script that does not
    parse is unchanged.
    """
    if (tree := tree_of(text)) is None:
        return text
    body = tree.body
    modules: dict[str, None] = {}
    for node in body:
        if isinstance(node, ast.Import):
            modules |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules[node.module] = None
    needed = []
    for name in sorted(_used(body) - _binds(body) - set(dir(builtins))):
        source = next((module for module in modules if name in defined(module)), "")
        if source or name in sys.stdlib_module_names:
            needed.append(f"from {source} import {name}" if source else f"import {name}")
    return _after_imports(text, body, needed)


def _after_imports(text: str, body: Sequence[ast.stmt], added: Sequence[str]) -> str:
    """The script with these lines behind the imports that it begins with, after a docstring."""
    lines = text.split("\n")
    at = 0
    for place, node in enumerate(body):
        docs = not place and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docs and not isinstance(node, ast.Import | ast.ImportFrom):
            break
        at = node.end_lineno or at
    return "\n".join([*lines[:at], *added, *lines[at:]]) if added else text


def _used(body: list[ast.stmt]) -> set[str]:
    return {n.id for node in body for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _binds(body: list[ast.stmt]) -> set[str]:
    """Names that are bound in any scope."""
    found: set[str] = set()
    for node in (n for statement in body for n in ast.walk(statement)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def completed(path: str, text: str) -> str:
    """The script, with calls of its tests at the end if it calls none of them.

    Functions without arguments are called directly, `TestCase`s by unittest, and other tests (with fixtures or
    parameters, or in plain classes) by pytest.
    """
    if not path.endswith(".py") or (tree := tree_of(text)) is None:
        return text
    functions = [n for n in tree.body if isinstance(n, _Function) and n.name.startswith("test")]
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and _holds_tests(n)]
    named = {node.name for node in (*functions, *classes)}
    if not named or any(isinstance(n, ast.Name) and n.id in named | _RUNNERS for n in _outside(tree.body)):
        return text
    if all(_plain(function) for function in functions) and all(_is_case(one) for one in classes):
        calls = [f"{function.name}()" for function in functions] + (
            ["import unittest", "unittest.main()"] * bool(classes)
        )
        block = "\n".join(calls)
    else:
        block = _PYTEST
    return f'{text.rstrip()}\n\n\nif __name__ == "__main__":\n' + "".join(
        f"    {line}\n" if line else "\n" for line in block.split("\n")
    )


def _holds_tests(node: ast.ClassDef) -> bool:
    methods = any(isinstance(n, _Function) and n.name.startswith("test") for n in node.body)
    return methods and (node.name.startswith("Test") or _is_case(node))


def _is_case(node: ast.ClassDef) -> bool:
    return any("TestCase" in ast.unparse(base) for base in node.bases)


def _plain(node: _Function) -> bool:
    a = node.args
    free = [*a.posonlyargs, *a.args][: len(a.posonlyargs) + len(a.args) - len(a.defaults)]
    needed = free or [k for k, default in zip(a.kwonlyargs, a.kw_defaults, strict=True) if default is None]
    return isinstance(node, ast.FunctionDef) and not node.decorator_list and not needed


def _outside(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Every node outside functions and classes."""
    for node in body:
        if isinstance(node, _Function | ast.ClassDef):
            continue
        yield from ast.walk(node)
