"""Ranks files by the words that they share with an issue: cheap, deterministic, for any language. Pure.

A term's weight is its rarity among the files times how much it looks like code in the issue. Names in code blocks or
backticks, calls, and words with dots, underscores, digits or inner capitals weigh most; common English weighs least.
Parts of such names count where they are parts of a path, too, by their rarity among paths.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from bot.patch.definitions import DEFINITION

_WORD = re.compile(r"[A-Za-z_$][\w$]{2,}")
_CODE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`|^(?: {4}|\t).*$|^>>> .*$|^  File \".*$", re.DOTALL | re.MULTILINE
)
# What code binds: the name and the parameters of a function, the targets of assignments, loops and `as`.
_BOUND = re.compile(
    r"\b(?:def|function|func|fn)[ \t]+(\w+)[ \t]*\(([^()]*)|^(?:>>>|\.\.\.|`+)?[ \t]*(?:(?:const|let|var|val)[ \t]+)?"
    r"([\w$]+(?:[ \t]*,[ \t]*[\w$]+)*)[ \t]+:?=[ \t]|\bfor[ \t]+(\w+)[ \t]+(?:in|of)\b|\bas[ \t]+(\w+)",
    re.MULTILINE,
)
_COMMON_WORDS = """
    the and for that this with from have not but are was were been being when then than what which where while
    who how why should would could can will does did doing done has had its into onto over under only also any
    all some same such very more most less least many much other another each every between after before again
    instead because since until expected actual result results behaviour behavior issue bug error errors problem
    wrong correct correctly incorrect please thanks think want need like use used using uses see seen way case
    cases example examples following version versions python javascript java print return returns returned
    returning raise raises raised value values given get gets got give gives make makes made call calls called
    calling function functions method methods class classes module modules file files line lines code test tests
    import imports none true false null str int list dict self def assert let var const new name names type
    types one two three first last there here they them their you your our happens still even just now currently
    reproduce steps output input traceback recent default set string number
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_NAMED_WEIGHT = 4.0  # of a word that is code in the issue; a plain word has 1
_COMMON_WEIGHT = 0.1
_TOP_FOLDERS = frozenset({"src", "lib", "app", "main", "packages", "python", "java"})
_PART = re.compile(r"[A-Z]{3,}(?=[A-Z][a-z])|[A-Z][a-z]{2,}|[a-z]{3,}|[A-Z]{3,}")
_OFTEN = 0.6  # what a term counts more for each of its weight where it is e times as often
_DEFINED = 1.5  # what a term counts more for each of its weight where it is defined
_IN_PATH, _MOST_IN_PATH = 2.0, 2.0  # what a part of a path counts for each of its word's weight, which is at most that


def terms(text: str) -> dict[str, float]:
    """An issue's words, each with how much it looks like a name from the code."""
    code = "\n".join(match[0] for match in _CODE.finditer(text))
    weights: dict[str, float] = {}
    coded = set(_WORD.findall(code))
    called = set(re.findall(r"(?<![\w$])([A-Za-z_$][\w$]*+)\(", text))
    for word in dict.fromkeys(_WORD.findall(text)):
        named = word in coded or word in called or "_" in word or re.search(r"[a-z][A-Z]|\d", word) is not None
        weight = _COMMON_WEIGHT if word.lower() in _COMMON else _NAMED_WEIGHT if named else 1.0
        weights[word] = 2 * weight if word in called and weight > _COMMON_WEIGHT else weight
    return weights


def without_own(weights: Mapping[str, float], issue: str, texts: Iterable[str]) -> dict[str, float]:
    """The terms, those weighed as plain words that the issue's own code binds and none of the texts defines.

    A reporter's variables, parameters and functions are no names of the repository, though it may use the same ones.
    """
    code = "\n".join(match[0] for match in _CODE.finditer(issue))
    bound = {name for match in _BOUND.finditer(code) for name in _WORD.findall(" ".join(filter(None, match.groups())))}
    own = bound - {match[1] for text in texts for match in DEFINITION.finditer(text)} if bound else set()
    return {term: min(weight, 1.0) if term in own else weight for term, weight in weights.items()}


def counted(weights: Mapping[str, float], text: str) -> Counter[str]:
    """How often each term is in a text."""
    return Counter(filter(weights.__contains__, _WORD.findall(text)))


