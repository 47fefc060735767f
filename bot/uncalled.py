"""A Python test that defines what it never calls, as one written for a test runner does, completed so that it runs.

Run as a script such a test does nothing and exits with 0: it would pass everywhere.
"""

import ast
from collections.abc import Iterator, Sequence

_RUNNERS = frozenset(
    ("pytest", "unittest", "globals", "locals", "__name__", "doctest")
)  # whoever names one runs its own
_PYTEST = 'import pytest\n\nraise SystemExit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))'

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def completed(path: str, text: str) -> str:
    """The script, with calls of its tests at its end where none of them is ever called. Pure.

    Functions without arguments are called as they are, `TestCase`s by unittest, all else (fixtures, parameters, plain
    test classes) by pytest.
    """
    if not path.endswith(".py"):
        return text
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
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
    """Every node that runs when the script does: none within functions and classes."""
    for node in body:
        if isinstance(node, _Function | ast.ClassDef):
            continue
        yield from ast.walk(node)
