"""The examples of docstrings (`>>> f(1)`), and what they come to. Standard library only: its text goes into scripts.

The docstrings come from a text, since those of the running code may be others.
"""

import ast
import doctest
import io


def docstrings(text: str) -> "dict[str, str]":
    """Every docstring with an example, by qualified name; "" is the module's own.

    Raises `SyntaxError`, `ValueError`.
    """
    found: dict[str, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            own = ast.get_docstring(node)
            if own and ">>>" in own:
                found[name] = own
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(child, f"{name}.{child.name}".lstrip("."))

    visit(ast.parse(text), "")
    return found


class _Runner(doctest.DocTestRunner):
    def __init__(self, flags):  # type: ignore[no-untyped-def]
        super().__init__(verbose=False, optionflags=flags)
        self.rows = []

    def report_start(self, out, test, example):  # type: ignore[no-untyped-def]
        pass

    def report_success(self, out, test, example, got):  # type: ignore[no-untyped-def]
        self.rows.append((example, True, got))

    def report_failure(self, out, test, example, got):  # type: ignore[no-untyped-def]
        self.rows.append((example, False, got))

    def report_unexpected_exception(self, out, test, example, exc_info):  # type: ignore[no-untyped-def]
        kind, value = exc_info[:2]
        self.rows.append((example, False, f"{kind.__name__}: {value}".rstrip(": ")))


def examples(module, name, text, flags=0):  # type: ignore[no-untyped-def]
    """Of each example of the docstring that is run: it, whether it passed, and what it printed or raised.

    `flags`: doctest's option flags. Raises `ValueError` where doctest can't read the docstring.
    """
    test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), name, None, 0)
    runner = _Runner(flags)  # type: ignore[no-untyped-call]
    runner.run(test, out=io.StringIO().write)
    return runner.rows


def outcomes(module, docs):  # type: ignore[no-untyped-def]
    """Of each docstring, by name: a pair an example, whether it passed, and what it printed or raised."""
    found = {}
    for name, text in docs.items():
        rows = examples(module, name, text)  # type: ignore[no-untyped-call]
        found[name] = [[passed, got] for _, passed, got in rows]
    return found
