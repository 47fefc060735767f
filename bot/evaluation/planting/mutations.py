"""One-line changes of a function that may plant a bug. Written for judging: no training data comes from here."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARE: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "islice": "chain", "zip": "zip_longest"}
_METHODS = {
    "append": "extend",
    "popleft": "pop",
    "appendleft": "append",
    "lstrip": "rstrip",
    "rstrip": "lstrip",
    "strip": "lstrip",
    "upper": "lower",
    "lower": "upper",
    "startswith": "endswith",
    "endswith": "startswith",
    "find": "rfind",
    "keys": "values",
    "values": "keys",
    "items": "keys",
    "union": "intersection",
    "intersection": "union",
    "split": "rsplit",
}


@dataclass(frozen=True)
class Mutation:
    """Line `line` (from 1) of the file changes from `before` to `after`."""

    kind: str
    line: int
    before: str
    after: str

    def apply(self, text: str) -> str:
        lines = text.split("\n")
        assert lines[self.line - 1] == self.before
        lines[self.line - 1] = self.after
        return "\n".join(lines)


def functions_with_doctests(text: str) -> list[ast.FunctionDef]:
    """Top-level functions whose docstring holds an example, in the file's order."""
    return [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and ">>>" in (ast.get_docstring(node) or "")
    ]


def mutations(text: str, function: ast.FunctionDef) -> list[Mutation]:
    """Every one-line change that we know for the function's code (not its docstring), each once, by line."""
    lines = text.split("\n")
    found: dict[tuple[int, str], Mutation] = {}
    for statement in function.body[1:]:
        for node in ast.walk(statement):
            for kind, line, start, end, new in _changes(node, lines):
                before = lines[line - 1]
                raw = before.encode()
                after = (raw[:start] + new.encode() + raw[end:]).decode()
                if after != before and _parses(text, line, after):
                    found.setdefault((line, after), Mutation(kind, line, before, after))
    return sorted(found.values(), key=lambda m: (m.line, m.after))


def _parses(text: str, line: int, after: str) -> bool:
    lines = text.split("\n")
    lines[line - 1] = after
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


_Change = tuple[str, int, int, int, str]  # kind, line, first byte, byte after the last, new text


def _changes(node: ast.AST, lines: list[str]) -> Iterator[_Change]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from _between(node.left, node.comparators[0], *_COMPARE[type(node.ops[0])], "comparison", lines)
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        yield from _between(node.left, node.right, *_BINARY[type(node.op)], "arithmetic", lines)
    elif isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield from _between(node.values[0], node.values[1], old, new, "logic", lines)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and node.operand.lineno == node.lineno:
        yield "negation", node.lineno, node.col_offset, node.operand.col_offset, ""
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.If | ast.While) and node.test.lineno == node.test.end_lineno == node.lineno:
        condition = lines[node.lineno - 1].encode()[node.test.col_offset : node.test.end_col_offset].decode()
        if not isinstance(node.test, ast.Compare | ast.Constant | ast.UnaryOp):
            new = f"not ({condition})" if isinstance(node.test, ast.BoolOp) else f"not {condition}"
            yield "negation", node.lineno, node.test.col_offset, node.test.end_col_offset or 0, new
    elif isinstance(node, ast.Slice) and node.step is None and (node.lower is None) != (node.upper is None):
        bound = node.lower or node.upper
        if bound is not None and node.lineno == node.end_lineno:
            shown = lines[node.lineno - 1].encode()[bound.col_offset : bound.end_col_offset].decode()
            new = f":{shown}" if node.lower else f"{shown}:"
            yield "slice", node.lineno, node.col_offset, node.end_col_offset or 0, new
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        old, new = ("+=", "-=") if isinstance(node.op, ast.Add) else ("-=", "+=")
        yield from _between(node.target, node.value, old, new, "arithmetic", lines)


def _constant(node: ast.Constant) -> Iterator[_Change]:
    if node.lineno != node.end_lineno or node.end_col_offset is None:
        return
    if isinstance(node.value, bool):
        yield "constant", node.lineno, node.col_offset, node.end_col_offset, str(not node.value)
    elif isinstance(node.value, int) and abs(node.value) <= 100:
        yield "off by one", node.lineno, node.col_offset, node.end_col_offset, str(node.value + 1)
        if node.value > 0:
            yield "off by one", node.lineno, node.col_offset, node.end_col_offset, str(node.value - 1)


def _call(node: ast.Call) -> Iterator[_Change]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in _NAMES and function.end_col_offset is not None:
        yield "wrong function", function.lineno, function.col_offset, function.end_col_offset, _NAMES[function.id]
    elif isinstance(function, ast.Attribute) and function.attr in _METHODS and function.end_col_offset is not None:
        end = function.end_col_offset
        if function.end_lineno is not None:
            start = end - len(function.attr)
            yield "wrong method", function.end_lineno, start, end, _METHODS[function.attr]


def _between(left: ast.expr, right: ast.expr, old: str, new: str, kind: str, lines: list[str]) -> Iterator[_Change]:
    """The operator between two operands that stand on one line."""
    if left.end_lineno != right.lineno or left.end_col_offset is None:
        return
    gap = lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()
    pattern = re.escape(old).replace(r"\ ", r"\s+")
    match = re.search(rf"\b{pattern}\b" if old[0].isalpha() else pattern, gap)
    if match:
        first = left.end_col_offset
        yield kind, right.lineno, first + match.start(), first + match.end(), new
