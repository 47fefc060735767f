"""A cheap check that a file still parses, for the formats that the standard library reads. Pure."""

import ast
import json
import threading
import warnings

from bot.patch.formats import of_toml

_LOCK = threading.Lock()  # CPython 3.11 counts the depth of all threads' trees in one place (gh-106905)


def parsed(text: str) -> ast.Module:
    """Python's own tree of the text, also from several threads at once. Raises as `ast.parse` does."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file's own invalid escapes are not ours to report
        return ast.parse(text)


def tree_of(text: str) -> ast.Module | None:
    """The same; None where the text can't be parsed: it is no Python, or nested too deeply."""
    try:
        return parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def syntax_error(path: str, text: str) -> str:
    """The syntax error, with its line, or "" where none is found.

    It is the running interpreter's grammar: compare with the file as it was before blaming an edit.
    """
    text = text.removeprefix("\ufeff")
    try:
        if path.endswith((".py", ".pyi")):
            parsed(text)
        elif path.endswith(".json"):
            json.loads(text)
        elif path.endswith(".toml"):
            of_toml(text)
    except SyntaxError as error:
        return f"{type(error).__name__}: {error.msg}\n{_around(text, error.lineno or 0)}".rstrip()
    except json.JSONDecodeError as error:
        return f"{error.msg}\n{_around(text, error.lineno)}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _around(text: str, line: int) -> str:
    """The line and two on either side, with their numbers."""
    lines = text.split("\n")
    shown = range(max(1, line - 2), min(len(lines), line + 2) + 1) if line else ()
    return "\n".join(f"{'>' if n == line else ' '}{n:5} | {lines[n - 1]}" for n in shown)
