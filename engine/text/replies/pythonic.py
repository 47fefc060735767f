"""Tool calls in Python's syntax: `NAME(KEY=VALUE, ...)`, a line each or in a list."""

import ast
import json
from collections.abc import Callable

from engine.text.replies.pieces import Schemas, ToolCall, call_of, parsed
from engine.text.replies.unquoted import python_tree

_JSON_NAMES = {"true": True, "false": False, "null": None}  # models write these, too


def reader(begin: str, end: str) -> Callable[[str, Schemas], list[ToolCall]]:
    """As `engine.text.replies.formats.ToolFormat` has it, of sections between these marks."""
    return lambda section, _: read(section.removeprefix(begin).removesuffix(end))


def read(text: str) -> list[ToolCall]:
    """The calls that a text consists of. Nothing is executed.

    Raises:
        ValueError: it has anything else.
    """
    try:
        found = [call for line in python_tree(text, "exec").body for call in _calls(line)]
        if not found:
            raise ValueError("no calls")
        return [_read_call(call) for call in found]
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("no calls in Python's syntax") from error


def _calls(line: ast.stmt) -> list[ast.expr]:
    if not isinstance(line, ast.Expr):
        raise ValueError("a statement")
    return line.value.elts if isinstance(line.value, ast.List) else [line.value]


def _read_call(call: ast.expr) -> ToolCall:
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("no call by names")
    arguments = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("an argument without a name")
        value = ast.literal_eval(_Constants().visit(keyword.value))
        arguments[keyword.arg] = parsed(json.dumps(value))
    return call_of(_name(call.func), arguments)


def _name(function: ast.expr) -> str:
    """A name, perhaps with dots."""
    if isinstance(function, ast.Attribute):
        return f"{_name(function.value)}.{function.attr}"
    if isinstance(function, ast.Name):
        return function.id
    raise ValueError("no name")


class _Constants(ast.NodeTransformer):
    """Puts constants in the place of JSON's names for them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(_JSON_NAMES[node.id]), node) if node.id in _JSON_NAMES else node