def rarity(weights: Mapping[str, float], counts: Sequence[Collection[str]]) -> dict[str, float]:
    """Each term's weight times its rarity among texts, of which each has these; without terms that are in none."""
    found = Counter(term for terms in counts for term in terms)
    return {term: weights[term] * math.log(1 + len(counts) / n) for term, n in found.items()}


def score(path: str, text: str, counts: Mapping[str, int], weights: Mapping[str, float], named: str) -> float:
    """The score of one file: for the terms in it, more for those it defines, most if the issue names its path."""
    total = sum(weights[term] * (1 + _OFTEN * math.log(n)) for term, n in counts.items())
    defined = {match[1] for match in DEFINITION.finditer(text) if match[1]}
    total += sum(_DEFINED * weights[term] for term in defined & counts.keys())
    return total + max(weights.values(), default=1.0) * _path_match(path, named)


def _told_parts(weights: Mapping[str, float]) -> dict[str, float]:
    """The parts of an issue's terms that are no common words, with what they weigh in a path."""
    told: dict[str, float] = {}
    for term, weight in weights.items():
        if weight > _COMMON_WEIGHT:
            for part in _parts(term):
                told[part] = max(told.get(part, 0.0), _IN_PATH * min(weight, _MOST_IN_PATH))
    return told


def _parts(name: str) -> set[str]:
    """The words of a name or path, in lower case: those of `getHTTPPath_of` are get, http and path."""
    return {part.lower() for part in _PART.findall(name)}


def _path_match(path: str, named: str) -> float:
    """How clearly the text names the path: in full, from a folder on (as traces do), as a module, or by its last part
    alone."""
    pure = PurePosixPath(path)
    named, lower = _plain(named)
    if stands_in(named, path, r"[\w.-]" if len(pure.parts) > 1 else r"[\w./-]"):
        return 10.0
    if _end_stands_in(lower, path.lower().split("/")):
        return 7.0
    dotted = ".".join(pure.with_suffix("").parts)
    dotted = re.sub(r"^(src|lib)\.|\.__init__$", "", dotted)
    if "." in dotted and stands_in(named, dotted, r"[\w.]"):
        return 6.0
    if stands_in(named, pure.name, r"[\w./]"):
        return 5.0
    return 0.0


def _end_stands_in(text: str, parts: Sequence[str]) -> bool:
    """Whether the text has the path from a folder on that is no folder as all projects have."""
    ends = ("/".join(parts[start:]) for start in range(1, len(parts) - 1) if parts[start] not in _TOP_FOLDERS)
    return parts[-1] in text and any(stands_in(text, end, r"[\w.-]") for end in ends)


@functools.lru_cache(maxsize=8)
def _plain(text: str) -> tuple[str, str]:
    """The text with slashes alone, and without `./` before paths; and that in lower case."""
    plain = re.sub(r"(?<![\w.])\./", "", text.replace("\\", "/"))
    return plain, plain.lower()


@functools.lru_cache(maxsize=1024)
def stands_in(text: str, name: str, before: str = r"\w", after: str = r"\w") -> bool:
    """Whether the name is in the text with neither of these characters at its sides.

    An issue is looked through for each file of a repository, and most files are named nowhere in it: that takes a
    hundredth of what a regular expression does. Many files have the same name.
    """
    return name in text and re.search(rf"(?<!{before}){re.escape(name)}(?!{after})", text) is not None


def is_named(path: str, text: str) -> bool:
    """Whether the text names the file: by its path, as a dotted module, or by the file's name."""
    return _path_match(path, text) > 0


def rank(
    issue: str, files: Sequence[tuple[str, str]], counts: Sequence[Mapping[str, int]] | None = None
) -> list[tuple[str, float]]:
    """(path, score) of (path, text) files, best first, ties by path. `counts`: of the issue's terms in each, where they
    are known."""
    weights = terms(issue)
    counts = [counted(weights, text) for _, text in files] if counts is None else counts
    told = _told_parts(weights)
    parts = [told.keys() & _parts(path) for path, _ in files]
    rare = rarity(told, parts)
    weights = rarity(weights, counts)
    scored = [
        (path, sum(rare[part] for part in those) + score(path, text, each, weights, issue))
        for (path, text), each, those in zip(files, counts, parts, strict=True)
    ]
    return sorted(scored, key=lambda item: (-item[1], item[0]))
