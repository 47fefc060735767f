"""Mutations: a bug planted in one line of a function, which still parses."""

import ast
import dataclasses
import io
import random
import tokenize
from collections import defaultdict
from collections.abc import Iterator

from bot.capuchin.exercises.expressions import changes

# Token -> likely mistakes. Both directions are listed if both are likely.
SWAPS: dict[str, tuple[str, ...]] = {
    "<": ("<=", ">", ">="),
    "<=": ("<", ">="),
    ">": (">=", "<", "<="),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
    "+": ("-",),
    "-": ("+",),
    "*": ("+", "**", "/"),
    "/": ("//", "*"),
    "//": ("/", "%"),
    "%": ("//", "/"),
    "**": ("*",),
    "+=": ("-=", "="),
    "-=": ("+=", "="),
    "*=": ("+=", "/="),
    "//=": ("/=", "%="),
    "/=": ("*=", "//="),
    "%=": ("//=",),
    "|=": ("&=",),
    "&": ("|",),
    "|": ("&",),
    "<<": (">>",),
    ">>": ("<<",),
    "and": ("or",),
    "or": ("and",),
    "True": ("False",),
    "False": ("True",),
    "any": ("all",),
    "all": ("any",),
    "min": ("max",),
    "max": ("min",),
    "break": ("continue",),
    "continue": ("break",),
    "append": ("extend", "insert"),
    "extend": ("append",),
    "appendleft": ("append",),
    "add": ("discard",),
    "discard": ("add",),
    "pop": ("popleft",),
    "popleft": ("pop",),
    "upper": ("lower", "title"),
    "lower": ("upper",),
    "capitalize": ("title", "upper"),
    "title": ("capitalize", "upper"),
    "strip": ("lstrip", "rstrip"),
    "lstrip": ("rstrip", "strip"),
    "rstrip": ("lstrip", "strip"),
    "startswith": ("endswith",),
    "endswith": ("startswith",),
    "find": ("rfind", "index"),
    "rfind": ("find",),
    "index": ("rindex",),
    "split": ("rsplit",),
    "rsplit": ("split",),
    "partition": ("rpartition",),
    "rpartition": ("partition",),
    "ljust": ("rjust",),
    "rjust": ("ljust",),
    "floor": ("ceil",),
    "ceil": ("floor",),
    "isdigit": ("isalpha",),
    "isalpha": ("isdigit", "isalnum"),
    "isupper": ("islower",),
    "islower": ("isupper",),
    "keys": ("values",),
    "values": ("keys",),
    "items": ("keys",),
    "union": ("intersection",),
    "intersection": ("union",),
    "update": ("setdefault",),
    "match": ("search",),
    "search": ("match",),
    "first": ("last",),
    "last": ("first",),
    "left": ("right",),
    "right": ("left",),
    "start": ("stop", "end"),
    "stop": ("start",),
    "end": ("start",),
    "width": ("height",),
    "height": ("width",),
    "low": ("high",),
    "high": ("low",),
    "key": ("value",),
    "value": ("key",),
    "lo": ("hi",),
    "hi": ("lo",),
    "sum": ("len", "max"),
    "len": ("sum",),
    "zip": ("zip_longest",),
    "zip_longest": ("zip",),
    "takewhile": ("dropwhile",),
    "dropwhile": ("takewhile",),
    "sorted": ("list",),
    "reversed": ("list",),
    "int": ("float",),
    "float": ("int",),
    "list": ("set", "tuple"),
    "set": ("list",),
    "tuple": ("list",),
    "count": ("index",),
    "prev": ("next",),
}

