"""Made-up literals, for arguments and results that were not computed."""

import random
import string
from collections.abc import Callable

WORDS = [
    "hello",
    "world",
    "foo",
    "bar",
    "baz",
    "spam",
    "eggs",
    "apple",
    "pear",
    "banana",
    "red",
    "green",
    "blue",
    "alpha",
    "beta",
    "gamma",
    "one",
    "two",
    "three",
    "Monday",
    "cat",
    "dog",
    "mouse",
    "John",
    "Doe",
    "Ada",
    "user",
    "admin",
    "test",
    "example",
    "data",
    "file",
    "path",
    "name",
    "value",
    "key",
    "item",
    "left",
    "right",
    "up",
    "down",
    "north",
    "south",
    "Lorem",
    "ipsum",
]
_ERRORS = {
    "ValueError": (
        "invalid value",
        "empty input",
        "not a number",
        "math domain error",
        "too many values to unpack (expected 2)",
    ),
    "TypeError": (
        "unsupported operand type(s)",
        "'NoneType' object is not iterable",
        "'int' object is not subscriptable",
    ),
    "IndexError": ("list index out of range", "string index out of range", "pop from empty list"),
    "KeyError": ("'name'", "0", "'a'"),
    "ZeroDivisionError": ("division by zero", "integer division or modulo by zero"),
    "AttributeError": ("'NoneType' object has no attribute 'group'", "'int' object has no attribute 'lower'"),
    "StopIteration": ("",),
    "RuntimeError": ("generator raised StopIteration", "deque mutated during iteration"),
    "OverflowError": ("math range error",),
    "RecursionError": ("maximum recursion depth exceeded",),
    "UnboundLocalError": ("cannot access local variable 'result' where it is not associated with a value",),
}


def error(rng: random.Random) -> tuple[str, str]:
    """An exception's type and message."""
    name = rng.choices(list(_ERRORS), [6, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1])[0]
    return name, rng.choice(_ERRORS[name])


def _integer(rng: random.Random) -> int:
    return rng.choice(
        (rng.randrange(10), rng.randrange(10), rng.randrange(100), rng.randrange(-20, 20), rng.randrange(10000))
    )


def _text(rng: random.Random) -> str:
    style = rng.randrange(9)
    words = rng.choices(WORDS, k=rng.choice((1, 2, 2, 3)))
    if style <= 2:
        return " ".join(words)
    if style == 3:
        return rng.choice("-_,./: ").join(words)
    if style == 4:
        return "".join(rng.choices(string.ascii_letters, k=rng.randrange(0, 9)))
    if style == 5:
        return "".join(rng.choices(string.ascii_letters + string.digits + " .-_:/,!?'%$#", k=rng.randrange(1, 14)))
    if style == 6:
        return "".join(word.capitalize() for word in words)
    if style == 7:
        return rng.choice(
            (
                "1h30m",
                "2024-01-31",
                "10%",
                "a.b.c",
                "3.14",
                "-5",
                "1,234",
                "it's",
                "  padded ",
                "A\nB",
                "x=1;y=2",
                "é",
                "",
            )
        )
    return "".join(rng.choices("abcABC", k=rng.randrange(1, 7)))


def value(rng: random.Random, depth: int = 0) -> object:
    """A random plain value: numbers, text, None, booleans, and nested lists, tuples, dicts and sets."""
    kind = rng.random()
    if depth >= 2:
        kind *= 0.72
    if kind < 0.34:
        return _integer(rng)
    if kind < 0.56:
        return _text(rng)
    if kind < 0.63:
        return rng.choice((round(rng.uniform(-10, 100), rng.randrange(1, 4)), rng.randrange(20) / 2, rng.random()))
    if kind < 0.68:
        return rng.random() < 0.5
    if kind < 0.72:
        return None
    size = rng.choice((0, 1, 2, 2, 3, 3, 4, 5))
    if kind < 0.9:
        maker: Callable[[], object] = rng.choice(
            (lambda: _integer(rng), lambda: _integer(rng), lambda: _text(rng), lambda: value(rng, depth + 1))
        )
        items = [maker() for _ in range(size)]
        return items if kind < 0.84 else tuple(items)
    if kind < 0.97:
        keys: Callable[[], object] = rng.choice((lambda: _text(rng), lambda: _integer(rng)))
        return {keys(): value(rng, depth + 1) for _ in range(min(size, 3))}
    return {_integer(rng) for _ in range(size)} or {1}


def near(rng: random.Random, of: object) -> object:
    """A value that a bug might give instead of `of`; never equal to it."""
    for _ in range(4):
        new = _near(rng, of)
        if new != of or type(new) is not type(of):
            return new
    return None if of is not None else 0


def _near(rng: random.Random, of: object) -> object:
    if isinstance(of, bool):
        return not of
    if isinstance(of, int):
        return rng.choice((of + 1, of - 1, -of, of * 2, of + 2, of // 2, 0, float(of), of + rng.randrange(-9, 10)))
    if isinstance(of, float):
        return rng.choice((of + 1, -of, of * 2, round(of), of / 2, 0.0, round(of + rng.random(), 2)))
    if isinstance(of, str) and of:
        at = rng.randrange(len(of))
        return rng.choice(
            (
                of[1:],
                of[:-1],
                of.upper(),
                of.lower(),
                of.title(),
                of[:at] + of[at + 1 :],
                of + of[-1],
                of[::-1],
                " " + of,
            )
        )
    if isinstance(of, list | tuple) and of:
        at = rng.randrange(len(of))
        changed = [*of[:at], near(rng, of[at]), *of[at + 1 :]]
        new = rng.choice(
            (
                list(of[1:]),
                list(of[:-1]),
                list(of[::-1]),
                changed,
                changed,
                [*of, of[-1]],
                list(of[:at]) + list(of[at + 1 :]),
            )
        )
        return new if isinstance(of, list) else tuple(new)
    if isinstance(of, dict) and of:
        key = rng.choice(list(of))
        return {k: v for k, v in of.items() if k != key} if rng.random() < 0.4 else {**of, key: near(rng, of[key])}
    return value(rng)


def written(rng: random.Random, of: object) -> str:
    """The literal's source: its `repr`, sometimes with the other quotes."""
    text = repr(of) if not (isinstance(of, set) and not of) else "set()"
    return (
        text.replace("'", '"') if rng.random() < 0.35 and '"' not in text and "\\" not in text and "'" in text else text
    )
