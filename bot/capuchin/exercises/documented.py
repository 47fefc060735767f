"""Docstrings with examples, as in libraries: read from a function, or added to one."""

import ast
import doctest
import random

from bot.capuchin.exercises import values
from bot.capuchin.exercises.issues import Example, Outcome, session
from bot.llm.test_script import needed_by

_LONGEST = 100  # characters of a call or a result that an issue quotes
_SETUP_LINES = 10  # lines before the call


def quoted(source: str, name: str, rng: random.Random) -> Example | None:
    """An example of the docstring that calls the function, with a made-up wrong result; None if it has none.

    At most three statements before it that define names it uses become its setup.
    """
    try:
        tree = ast.parse(source)
        rows = doctest.DocTestParser().get_examples(ast.get_docstring(tree.body[0]) or "")  # type: ignore[arg-type]
    except (SyntaxError, ValueError, TypeError):
        return None
    fit = []
    for place, row in enumerate(rows):
        call, want = row.source.strip(), row.want.strip()
        if f"{name}(" not in call or not want or row.exc_msg or "\n" in call + want or "#" in call or "..." in want:
            continue
        try:
            ast.parse(call, mode="eval")
        except SyntaxError:
            continue
        setup = tuple(needed_by(call, [r.source.strip() for r in rows[:place]], name))
        lines = sum(source.count("\n") + 1 for source in setup)
        if max(len(call), len(want)) <= _LONGEST and len(setup) <= 3 and lines <= _SETUP_LINES:
            fit.append(Example(call, _slip(want, rng), Outcome(want), setup))
    return rng.choice(fit) if fit else None


def _slip(want: str, rng: random.Random) -> Outcome:
    if rng.random() < 0.15:
        kind, message = values.error(rng)
        return Outcome(message, kind)
    try:
        return Outcome(repr(values.near(rng, ast.literal_eval(want))))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return Outcome(rng.choice((want[:-1], want[1:], "None", "[]", f"[{want}]", "0", "False")) or "None")


def with_example(source: str, example: Example) -> str:
    """The function with the example at the end of its docstring; unchanged if that is not possible."""
    lines = source.split("\n")
    try:
        first = ast.parse(source).body[0].body[0]  # type: ignore[attr-defined]
    except (SyntaxError, AttributeError, IndexError):
        return source
    last = (first.end_lineno or first.lineno) - 1
    closing = lines[last]
    quotes = closing[-3:]
    if quotes not in ('"""', "'''") or example.expected.error or not isinstance(first, ast.Expr):
        return source
    pad = " " * first.col_offset
    asked = "\n".join(session(example)).split("\n")
    shown = [pad + line for line in [*asked, example.expected.text]]
    body = closing[:-3].rstrip()
    changed = "\n".join([*lines[:last], *([body] if body else []), "", *shown, pad + quotes, *lines[last + 1 :]])
    try:
        ast.parse(changed)
    except SyntaxError:
        return source
    return changed
