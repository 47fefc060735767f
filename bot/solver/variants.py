"""Calls like those that tests make, with other arguments: inputs that no test tries. Pure.

Arguments are changed by their type, a step or two at a time, as EvalPlus does it (arXiv 2305.01210). What is right for
such an input nobody says; but candidates that agree on every test may answer it differently.
"""

import ast
import itertools
import random
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

# What shows answers in a program that makes such calls: `_plain(value)`, equal texts for equal values in any process.
PLAIN = files("bot.solver").joinpath("plain.txt").read_text(encoding="utf-8")

LONGEST = 160  # characters of a call
_TRIES = 10  # for each variant that is wanted
_DEEP = 0.3  # how often one more step is made
_BORROWED = 0.1  # how often a value comes from another call in the place of one that is changed

_Arguments = dict[int | str, Any]  # by place or by name


def variants(calls: Iterable[str], number: int, seed: int = 0) -> tuple[str, ...]:
    """Up to `number` calls, none of which is among `calls`; the same for the same calls.

    Args:
        calls: Python expressions. Those that are no calls, or have arguments that are no literals, have no variants.
        number: of the variants.
        seed: other variants for another one.
    """
    known = set(calls)
    of: dict[str, list[_Arguments]] = {}  # by what is called, so that each has as many variants
    for text in sorted(known):
        if (call := _parsed(text)) is not None:
            of.setdefault(call[0], []).append(call[1])
    rng = random.Random(seed)
    pool = [value for each in of.values() for arguments in each for value in _parts(list(arguments.values()))]
    found: dict[str, None] = {}
    for head in itertools.islice(itertools.cycle(of), _TRIES * number):
        if len(found) == number:
            break
        arguments = dict(rng.choice(of[head]))
        while True:
            name = rng.choice(list(arguments))
            arguments[name] = _changed(arguments[name], rng, pool)
            if rng.random() >= _DEEP:
                break
        text = _text(head, arguments)
        if len(text) <= LONGEST and text not in known and text not in found:
            found[text] = None
            of[head].append(arguments)
    return tuple(found)


def _parsed(text: str) -> tuple[str, _Arguments] | None:
    """What is called, and with which arguments; None where there is nothing to change."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not (call.args or call.keywords):
            return None
        arguments: _Arguments = {place: ast.literal_eval(arg) for place, arg in enumerate(call.args)}
        arguments |= {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return None if "" in arguments else (ast.unparse(call.func), arguments)


def _text(head: str, arguments: _Arguments) -> str:
    """The call as an expression."""
    shown = [repr(value) if isinstance(name, int) else f"{name}={value!r}" for name, value in arguments.items()]
    return f"{head}({', '.join(shown)})"


def _parts(values: Sequence[Any]) -> list[Any]:
    """The values, and what those of them that are containers hold."""
    found = []
    for value in values:
        found.append(value)
        if isinstance(value, dict):
            found += _parts([*value.keys(), *value.values()])
        elif isinstance(value, (list, tuple, set)):
            found += _parts(list(value))
    return found


def _changed(value: Any, rng: random.Random, pool: Sequence[Any]) -> Any:
    """A value of the same type near this one, or one of the same type out of `pool`."""
    alike = [other for other in pool if type(other) is type(value)]
    if alike and rng.random() < _BORROWED:
        return rng.choice(alike)
    match value:
        case bool():
            return not value
        case int() | float():
            return _number(value, rng)
        case str():
            return _sequence(value, rng, pool)
        case list() | tuple():
            return type(value)(_sequence(list(value), rng, pool))
        case set():
            return set(_sequence(sorted(value, key=repr), rng, pool))
        case dict() if value:
            key = rng.choice(list(value))
            rest = {k: v for k, v in value.items() if k != key}
            return rest if rng.random() < _DEEP else rest | {key: _changed(value[key], rng, pool)}
    return value


def _number(value: float, rng: random.Random) -> float:
    size = int(min(max(3, abs(value)), 1e6))
    step = rng.choice([1, -1, 10, -10]) if isinstance(value, int) else rng.choice([1.0, -1.0, 0.5, 0.25])
    return rng.choice([value + step, value * 2, -value, type(value)(0), type(value)(rng.randint(0, 2 * size))])


def _sequence(value: Any, rng: random.Random, pool: Sequence[Any]) -> Any:
    """A string or a list with an item less, twice, moved, changed or new; turned round, or cut off."""
    if not value:
        return _filled(value, rng, pool)
    at, other = rng.randrange(len(value)), rng.randrange(len(value))
    item = value[at : at + 1]
    if isinstance(value, list):
        item = [_changed(value[at], rng, pool)]
    rest = value[:at] + value[at + 1 :]
    return rng.choice(
        [
            rest,
            value[:at] + value[at : at + 1] + value[at:],
            rest[:other] + value[at : at + 1] + rest[other:],
            value[:at] + (item if isinstance(value, list) else value[other]) + value[at + 1 :],
            value + value[: at + 1],
            value[::-1],
            value[at:],
            value[:0],
        ]
    )


def _filled(empty: Any, rng: random.Random, pool: Sequence[Any]) -> Any:
    """With one thing in it, which any container can hold."""
    if isinstance(empty, str):
        return rng.choice(["a", " ", "0", *(one for one in pool if isinstance(one, str) and one)])
    return [rng.choice([0, *(one for one in pool if isinstance(one, str | int | float))])]
