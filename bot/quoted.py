"""Python statements that an issue quotes, and tests that use what only those bind. Pure."""

import ast
import builtins
import re

_MOST_LINES = 12  # of a quoted statement
_PROMPT = re.compile(r"^\s*(?:>>>|\.\.\.) ?")


def statements(text: str) -> list[str]:
    """What might be Python statements in an issue: lines that parse, with the lines that belong to them; each once.

    Prompts of interactive sessions and the indentation of a whole example are left out.
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
    """Whether it is one whole statement, and not a mere word."""
    if not text.strip() or text != text.strip("\n"):
        return False
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return len(body) == 1 and not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Name | ast.Constant))


def bound(text: str, quoted: list[str]) -> str:
    """The Python script, with those quoted statements behind its first imports that bind what it uses and never binds.

    An issue says "first, `d = {...}`", and a test of `f(d)` forgets it. A script that does not parse stays as it is.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return text
    missing = _used(body) - _binds(body) - set(dir(builtins))
    needed: list[str] = []
    for statement in reversed(quoted):
        parsed = ast.parse(statement).body
        if missing & _binds(parsed):
            needed.insert(0, statement)
            missing |= _used(parsed) - _binds(parsed)
    if not needed:
        return text
    lines = text.split("\n")
    at = 0
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            break
        at = node.end_lineno or at
    return "\n".join([*lines[:at], *needed, *lines[at:]])


def _used(body: list[ast.stmt]) -> set[str]:
    return {n.id for node in body for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _binds(body: list[ast.stmt]) -> set[str]:
    """Names that are bound anywhere in it, whatever the scope."""
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
