"""Issues in many wordings, about a call with its actual and its expected result."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a call: a literal, or an exception (`error` is its type, `text` its message)."""

    text: str
    error: str = ""

    @property
    def words(self) -> str:
        """In the middle of a sentence."""
        return f"{self.error}: {self.text}" if self.error and self.text else self.error or self.text


@dataclasses.dataclass(frozen=True)
class Example:
    """One call with its actual and its expected result. `setup`: lines that must run before it."""

    call: str
    actual: Outcome
    expected: Outcome
    setup: tuple[str, ...] = ()


def _wordings() -> dict[str, tuple[str, ...]]:
    """The sections of `wordings.txt`."""
    parts = Path(__file__).with_name("wordings.txt").read_text(encoding="utf-8").split("\n\n[")[1:]
    named = (part.strip("\n").split("\n") for part in parts)
    return {head.rstrip("]"): tuple("" if line == "(nothing)" else line for line in lines) for head, *lines in named}


WORDINGS = _wordings()
VAGUE = {
    "[]": "an empty list",
    "None": "nothing",
    "''": "an empty string",
    "{}": "an empty dict",
    "()": "an empty tuple",
    "0": "zero",
}


def session(example: Example) -> list[str]:
    """Setup and call as in an interactive Python session, one statement each."""
    return [">>> " + statement.replace("\n", "\n... ") for statement in (*example.setup, example.call)]


def _session(example: Example) -> str:
    """The call and its result as in an interactive Python session."""
    lines = session(example)
    if example.actual.error:
        lines += ["Traceback (most recent call last):", "  ...", example.actual.words]
    elif example.actual.text != "None":
        lines.append(example.actual.text)
    return "\n".join(lines)


def _fenced(text: str, rng: random.Random) -> str:
    style = rng.randrange(5)
    if style == 0:
        return "\n".join("    " + line for line in text.split("\n"))
    return text if style == 1 else f"```{rng.choice(('python', 'python', 'py', '', 'pycon'))}\n{text}\n```"


def _should(example: Example, rng: random.Random) -> str:
    if example.expected.error:
        return rng.choice(("It should raise {e}.", "Expected: {e}", "I expected `{e}` to be raised.")).format(
            e=example.expected.error
        )
    styles = (
        "I expected `{e}`.",
        "Expected: `{e}`",
        "Expected:\n\n```\n{e}\n```",
        "It should be {e}.",
        "expected {e}",
        "The expected result is `{e}`.",
        "It should return `{e}` here.",
        "should give {e}",
        "The correct answer is {e}.",
        "Expected output:\n\n    {e}",
        "but `{e}` is expected.",
    )
    return rng.choice(styles).format(e=example.expected.text)


def _comment(example: Example, rng: random.Random) -> str:
    actual, expected = example.actual.words, example.expected.words
    styles = (
        "{c}  # {a}, expected {e}",
        "{c}  # returns {a}, should be {e}",
        "{c}  # -> {a}  (expected {e})",
        "# expected {e}, got {a}\n{c}",
        "print({c})  # {a}, should be {e}",
        "assert {c} == {e}  # fails: {a}",
        "{c}\n# got:      {a}\n# expected: {e}",
        "{c} == {e}  # False, it is {a}",
    )
    style = rng.choice(styles[:5] if example.expected.error else styles)
    return "\n".join([*example.setup, style.format(c=example.call, a=actual, e=expected)])


def _sections(example: Example, rng: random.Random) -> str:
    """Sections with headings, as issue forms make them."""
    call = "\n".join([*example.setup, example.call])
    actual, expected = example.actual.words, example.expected.words
    code = rng.choice(("`{}`", "```python\n{}\n```", "```\n{}\n```", "{}", "    {}"))
    code = "```python\n{}\n```" if "\n" in call else code
    tick = rng.choice(("`{}`", "{}", "`{}`", "```\n{}\n```"))
    head = rng.choice(("### {}\n", "## {}\n", "**{}**\n", "**{}:** ", "{}: ", "{}:\n", "#### {}\n\n"))
    step = rng.choice(
        (
            "Steps to reproduce",
            "To reproduce",
            "Reproduce",
            "Code",
            "How to reproduce",
            "Example",
            "Call",
            "Input",
            "Reproduction",
        )
    )
    one = rng.choice(
        (
            ("Expected behaviour", "Actual behaviour"),
            ("Expected", "Actual"),
            ("Expected result", "Actual result"),
            ("expected", "got"),
            ("Should be", "Is"),
            ("What I expected", "What happened"),
            ("Expected behavior", "Current behavior"),
        )
    )
    parts = [
        head.format(one[0])
        + tick.format(f"raises {expected}" if example.expected.error and rng.random() < 0.5 else expected),
        head.format(one[1])
        + tick.format(f"raises {actual}" if example.actual.error and rng.random() < 0.5 else actual),
    ]
    if rng.random() < 0.5:
        parts.reverse()
    return rng.choice(("\n\n", "\n")).join([head.format(step) + code.format(call), *parts])


