"""Mutations that need the syntax tree: swapped arguments, boundaries, negations, slices, dropped calls."""

import ast
import random
from collections.abc import Callable, Iterator

Change = tuple[int, int, int, str, str]  # line from 1, first column, end column, new text, kind
Text = Callable[[ast.AST], str]  # a node's source


def changes(source: str) -> Iterator[Change]:
    """Every change to one line of ASCII `source`. Raises `SyntaxError` if it does not parse."""
    if not source.isascii():  # columns are in bytes
        return
    tree = ast.parse(source)
    lines = source.split("\n")

    def text(node: ast.AST) -> str:
        return lines[node.lineno - 1][node.col_offset : node.end_col_offset]  # type: ignore[attr-defined]

    for node in ast.walk(tree):
        line = getattr(node, "lineno", None)
        if isinstance(node, ast.If | ast.While | ast.IfExp) and node.test.end_lineno == node.test.lineno:
            yield from _test(node, text(node.test))
        if line is None or getattr(node, "end_lineno", None) != line:
            continue
        rng = random.Random(f"{line} {text(node)}")  # thins out frequent changes, reproducibly
        match node:
            case ast.Call():
                yield from (
                    (line, first, last, new, kind) for first, last, new, kind in _call(node, lines[line - 1], text)
                )
            case ast.Compare() | ast.Subscript():
                yield from _bounds(node, text, rng)
            case _:
                yield from _operands(node, text, rng)


def _at(node: ast.AST, new: str, kind: str) -> Change:
    return node.lineno, node.col_offset, node.end_col_offset, new, kind  # type: ignore[attr-defined]


def _operands(node: ast.AST, text: Text, rng: random.Random) -> Iterator[Change]:
    """Operands swapped or dropped, signs and ends of slices changed."""
    match node:
        case ast.BinOp():
            left, right = text(node.left), text(node.right)
            if isinstance(node.right, ast.Constant) and node.right.value == 1:
                yield _at(node, left, "boundary")
            symbol = {ast.Sub: "-", ast.Div: "/", ast.Mod: "%", ast.FloorDiv: "//", ast.Pow: "**"}.get(type(node.op))
            if (
                symbol
                and isinstance(node.left, ast.Name | ast.Constant)
                and isinstance(node.right, ast.Name | ast.Constant)
            ):
                yield _at(node, f"{right} {symbol} {left}", "swap")
            if rng.random() < 0.3:
                yield _at(node, left, "drop")
        case ast.Return(value=ast.Tuple(elts=[one, two])):
            yield _at(node, f"return {text(two)}, {text(one)}", "swap")
        case ast.Return(value=ast.Name() as name) if rng.random() < 0.3:
            yield _at(name, f"not {name.id}", "negation")
        case ast.IfExp():
            yield _at(node, f"{text(node.orelse)} if {text(node.test)} else {text(node.body)}", "swap")
        case ast.Slice(lower=None, upper=ast.expr() as bound, step=None):
            yield _at(node, f"{text(bound)}:", "slice")
        case ast.Slice(lower=ast.expr() as bound, upper=None, step=None):
            yield _at(node, f":{text(bound)}", "slice")
        case ast.Slice(lower=None, upper=None, step=ast.expr()):
            yield _at(node, ":", "slice")
        case ast.BoolOp(values=[one, two]):
            yield _at(node, text(one), "drop")
            yield _at(node, text(two), "drop")
        case ast.UnaryOp(op=ast.USub()):
            yield _at(node, text(node.operand), "sign")


def _bounds(node: ast.Compare | ast.Subscript, text: Text, rng: random.Random) -> Iterator[Change]:
    """Limits and indices, off by one."""
    match node:
        case ast.Compare(comparators=[ast.Name() | ast.Call() as limit]) if rng.random() < 0.4:
            if isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                yield _at(limit, f"{text(limit)} {rng.choice('+-')} 1", "boundary")
        case ast.Subscript(slice=ast.Name() as index) if rng.random() < 0.4 and len(index.id) < 6:
            yield _at(index, f"{index.id} {rng.choice('+-')} 1", "boundary")
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper)):
            for side in (lower, upper):
                if isinstance(side, ast.Name | ast.Call):
                    yield _at(side, f"{text(side)} {rng.choice('+-')} 1", "boundary")


def _test(node: ast.If | ast.While | ast.IfExp, shown: str) -> Iterator[Change]:
    """The condition negated."""
    test = node.test
    new = shown[4:] if shown.startswith("not ") else f"not {shown}"
    if not isinstance(test, ast.BoolOp | ast.Compare) or random.Random(shown).random() < 0.2:
        yield test.lineno, test.col_offset, test.end_col_offset or 0, new, "negation"


def _call(node: ast.Call, line: str, text: Text) -> Iterator[tuple[int, int, str, str]]:
    """A call with other arguments, or without the call: (first column, end column, new text, kind)."""
    start, end = node.col_offset, node.end_col_offset or 0
    args = node.args
    if len(args) >= 2 and not any(isinstance(arg, ast.Starred) for arg in args[:2]) and text(args[0]) != text(args[1]):
        one, two = args[:2]
        between = line[one.end_col_offset : two.col_offset]
        yield one.col_offset, two.end_col_offset or 0, f"{text(two)}{between}{text(one)}", "swap"
    if args and len(args) >= 2 and not node.keywords:
        yield args[-2].end_col_offset or 0, args[-1].end_col_offset or 0, "", "drop"
    if args and node.keywords:
        keyword = node.keywords[-1]
        before = node.keywords[-2].end_col_offset if len(node.keywords) > 1 else args[-1].end_col_offset
        yield before or 0, keyword.end_col_offset or 0, "", "drop"
    if isinstance(node.func, ast.Attribute) and not args and not node.keywords:
        yield start, end, text(node.func.value), "drop"
    if not isinstance(node.func, ast.Name) or not args or node.keywords:
        return
    name, inner = node.func.id, text(args[0])
    if len(args) == 1 and name in {
        "abs",
        "sorted",
        "reversed",
        "set",
        "int",
        "list",
        "str",
        "round",
        "len",
        "iter",
        "tuple",
        "float",
    }:
        yield start, end, inner, "unwrap"
    if name == "len":
        yield start, end, f"{text(node)} - 1", "boundary"
        yield start, end, f"{text(node)} + 1", "boundary"
    if name == "range":
        limit = args[min(1, len(args) - 1)]
        first, last = limit.col_offset, limit.end_col_offset or 0
        if not isinstance(limit, ast.Constant):
            yield first, last, f"{text(limit)} - 1", "boundary"
            yield first, last, f"{text(limit)} + 1", "boundary"
        if len(args) == 1:
            yield start, end, f"range(1, {inner})", "boundary"
