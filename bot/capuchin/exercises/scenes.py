"""A scene: a small made-up repository with one planted bug and its issue. Every exercise is made from one."""

import ast
import dataclasses
import random
import re
import textwrap

from bot.capuchin.exercises import issues, values
from bot.capuchin.exercises.corpus import Function
from bot.capuchin.exercises.documented import quoted, with_example
from bot.capuchin.exercises.executed import Executed
from bot.capuchin.exercises.issues import Example, Outcome
from bot.capuchin.exercises.mutate import WEIGHTS, Mutation, mutate
from bot.capuchin.exercises.names import Names, module, renamed, renaming
from bot.records import Issue, SourceFile

_CALLABLES = (
    "lambda x: x % 2 == 0",
    "lambda x: x + 1",
    "lambda n: n > 3",
    "len",
    "str.upper",
    "str",
    "int",
    "sum",
    "lambda x, y: x + y",
    "bool",
    "lambda s: s[0]",
    "max",
    "range(5)",
    "range(1, 10, 2)",
    "iter([1, 2, 3])",
    "[len, str]",
    "abs",
    "lambda k: -k",
    "str.isdigit",
)
_BODIES = ("{} % 2 == 0", "{} + 1", "{} > 3", "{} * 2", "str({})", "{}[0]", "len({}) > 1", "{}.upper()", "not {}")
_AROUND = (
    "list({})",
    "list({})",
    "list({})",
    "sorted({})",
    "dict({})",
    "len({})",
    "{}[0]",
    "tuple({})",
    "next({})",
    "''.join({})",
    "' '.join({})",
)
_IMPORTED = (  # an import before the call, and an argument that needs it
    ("from operator import add", "add"),
    ("from operator import add, mul", "mul"),
    ("import operator", "operator.sub"),
    ("import math", "math.sqrt"),
    ("from math import pi", "pi"),
    ("from collections import Counter", "Counter('aab')"),
    ("from collections import OrderedDict", "OrderedDict(a=1)"),
    ("from itertools import count", "count(3)"),
    ("from itertools import chain, repeat", "repeat(2, 3)"),
    ("from datetime import date", "date(2021, 3, 4)"),
    ("from decimal import Decimal", "Decimal('1.5')"),
    ("from fractions import Fraction", "Fraction(1, 3)"),
    ("import re", "re.compile('a+')"),
    ("from functools import partial", "partial(pow, 2)"),
)
_IMPORTS = (
    "import re",
    "import math",
    "import itertools",
    "from collections import OrderedDict, defaultdict",
    "from functools import wraps",
    "import os",
    "from itertools import chain, islice",
    "import sys",
    "from typing import Any",
    "import string",
    "from __future__ import annotations",
    "import operator",
    "from collections.abc import Iterable, Mapping",
    "from datetime import datetime, timedelta",
    "import json",
    "import random",
)