def _table(examples: tuple[Example, ...]) -> str:
    rows = [f"| `{x.call}` | `{x.actual.words}` | `{x.expected.words}` |" for x in examples]
    return "\n".join(["| call | actual | expected |", "|---|---|---|", *rows])


def _line(example: Example, rng: random.Random) -> str:
    call, actual, expected = example.call, example.actual, example.expected
    if expected.error:
        line = rng.choice(WORDINGS["expected error"])
    elif actual.error:
        line = rng.choice(WORDINGS["actual error"])
    else:
        line = rng.choice(WORDINGS["values"] if rng.random() < 0.93 else WORDINGS["expected only"])
    told, wanted = actual.words, expected.error or expected.text
    if actual.error and rng.random() < 0.5:
        told = actual.error
    if told in VAGUE and rng.random() < 0.2:
        line, told = line.replace("`{a}`", "{a}"), VAGUE[told]
    text = line.format(c=call, a=told, e=wanted)
    if (
        rng.random() < 0.05
        and call.count("(") == 1
        and call.endswith(")")
        and not call.endswith("()")
        and not expected.error
    ):
        function, _, inside = call[:-1].partition("(")
        spoken = (
            "Calling `{f}` with `{i}` gives `{a}`, expected `{e}`.",
            "`{f}` with arguments {i} returns {a} instead of {e}.",
        )
        text = rng.choice(spoken).format(f=function, i=inside, a=told, e=wanted)
    if example.setup:
        lead = rng.choice(("", "", "", "Setup:\n\n", "First,\n\n", "Prepare this:\n\n", "After\n\n"))
        return lead + _fenced("\n".join(example.setup), rng) + rng.choice(("\n", "\n\n")) + text
    return text


def _examples(examples: tuple[Example, ...], rng: random.Random) -> str:
    style = rng.random()
    if any(example.setup for example in examples) or style >= 0.5:
        if style < 0.68:
            return "\n\n".join(
                _fenced(_session(x), rng) + rng.choice(("\n", "\n\n")) + _should(x, rng) for x in examples
            )
        if style < 0.82:
            return _fenced("\n".join(_comment(x, rng) for x in examples), rng)
        if style < 0.97 or any(example.setup for example in examples):
            return "\n\n".join(_sections(x, rng) for x in examples)
        return _table(examples)
    return rng.choice(("\n", "\n\n", " ", "\n")).join(_line(x, rng) for x in examples)


def write(
    examples: tuple[Example, ...],
    function: str,
    path: str,
    module: str,
    other: str,
    rng: random.Random,
    word: Callable[[], str],
) -> tuple[str, str]:
    """Title and body of an issue about `function`. `other`: another function there; `word` makes filler words."""

    def filled(template: str) -> str:
        first = examples[0]
        args = first.call[first.call.find("(") + 1 : -1]
        while "{w}" in template:
            template = template.replace("{w}", word(), 1)
        while "{d}" in template:
            template = template.replace("{d}", str(rng.randrange(10)), 1)
        values = {"f": function, "M": module.split(".")[-1], "m": module, "path": path, "g": other, "args": args}
        values |= {"call": first.call, "actual": first.actual.words, "expected": first.expected.words}
        for key, value in values.items():
            template = template.replace("{" + key + "}", value)
        return template

    parts = [filled(rng.choice(WORDINGS["intros"])), _examples(examples, rng), filled(rng.choice(WORDINGS["closers"]))]
    if rng.random() < 0.15:
        parts[1] = _fenced(f"from {module} import {function}", rng) + "\n\n" + parts[1]
    if rng.random() < 0.1:
        parts[0] = " ".join(filled(rng.choice(WORDINGS["intros"])) for _ in range(3)).strip()
    body = rng.choice(("\n\n", "\n\n", "\n", " ")).join(part for part in parts if part)
    if "\n" in parts[1] or rng.random() < 0.5:
        body = "\n\n".join(part for part in parts if part)
    title = filled(rng.choice(WORDINGS["titles"]))
    return (title if len(title) < 120 else f"{function} is wrong"), body
