"""Invented identifiers, and renaming. Rare names are hard to copy, so the exercises use many."""

import ast
import builtins
import keyword
import random
import re
from collections import Counter

from bot.capuchin.exercises.corpus import Function

_RESERVED = frozenset(dir(builtins)) | frozenset(keyword.kwlist) | {"self", "cls"}
_SYLLABLES = [
    c + v + e
    for c in [
        "b",
        "c",
        "d",
        "f",
        "g",
        "h",
        "j",
        "k",
        "l",
        "m",
        "n",
        "p",
        "r",
        "s",
        "t",
        "v",
        "w",
        "z",
        "br",
        "tr",
        "st",
        "pl",
        "gr",
    ]
    for v in "aeiou"
    for e in ("", "n", "r", "l", "s")
]
_VERBS = [
    "get",
    "make",
    "to",
    "parse",
    "format",
    "split",
    "join",
    "merge",
    "count",
    "find",
    "compute",
    "clean",
    "normalize",
    "build",
    "read",
    "take",
    "drop",
    "group",
    "is",
    "has",
    "apply",
    "convert",
    "extract",
    "filter",
    "sort",
    "chunk",
    "round",
    "clamp",
    "pad",
    "wrap",
    "flatten",
    "unique",
    "iter",
    "next",
    "first",
    "last",
    "sum",
    "mean",
    "scale",
    "shift",
    "encode",
    "decode",
]


class Names:
    """Makes identifiers from words of the corpus and from invented words."""

    def __init__(self, functions: list[Function]) -> None:
        counts: Counter[str] = Counter()
        for function in functions:
            for word in re.findall(r"[A-Za-z]+", function.name):
                counts.update(part.lower() for part in re.findall(r"[A-Z]?[a-z]+", word) if 2 < len(part) < 12)
        self.words = sorted(word for word, count in counts.items() if count >= 2) or ["item", "value"]

    def word(self, rng: random.Random) -> str:
        """One lower-case word: of the corpus, made of syllables, or of pieces of words.

        The pieces cover every token that a name may contain: the model can't copy a token that no exercise copies.
        """
        kind = rng.random()
        if kind < 0.1:
            return "".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3))))
        if kind < 0.4:
            return "".join(self._piece(rng) for _ in range(rng.choice((1, 2, 2, 3)))) or "item"
        return rng.choice(self.words)

    def _piece(self, rng: random.Random) -> str:
        """Two to six letters of a word of the corpus."""
        word = rng.choice(self.words)
        start = rng.randrange(max(1, len(word) - 2))
        return word[start : start + rng.randrange(2, 7)]

    def variable(self, rng: random.Random) -> str:
        """A variable's name: mostly one or two words, sometimes a letter."""
        if rng.random() < 0.1:
            return rng.choice("abcdefghijklmnopqrstuvwxyz")
        name = "_".join(self.word(rng) for _ in range(rng.choice((1, 1, 1, 2))))
        return name + "_" if name in _RESERVED else name

    def function(self, rng: random.Random) -> str:
        """A function's name: one to three words, in snake_case or rarely camelCase, sometimes with a digit."""
        words = [self.word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
        if rng.random() < 0.4:
            words.insert(0, rng.choice(_VERBS))
        if rng.random() < 0.05:
            words.append(str(rng.randrange(10)))
        name = "_".join(words)
        if rng.random() < 0.07:
            name = words[0] + "".join(word.capitalize() for word in words[1:])
        return name + "_" if name in _RESERVED else name

    def type(self, rng: random.Random) -> str:
        """A class's name."""
        return "".join(self.word(rng).capitalize() for _ in range(rng.choice((1, 2))))

    def path(self, rng: random.Random) -> str:
        """A made-up path of a Python file: root, package, nested package, or below src/."""
        stem = (
            "_".join(self.word(rng) for _ in range(rng.choice((1, 1, 1, 2))))
            if rng.random() < 0.8
            else rng.choice(_COMMON)
        )
        stem = "_" + stem if rng.random() < 0.03 else stem
        depth = rng.choice((0, 1, 1, 1, 1, 1, 2))
        folders = ["_".join(self.word(rng) for _ in range(rng.choice((1, 1, 2)))) for _ in range(depth)]
        if folders and rng.random() < 0.06:
            stem = "__init__"
        if folders and rng.random() < 0.15:
            folders.insert(0, "src")
        return "/".join([*folders, f"{stem}.py"])


_COMMON = [
    "utils",
    "core",
    "text",
    "numbers",
    "strings",
    "dates",
    "tools",
    "helpers",
    "main",
    "lists",
    "stats",
    "more",
    "recipes",
]


def module(path: str) -> str:
    """The dotted name by which a script at the repository's root imports the file."""
    parts = path.removesuffix(".py").split("/")
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def renamed(source: str, mapping: dict[str, str]) -> str:
    """The source with whole words replaced, also in strings and comments, except attributes."""
    if not mapping:
        return source
    pattern = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, mapping)) + r")(?!\w)")
    return pattern.sub(lambda match: mapping[match.group(1)], source)


def renaming(source: str, names: Names, rng: random.Random, share: float) -> dict[str, str]:
    """New names for the function and for a share of its parameters and variables. Raises `SyntaxError`."""
    tree = ast.parse(source)
    first = tree.body[0]
    assert isinstance(first, ast.FunctionDef)
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | bound
    mapping = {first.name: names.function(rng)}
    for name in sorted(bound - keywords - _RESERVED - {first.name}):
        new = names.variable(rng)
        if rng.random() < share and new not in taken and new not in mapping.values():
            mapping[name] = new
    return mapping
