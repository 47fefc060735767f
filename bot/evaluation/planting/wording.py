"""The issue of a planted bug, in words that people use: made of one example, with what it gives and should give."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A call of the function. `setup` holds the lines that must run before it."""

    call: str
    actual: str
    expected: str
    setup: tuple[str, ...] = ()
    raises: bool = False  # `actual` is an exception


_TITLES = (
    "{f} returns a wrong result",
    "Wrong result from {f}",
    "{f}() is broken",
    "Bug in {f}",
    "{f} does not do what its documentation says",
    "Unexpected output of {f}",
)
_TITLES_RAISE = ("{f} raises an exception", "{f}() fails with {kind}", "{kind} from {f}")
_INTRO = (
    "I use `{f}` from `{path}` and it misbehaves since the last release.",
    "`{f}` in `{path}` gives me a wrong answer.",
    "Found while upgrading: `{f}` (`{path}`).",
    "The function `{f}` in `{path}` seems to be off.",
)
_SETUP = ("Given:", "With this:", "To reproduce, first:")
_FACTS = (
    "`{call}` returns `{actual}`, expected `{expected}`.",
    "I call `{call}` and get `{actual}`. It should be `{expected}`.",
    "`{call}`\n\nActual: `{actual}`\nExpected: `{expected}`",
    "Expected `{expected}` from `{call}`, but got `{actual}`.",
)
_FACTS_RAISE = (
    "`{call}` raises `{actual}`, expected `{expected}`.",
    "I call `{call}` and it fails with `{actual}`. It should return `{expected}`.",
    "Expected `{expected}` from `{call}`, but it raises `{actual}`.",
)
_OUTRO = ("", "", "", "Other inputs look fine.", "This worked before.", "Thanks for looking into it!")


def issue_text(function: str, path: str, example: Example, rng: random.Random) -> tuple[str, str]:
    """Title and body."""
    kind = example.actual.partition(":")[0]
    titles = _TITLES_RAISE if example.raises and rng.random() < 0.5 else _TITLES
    title = rng.choice(titles).format(f=function, kind=kind)
    parts = [rng.choice(_INTRO).format(f=function, path=path)]
    if example.setup:
        code = "\n".join(example.setup)
        parts.append(f"{rng.choice(_SETUP)}\n\n```python\n{code}\n```")
    facts = rng.choice(_FACTS_RAISE if example.raises else _FACTS)
    parts.append(facts.format(call=example.call, actual=example.actual, expected=example.expected))
    parts.append(rng.choice(_OUTRO))
    return title, "\n\n".join(part for part in parts if part) + "\n"