# How likely each kind is drawn, against 1 for others. Real mistakes are boundaries and comparisons, rarely a wrong
# variable. Bugs whose fix the line does not suggest (a dropped argument, another text) are rare: they teach guessing.
WEIGHTS = {
    "comparison": 3.0,
    "boundary": 1.0,
    "slice": 2.0,
    "number": 2.0,
    "operator": 2.0,
    "text": 0.15,
    "drop": 0.1,
    "swap": 0.3,
    "unwrap": 0.2,
    "name": 0.7,
    "variable": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A change to one line: its number from 0, its text before (the fix) and after (the bug), and the kind."""

    line: int
    before: str
    after: str
    kind: str

    def apply(self, source: str) -> str:
        """The buggy source."""
        lines = source.split("\n")
        assert lines[self.line] == self.before
        lines[self.line] = self.after
        return "\n".join(lines)


def _number(text: str) -> list[str]:
    if text.isdigit() and len(text) < 6:
        value = int(text)
        near = {value + 1, max(value - 1, 0), value + 2 if value > 2 else value + 1}
        near |= {value // 10, value * 10} if value >= 10 and value % 10 == 0 else set()
        near |= {value // 2, value * 2} if value in (2, 4, 24, 60, 100, 1000, 1024, 360, 180) else set()
        return [str(n) for n in sorted(near - {value})]
    if text.replace(".", "").isdigit() and text.count(".") == 1:
        return [str(float(text) + 1), str(float(text) * 2), str(float(text) / 2)]
    return []


def _text(text: str) -> list[str]:
    body, quote = text[1:-1], text[0]
    if quote not in "'\"" or len(body) > 6 or "\\" in body or text[:3] in ('"""', "'''") or quote in body:
        return []
    near = {
        "": [" "],
        " ": ["", "_"],
        "-": ["_"],
        "_": ["-", " "],
        ",": [";", ", "],
        ", ": [","],
        ".": [",", ""],
        "0": ["1"],
    }
    near |= {"\n": [" "], ":": [";", "-"], "/": ["\\\\", "-"], "s": ["", "es"], "y": ["i"], "r": ["w"], "w": ["a"]}
    return [
        quote + new + quote for new in near.get(body, [body.upper() if body.islower() else body.lower(), body[:-1]])
    ]


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def candidates(source: str, doc: tuple[int, int] = (0, 0)) -> dict[str, list[Mutation]]:
    """Every one-line change to the function, by kind. Docstring lines are not changed."""
    lines = source.split("\n")
    found: dict[str, list[Mutation]] = defaultdict(list)
    skipped = set(range(*doc))

    def note(row: int, first: int, last: int, new: str, kind: str) -> None:
        before = lines[row]
        after = before[:first] + new + before[last:]
        if row not in skipped and after != before and new.strip() and len(before) < 110:
            found[kind].append(Mutation(row, before, after, kind))

    try:
        tokens = _tokens(source)
        for line, first, last, new, kind in changes(source):
            note(line - 1, first, last, new, kind)
    except (tokenize.TokenError, SyntaxError, ValueError):
        return {}
    names = sorted({t.string for t in tokens if t.type == tokenize.NAME and len(t.string) > 1} & _locals(source))
    for change in _token_changes(tokens, lines, names):
        note(*change)
    return dict(found)


def _token_changes(
    tokens: list[tokenize.TokenInfo], lines: list[str], names: list[str]
) -> Iterator[tuple[int, int, int, str, str]]:
    """Changes of single tokens: (line from 0, first column, end column, new text, kind). `names`: the variables."""
    for index, token in enumerate(tokens):
        (row, first), (end_row, last) = token.start, token.end
        if row != end_row or not token.string.strip():
            continue
        row -= 1
        previous = tokens[index - 1].string if index else ""
        following = tokens[index + 1].string if index + 1 < len(tokens) else ""
        if (
            token.type in (tokenize.OP, tokenize.NAME)
            and token.string in SWAPS
            and previous not in ("def", "class", "import")
        ):
            if token.string in ("*", "**", "-", "+") and (
                previous in "(,=[:{" or previous in ("return", "lambda", "in")
            ):
                continue
            kind = "operator" if token.type == tokenize.OP else "name" if token.string.islower() else "constant"
            if token.string in ("<", "<=", ">", ">=", "==", "!="):
                kind = "comparison"
            for new in SWAPS[token.string]:
                yield row, first, last, new, kind
        elif token.type == tokenize.NUMBER:
            for new in _number(token.string):
                yield row, first, last, new, "number"
        elif token.type == tokenize.STRING:
            for new in _text(token.string):
                yield row, first, last, new, "text"
        elif token.string == "is" and following != "not":
            yield row, first, last, "is not", "negation"
        elif token.string == "not" and previous == "is":
            yield row, tokens[index - 1].start[1], last, "is", "negation"
        elif (
            token.string == "in"
            and previous != "not"
            and not lines[row].lstrip().startswith("for ")
            and " for " not in lines[row]
        ):
            yield row, first, last, "not in", "negation"
        elif (token.string == "not" and following == "in") or (token.string == "not" and previous != "is"):
            yield row, first, last + 1, "", "negation"
        elif (
            token.string in names
            and previous not in (".", "def")
            and following not in ("=", "(")
            and row > 0
            and len(names) > 1
        ):
            other = names[(names.index(token.string) + 1 + row % (len(names) - 1)) % len(names)]
            if other != token.string and not lines[row].lstrip().startswith("for "):
                yield row, first, last, other, "variable"


def _locals(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def mutate(source: str, rng: random.Random, doc: tuple[int, int] = (0, 0)) -> Mutation | None:
    """A random mutation that parses and changes the syntax tree, or None. The kind is drawn first, by weight."""
    found = candidates(source, doc)
    for _ in range(6):
        if not found:
            return None
        kinds = sorted(found)
        weights = [WEIGHTS.get(kind, 1.0) * (0.5 + len(found[kind]) ** 0.5) for kind in kinds]
        kind = rng.choices(kinds, weights)[0]
        mutation = rng.choice(found[kind])
        try:
            if ast.dump(ast.parse(mutation.apply(source))) != ast.dump(ast.parse(source)):
                return mutation
        except (SyntaxError, ValueError):
            pass
    return None