# Characters of a file, by size, and of its function.
BUDGETS = ((200, 300, 450), (200, 300, 600, 800), (300, 500, 800, 800, 1300, 1300, 2000, 3000, 4000), (600, 900, 1500))
LONGEST = (350, 500, 2000, 2400)
COUNTS = ((1,), (1, 1, 1, 1, 1, 2), (1, 1, 1, 1, 2, 3), (1,))  # of examples in an issue, by size
EXCERPT = 3  # the size that the solver shows of a library: an excerpt, mostly of one documented function
_WORD = re.compile(r"(?<![\w.])(?:" + "|".join(values.WORDS) + r")(?![\w(])", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the model is shown, and the right answer."""

    issue: Issue
    files: tuple[SourceFile, ...]  # in the order shown; one of them is `path`
    path: str
    root: str  # the name that the test imports: the function or its class
    function: str
    bug: str  # the wrong line, as in the file
    fix: str
    original: str  # the right function, indented as in the file
    planted: str  # ... and the buggy one
    examples: tuple[Example, ...]  # calls as the test writes them

    @property
    def text(self) -> str:
        """The faulty file's text."""
        return next(file.text for file in self.files if file.path == self.path)


class Scenes:
    """Draws scenes from functions; `names` invents identifiers."""

    def __init__(self, functions: list[Function], executed: list[Executed], held_out: bool) -> None:
        self.size = 2  # of files: 0 tiny, 1 small, 2 real sizes, 3 excerpts. Short files teach copying
        self.functions = functions
        self.names = Names(functions)
        mine = [index for index, function in enumerate(functions) if function.held_out == held_out]
        self.plain = [index for index in mine if not functions[index].method]
        self.methods = [index for index in mine if functions[index].method]
        self.documented = [index for index in self.plain if functions[index].doc[1]]
        self.told = [index for index in self.documented if f">>> {functions[index].name}(" in functions[index].source]
        by_function: dict[int, list[Executed]] = {}
        for record in executed:
            if functions[record.index].held_out == held_out and WEIGHTS.get(record.mutation.kind, 1.0) > 0.5:
                by_function.setdefault(record.index, []).append(record)
        self.executed = list(by_function.values())

    def draw(self, rng: random.Random) -> Scene:
        """A random scene. Executed outcomes are limited, or the model would memorise the few pure functions."""
        executed = 0.3 if self.size == 2 else 0.45
        while True:
            scene = self._draw(rng, rng.random() < executed and bool(self.executed))
            if scene is not None:
                return scene

    def _index(self, rng: random.Random) -> int:
        if self.size == EXCERPT and self.documented:
            return rng.choice(self.told if self.told and rng.random() < 0.4 else self.documented)
        return rng.choice(self.plain if rng.random() < 0.6 or not self.methods else self.methods)

    def _bug(self, rng: random.Random, run: bool) -> tuple[int, Mutation, Executed | None] | None:
        """A function's index and its bug, with the results of both versions if they were `run`."""
        if run:
            record = rng.choice(rng.choice(self.executed))
            return record.index, record.mutation, record
        index = self._index(rng)
        mutation = mutate(self.functions[index].source, rng, self.functions[index].doc)
        return None if mutation is None else (index, mutation, None)

    def _draw(self, rng: random.Random, run: bool) -> Scene | None:
        drawn = self._bug(rng, run)
        if drawn is None:
            return None
        index, mutation, record = drawn
        function = self.functions[index]
        if len(function.source if self.size == EXCERPT else function.bare) > LONGEST[self.size]:
            return None
        dressed = self._dress(function, mutation, rng)
        if dressed is None:
            return None
        name, original, planted, parameters = dressed
        owner = self.names.type(rng) if function.method and rng.random() < 0.35 else ""
        path = self.names.path(rng)
        told = quoted(original, name, rng) if self.size == EXCERPT and record is None and not owner else None
        examples = (told,) if told else self._examples(rng, record, name, owner, parameters)
        if not examples:
            return None
        bare = '"""' not in original and "'''" not in original
        if bare and rng.random() < (0.9 if self.size == EXCERPT else 0.2):
            original, planted = (_documented(text, name, examples[0], rng) for text in (original, planted))
        elif self.size == EXCERPT and not told and not bare and not owner and rng.random() < 0.7:
            original, planted = (with_example(text, examples[0]) for text in (original, planted))
        if owner:
            original, planted = (textwrap.indent(text, "    ") for text in (original, planted))
        changed = [(a, b) for a, b in zip(original.split("\n"), planted.split("\n"), strict=False) if a != b]
        if len(changed) != 1 or original.count("\n") != planted.count("\n"):
            return None
        text, other = self._file(rng, index, f"class {owner}:\n{planted}" if owner else planted)
        files = [SourceFile(path=path, text=text)]
        for share in (0.25, 0.2):
            if self.size == 2 and rng.random() < share and sum(len(file.text) for file in files) < 2500:
                side = self.names.path(rng)
                if side not in {file.path for file in files}:
                    files.append(SourceFile(path=side, text=self._file(rng, None, "")[0]))
        rng.shuffle(files)
        dotted = module(path)
        shown = examples
        if rng.random() < 0.08 and not owner:
            prefix = rng.choice((dotted, dotted.split(".")[-1]))
            shown = tuple(
                dataclasses.replace(x, call=x.call.replace(f"{name}(", f"{prefix}.{name}(", 1)) for x in examples
            )
        title, body = issues.write(shown, name, path, dotted, other, rng, lambda: self.names.word(rng))
        return Scene(
            Issue(title=title, body=body),
            tuple(files),
            path,
            owner or name,
            name,
            changed[0][1],
            changed[0][0],
            original,
            planted,
            examples,
        )

    def _dress(
        self, function: Function, mutation: Mutation, rng: random.Random
    ) -> tuple[str, str, str, list[str]] | None:
        """New name, right and buggy source, both renamed and maybe without docstring, and the parameters' names."""
        pair = [function.source, mutation.apply(function.source)]
        if function.doc[1] and self.size != EXCERPT and (self.size < 2 or rng.random() < 0.55):
            pair = ["\n".join(s.split("\n")[: function.doc[0]] + s.split("\n")[function.doc[1] :]) for s in pair]
        mapping: dict[str, str] = {}
        try:
            if rng.random() < 0.55:
                mapping = renaming(function.source, self.names, rng, rng.choice((0.3, 0.8, 0.8)))
            if function.method and "self" not in mapping and rng.random() < 0.3:
                mapping["self"] = self.names.variable(rng)
            original, planted = (renamed(source, mapping) for source in pair)
            ast.parse(original), ast.parse(planted)
            tree = ast.parse(original).body[0]
        except (SyntaxError, ValueError):
            return None
        assert isinstance(tree, ast.FunctionDef)
        parameters = [a.arg for a in tree.args.args][1 if function.method else 0 :]
        return tree.name, original, planted, parameters

    def _file(self, rng: random.Random, index: int | None, target: str) -> tuple[str, str]:
        """A file's text around the target function, and the name of another function in it."""
        budget = rng.choice(BUDGETS[self.size])
        parts, other = ([target] if target else []), "main"
        near = rng.random() < 0.5
        others = (0, 0, 0, 0, 0, 1, 2) if self.size == EXCERPT else (0, 1, 1, 2, 2, 3, 4)
        for step in range(rng.choice(others) + (not target)):
            at = index + step + 1 if near and index is not None else self._index(rng)
            function = self.functions[at % len(self.functions)]
            if function.method and rng.random() < 0.6:
                continue
            text = function.source if rng.random() < 0.4 else function.bare
            if parts and sum(map(len, parts)) + len(text) > budget:
                continue
            name = function.name
            if rng.random() < 0.5:
                try:
                    mapping = renaming(text, self.names, rng, 0.5)
                    text, name = renamed(text, mapping), mapping[name]
                except SyntaxError:
                    continue
            if function.method and rng.random() < 0.5:
                text = f"class {self.names.type(rng)}:\n{textwrap.indent(text, '    ')}"
            parts.append(text)
            other = name
        rng.shuffle(parts)
        header = []
        if self.size == EXCERPT and rng.random() < 0.85:
            return "...\n" * (rng.random() < 0.9) + "\n...\n".join(parts) + "\n..." * (rng.random() < 0.9), other
        if rng.random() < 0.3:
            header.append(f'"""{_sentence(self.names, rng)}"""')
        if rng.random() < 0.4:
            header.append("\n".join(rng.sample(_IMPORTS, rng.choice((1, 1, 2, 3)))))
        if rng.random() < 0.2:
            header.append(f"{self.names.variable(rng).upper()} = {values.value(rng)!r}")
        if header:
            parts.insert(0, "\n\n".join(header))
        excerpt = rng.random() < 0.35
        text = (rng.choice(("\n...\n", "\n...\n\n", "\n\n...\n\n")) if excerpt else "\n\n\n").join(parts)
        if excerpt and rng.random() < 0.6:
            text = "...\n" + text
        if excerpt and rng.random() < 0.6:
            text += "\n..."
        return text, other

    def _examples(
        self, rng: random.Random, record: Executed | None, name: str, owner: str, parameters: list[str]
    ) -> tuple[Example, ...]:
        callee = name
        if owner:
            callee = f"{owner}({rng.choice(('', '', values.written(rng, values.value(rng, 1))))}).{name}"
        if record is not None:
            clear = [row for row in record.examples if row[1][0] == "value" or row[2][0] == "value"]
            rows = rng.sample(clear, min(len(clear), rng.choice(COUNTS[self.size])))
            return tuple(
                Example(f"{callee}({args})", _outcome(actual), _outcome(expected)) for args, expected, actual in rows
            )
        found = []
        for _ in range(rng.choice(COUNTS[self.size])):
            count = len(parameters) if rng.random() < 0.85 else rng.randrange(4)
            arguments = [values.written(rng, values.value(rng)) for _ in range(min(count, 4))]
            if arguments and rng.random() < 0.1:
                arguments[rng.randrange(len(arguments))] = rng.choice(_CALLABLES)
            if len(arguments) == len(parameters) and arguments and rng.random() < 0.15:
                arguments[-1] = f"{parameters[-1]}={arguments[-1]}"
            setup: tuple[str, ...] = ()
            if arguments and "=" not in arguments[0] and rng.random() < 0.16:
                variable = self.names.variable(rng)
                setup, arguments[0] = (_binding(variable, arguments[0], rng),), variable
            elif arguments and rng.random() < 0.05:
                imported, arguments[0] = rng.choice(_IMPORTED)
                setup = (imported,)
            call = f"{callee}({', '.join(arguments)})"
            if rng.random() < 0.15:
                item = rng.choice("xnrts")
                comprehensions = (f"[{item} for {item} in {{}}]", f"[{item}.{self.names.word(rng)} for {item} in {{}}]")
                call = rng.choice((*_AROUND, *comprehensions)).format(call)
            right = values.value(rng)
            if call.startswith(("list(", "sorted(")) and not isinstance(right, list):
                right = [right, values.near(rng, right)][: rng.randrange(3)]
            expected, actual = (
                Outcome(values.written(rng, right)),
                Outcome(values.written(rng, values.near(rng, right))),
            )
            if rng.random() < 0.12:
                kind, message = values.error(rng)
                actual = Outcome(message, kind)
            elif rng.random() < 0.06:
                expected = Outcome("", values.error(rng)[0])
            found.append(self._reworded(Example(call, actual, expected, setup), rng))
        return tuple(found)

    def _reworded(self, example: Example, rng: random.Random) -> Example:
        """The example with invented words in its strings, which can only be copied, not remembered."""
        if rng.random() < 0.4:
            return example
        mapping: dict[str, str] = {}

        def other(match: re.Match[str]) -> str:
            word = mapping.setdefault(match[0].lower(), self.names.word(rng))
            return word.capitalize() if match[0][0].isupper() else word

        def told(text: str) -> str:
            return _WORD.sub(other, text)

        return Example(
            told(example.call),
            dataclasses.replace(example.actual, text=told(example.actual.text)),
            dataclasses.replace(example.expected, text=told(example.expected.text)),
            tuple(told(line) for line in example.setup),
        )


def _binding(variable: str, value: str, rng: random.Random) -> str:
    """A statement that defines the variable: as the value, on one line or one line per item, or as a function."""
    drawn = rng.random()
    if drawn < 0.3:
        parameter = rng.choice("xnsvk")
        doc = rng.choice(('"""Helper."""\n    ', "", ""))
        return f"def {variable}({parameter}):\n    {doc}return {rng.choice(_BODIES).format(parameter)}"
    items = ast.parse(value, mode="eval").body
    if drawn < 0.55 and isinstance(items, ast.List | ast.Tuple | ast.Dict):
        opening, inside, closing = value[0], ast.unparse(items)[1:-1], value[-1]
        rows = ",\n    ".join(inside.split(", "))
        wrapped = f"{variable} = {opening}\n    {rows},\n{closing}"
        if inside and _same(wrapped, f"{variable} = {value}"):
            return wrapped
    return f"{variable} = {value}"


def _same(one: str, other: str) -> bool:
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except SyntaxError:
        return False


def _outcome(row: list[str]) -> Outcome:
    return Outcome(row[1]) if row[0] == "value" else Outcome(row[2], row[1])


def _sentence(names: Names, rng: random.Random) -> str:
    text = " ".join(names.word(rng) for _ in range(rng.randrange(2, 8))).capitalize()
    return text + rng.choice((".", ".", " helpers.", " functions.", ""))


def _documented(text: str, name: str, example: Example, rng: random.Random) -> str:
    """The function with an invented docstring, which sometimes shows the example."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if line.rstrip().endswith(":")), 0)
    words = name.replace("_", " ").capitalize()
    doc = [f'    """{words}.']
    if rng.random() < 0.6 and not example.expected.error and not example.setup:
        call = example.call if rng.random() < 0.5 else f"{name}({values.written(rng, values.value(rng))})"
        result = example.expected.text if call == example.call else values.written(rng, values.value(rng))
        doc += ["", f"    >>> {call}", f"    {result}", '    """']
    else:
        doc[0] += '"""'
    try:
        ast.parse("\n".join([*lines[: end + 1], *doc, *lines[end + 1 :]]))
    except SyntaxError:
        return text
    return "\n".join([*lines[: end + 1], *doc, *lines[end + 1 :]])
