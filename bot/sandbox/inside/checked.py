"""A test script with checks in it. Standard library only, Python 3.8+. Executed by `runner.py` for `guard.py`.

Checks are put before each statement that may judge, behind the last argument of what it calls, around a `with` and an
assertion, around both sides of a comparison, and around each test function. They are calls of a constant: no namespace
has a name for them that could be replaced.
"""

from __future__ import annotations

import _ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

ONLY_AST = 0x400  # of compile(): `ast.PyCF_ONLY_AST`, without the milliseconds that `ast` takes
# What is checked where nothing is compared.
LOOK, RECEIVER, FAILED, RAISED, BEGAN, MARKED = "look", "receiver", "failed", "raised", "began", "marked"
COMPARED, FIRST, SECOND, METHOD = "compared", "first", "second", "method"
BROKE, HELD, ENTERED, LEFT = "broke", "held", "entered", "left"  # of assertions and `with`, by the lines of these
LEAVING, MADE = "leaving", "made"  # where the script exits; of what the tree's code gives it
MATCHED = "matched"  # of what a `match` is about
HANDLED, EXPECTED, CALLED = "handled", "expected", "called"  # `expecting.py`
COUNTED = ("called", "call_count")  # what mocks keep of calls
EXITS = {"exit", "quit", "SystemExit"}
_MARK = "__troop_check__"  # in the place of the constant, until the code is compiled
_JUDGING = ("Assert", "With", "AsyncWith", "If", "Return")
_OPERATORS = {"Eq": "==", "NotEq": "!=", "Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "In": "in", "NotIn": "not-in"}
_ARITHMETIC = {"Sub": "-", "Div": "/", "FloorDiv": "//", "Mod": "%", "BitXor": "^", "BitAnd": "&"}
_COMPARING = (  # how what is called so compares its first two arguments; the first that fits
    ("assertin", "in"), ("assertnotin", "in"), ("lessequal", "<="), ("less", "<"), ("greaterequal", ">="),
    ("greater", ">"), ("not", ""), ("equal", "=="),
)  # fmt: skip
_OF_KIND = ("isinstance", "issubclass", "assertisinstance", "assertissubclass")
_OF_TEXTS = ("startswith", "endswith")  # methods that what is called so calls of its first argument
_NEARING = ("almost", "approx", "close")  # in names of what subtracts its arguments
# A function that is decorated with something else may be compiled for another machine, or expected to fail.
_DECORATORS = frozenset((
    *("asyncio", "classmethod", "contextlib", "contextmanager", "functools", "given", "hypothesis", "mock", "patch"),
    *("property", "pytest", "settings", "staticmethod", "unittest"),
))  # fmt: skip
# Names by which the script has what is in modules of the tree; `guard.py` fills it. A candidate's decorator is no
# reason to look away, but for one that compiles.
OF_TREE: set[str] = set()
HELPERS: set[str] = set()  # of these, what is in modules among tests, which no candidate changes
OTHERS: set[str] = {"self", "cls", "open"}  # names by which it has what is in other modules, or what it defines
EXITING: set[str] = set()  # names by which it exits: `leaving.py`
MEANT: set[int] = set()  # lines of assertions that fail whatever happens: `meant.py`
SUSPENDED: set[int] = set()  # lines of functions that may fail while the run ends well: `meant.py`
_COMPILING = ("jit", "compile", "kernel", "vectorize", "script", "trace", "cuda", "parallel")


def _kind(node: Any) -> str:
    return type(node).__name__


def _at(node: Any, like: Any) -> Any:
    node.lineno, node.col_offset = like.lineno, like.col_offset
    node.end_lineno, node.end_col_offset = like.end_lineno, like.end_col_offset
    return node


def _check(what: str, like: Any, value: Any = None, more: Any = False) -> Any:
    """A call of the check, which gives back the value. `more`: whether it is asked loosely (see `agreeing.py`), or the
    test whose method is called with it."""
    mark = _at(_ast.Attribute(_at(_ast.Constant(_MARK), like), "__call__", _ast.Load()), like)
    constant: Any = _ast.Constant  # a tuple may be one
    given = [_at(constant(one), like) if isinstance(one, (str, bool, tuple)) else one for one in (what, more)]
    return _at(_ast.Call(mark, [value or _at(_ast.Constant(None), like), *given], []), like)


def _statement(what: str, like: Any, more: Any = False) -> Any:
    return _at(_ast.Expr(_check(what, like, None, more)), like)


def _names(node: Any) -> list[str]:
    """Of a dotted name, or of what is called by one."""
    names: list[str] = []
    while node is not None:
        names.append(str(getattr(node, "attr", None) or getattr(node, "id", "")))
        node = getattr(node, "func", None) or getattr(node, "value", None)
    return names


def _decorated_by(node: Any) -> list[str]:
    return [name for decorator in getattr(node, "decorator_list", ()) for name in _names(decorator)]


def _makes_code(names: list[str]) -> bool:
    """Whether a decorator of that dotted name may read what it is given, as compilers do."""
    if not OF_TREE.isdisjoint(names[-1:]):
        return any(word in name.lower() for name in names for word in _COMPILING)
    return _DECORATORS.isdisjoint(names)


def checked(nodes: list[Any], top: bool = True) -> list[Any]:
    """The statements with checks, made in place. `top`: whether they are of a module or its classes."""
    found = []
    for place, node in enumerate(nodes):
        node.decides = _is_of_pytest(node) and _decides(node.targets[0].id, nodes[place + 1 :])
        if _kind(node) in ("With", "AsyncWith"):
            _line(node)
        if _kind(node) == "Expr":
            node.value.is_statement = True
        _visit(node, top=top)
        if _kind(node) in _JUDGING or (_kind(node) == "Expr" and _kind(node.value) == "Call"):
            found.append(_statement(LOOK, node, str(node.lineno)))
        if _kind(node) == "Raise" and getattr(node.exc, "id", "") in EXITING:
            found.append(_statement(LEAVING, node))
        found.append(node)
        if _kind(node) in ("With", "AsyncWith"):
            found.append(_statement(LEFT, node, _line(node)))
    return found


def told(nodes: list[Any]) -> list[Any]:
    """The statements, made in place, with assertions that tell whether they held. To be made before anything else is,
    since pytest makes other statements of assertions."""
    for node in nodes:
        for name in node._fields:
            inner = getattr(node, name, None)
            if isinstance(inner, list) and inner and isinstance(inner[0], _ast.stmt):
                setattr(node, name, told(inner))
            elif isinstance(inner, list) and inner and name in ("handlers", "cases"):
                told(inner)
    return [_told(node) if _kind(node) == "Assert" and node.lineno not in MEANT else node for node in nodes]


def _told(node: Any) -> Any:
    line = str(node.lineno)
    broke = [_statement(BROKE, node, line), _at(_ast.Raise(None, None), node)]
    handler = _at(_ast.ExceptHandler(None, None, broke), node)
    handler.tells = True  # and handles nothing
    return _at(_ast.Try([node], [handler], [_statement(HELD, node, line)], []), node)


def _line(node: Any) -> str:
    """The line of a `with`; with `!` where nothing but the tree's code, or a variable, gives what manages it."""
    if not hasattr(node, "managed"):  # before checks are put around what manages it
        roots = [_names(item.context_expr)[-1] for item in node.items if _kind(item.context_expr) != "Name"]
        node.managed = f"{node.lineno}{'!' if OTHERS.isdisjoint(roots) else ''}"
    return str(node.managed)


def _visit(node: Any, *, loose: bool = False, judges: bool = False, top: bool = False) -> Any:
    """The node with checks. `loose`: whether nothing but its truth counts; `judges`: whether its statement does."""
    kind = _kind(node)
    is_function = kind in ("FunctionDef", "AsyncFunctionDef")
    if is_function and any(_makes_code(_names(one)) for one in node.decorator_list):
        return node
    judges = judges or kind in _JUDGING or kind == "Expr"
    for name in node._fields:
        inner = getattr(node, name, None)
        asked = name == "test" or (loose and kind in ("BoolOp", "UnaryOp")) or getattr(node, "decides", False)
        if isinstance(inner, list) and inner and isinstance(inner[0], _ast.stmt):
            setattr(node, name, checked(inner, top and kind in ("ClassDef", "If", "Try")))
        elif isinstance(inner, list):
            inner[:] = [_visit(one, loose=asked, judges=judges) if isinstance(one, _ast.AST) else one for one in inner]
        elif isinstance(inner, _ast.AST):
            setattr(node, name, _visit(inner, loose=asked, judges=judges))
    if kind == "Compare":
        return _compared(node, loose)
    if kind == "BinOp" and judges and _kind(node.op) in _ARITHMETIC:
        how = _ARITHMETIC[_kind(node.op)]
        node.left, node.right = (_check(how, one, one, True) for one in (node.left, node.right))
    elif kind == "Call":
        _called(node, judges)
        if not OF_TREE.isdisjoint(_names(node.func)[-1:]):
            return _check(MADE, node, node, str(node.lineno))
    elif kind == "Attribute" and judges and node.attr in COUNTED and _kind(node.ctx) == "Load":
        node.value = _check(METHOD, node.value, node.value, node.attr)
    elif kind == "Match":
        node.subject = _check(MATCHED, node.subject, node.subject)
    elif kind == "ExceptHandler" and not hasattr(node, "tells"):
        node.body.insert(0, _statement(HANDLED, node.body[0]))
        if node.type is not None:
            node.type = _check(EXPECTED, node.type, node.type)
    elif kind in ("With", "AsyncWith"):
        told = [_statement(RAISED, node.body[-1], _line(node)), _statement(LOOK, node.body[-1], _line(node))]
        node.body = [_at(_ast.Try(node.body, [], [], told), node)]
        for item in node.items:
            item.context_expr = _check(ENTERED, item.context_expr, item.context_expr, _line(node))
    elif is_function and top and node.name.startswith("test"):
        _watched(node)
    return node


def _is_of_pytest(node: Any) -> bool:
    """Whether pytest made it of a comparison in an `assert`."""
    return _kind(node) == "Assign" and getattr(node.targets[0], "id", "").startswith("@py")


def _decides(name: str, following: list[Any]) -> bool:
    """Whether what pytest keeps under that name is asked for its truth, not only handed on to what the `assert` calls.

    Names are used again by the next `assert`.
    """
    for node in following:
        if _kind(node) == "Assign" and any(getattr(one, "id", "") == name for one in node.targets):
            return False
        asked = node.test if _kind(node) == "If" else node.value if _is_of_pytest(node) else None
        if name in _truths(asked):
            return True
    return False


def _truths(node: Any) -> list[str]:
    """The names whose truth is the node's."""
    kind = _kind(node)
    inner = [node.operand] if kind == "UnaryOp" else node.values if kind == "BoolOp" else []
    return [node.id] if kind == "Name" else [name for one in inner for name in _truths(one)]


def _compared(node: Any, loose: bool) -> Any:
    """A call that compares, where all operators are known. In a chain, all sides are evaluated."""
    operators = [_OPERATORS.get(_kind(one), "") for one in node.ops]
    if not all(operators) or getattr(node.left, "id", "") == "__name__":
        return node
    sides = _at(_ast.Tuple([node.left, *node.comparators], _ast.Load()), node)
    return _check(COMPARED, node, sides, (str(node.lineno), loose, *operators))


def _called(node: Any, judges: bool) -> None:
    """Arguments of what asserts are compared; where a statement judges, the last one comes before what is called."""
    name = _names(node.func)[0].lower()
    if _names(node.func)[0] in EXITING:
        _leaves(node)
    if "assert" in name or "equal" in name:
        how = "!=" if "not" in name else "=="
        by_elements = "close" in name or "array" in name
        loose = "assert" in name and not by_elements
        node.args = [one if _kind(one) == "Starred" else _check(how, one, one, loose) for one in node.args]
        between = next((operator for word, operator in _COMPARING if word in name), "")
        if between and not by_elements and len(node.args) > 1 and "Starred" not in map(_kind, node.args[:2]):
            first, second = node.args[:2]
            node.args[:2] = [
                _check(FIRST, first, first),
                _check(SECOND, second, second, (str(node.lineno), between)),
            ]
        if node.args and _kind(node.args[0]) != "Starred":
            for one in (one for one in _OF_TEXTS if one in name):
                node.args[0] = _check(METHOD, node.args[0], node.args[0], one)
    _expects(node, name)
    if any(word in name for word in _NEARING):
        node.args = [one if _kind(one) == "Starred" else _check("-", one, one, True) for one in node.args]
    test: Any = node.func.value if _kind(node.func) == "Attribute" else None
    if judges:
        by_tree = not (OF_TREE - HELPERS).isdisjoint(_names(node.func)[-1:])
        line, parts = str(node.lineno), ("Attribute", "Subscript", *(() if by_tree else ("Name", "Call")))
        node.args = [_check(MADE, one, one, line) if _kind(one) in parts else one for one in node.args]
    if judges and test is not None and ("assert" in name or not hasattr(node, "is_statement")):
        node.func.value = _check(METHOD, test, test, node.func.attr)
    if judges and node.args and _kind(node.args[-1]) != "Starred":
        node.args[-1] = _check(LOOK, node.args[-1], node.args[-1], str(node.lineno))
        if _kind(test) == "Name":  # after the arguments, of which one may be what changes it
            node.args[-1] = _check(RECEIVER, node.args[-1], node.args[-1], _at(_ast.Name(test.id, _ast.Load()), test))


def _expects(node: Any, name: str) -> None:
    """The call of what expects an exception of a kind, maybe of what it calls, or tells whether a value is of one."""
    raises = "raises" in name
    at = 0 if raises else 1
    if raises and "group" in name:  # of several kinds
        node.args = [one if _kind(one) == "Starred" else _check(EXPECTED, one, one) for one in node.args]
    elif (raises or name in _OF_KIND) and len(node.args) > at and "Starred" not in map(_kind, node.args):
        node.args[at] = _check(EXPECTED, node.args[at], node.args[at])
        at = 2 if "regex" in name else 1
        if raises and len(node.args) > at:
            node.args[at] = _check(CALLED, node.args[at], node.args[at])


def _leaves(node: Any) -> None:
    """The call of what exits tells so once its arguments are known."""
    last = node.args[-1] if node.args else node.keywords[-1] if node.keywords else None
    if last is None:
        node.func = _check(LEAVING, node.func, node.func)
    elif _kind(last) in ("Starred", "keyword"):
        last.value = _check(LEAVING, last.value, last.value)
    else:
        node.args[-1] = _check(LEAVING, last, last)


def _watched(node: Any) -> None:
    """A test that ends with an exception is told to have failed, whatever is made of that."""
    if node.lineno in SUSPENDED or not MEANT.isdisjoint(one.lineno for one in node.body):
        return
    first = node.body[0]
    has_docstring = _kind(first) == "Expr" and _kind(first.value) == "Constant" and isinstance(first.value.value, str)
    begin, rest = node.body[:has_docstring], node.body[has_docstring:]
    if rest:
        told = [_statement(FAILED, rest[0]), _at(_ast.Raise(None, None), rest[0])]
        handler = _at(_ast.ExceptHandler(None, None, told), rest[0])
        node.body = [*begin, _at(_ast.Try(rest, [handler], [], []), rest[0])]


def with_constant(code: CodeType, check: Any) -> CodeType:
    """The code with the check in the place of its mark."""
    constants = [check if one == _MARK else one for one in code.co_consts]
    constants = [with_constant(one, check) if isinstance(one, type(code)) else one for one in constants]
    return code.replace(co_consts=tuple(constants))
