"""Excerpts of a file: the definitions that match an issue best, whole, in any language. Pure.

Definitions are found by their indentation (`bot.patch.definitions`), or in the syntax tree, where a language has one
here and the caller wants it. `...` replaces lines that are left out.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bot.patch.definitions import LONG, Definition, definitions
from bot.patch.syntax_tree import Defined, Source, parsed

GAP = "..."
_WORD = re.compile(r"[A-Za-z_$][\w$]{2,}")
_AROUND = 4  # lines shown on either side of a match outside definitions, or in one that is too long
_FEW, _OF_FEW = 3, 0.3  # lines of a short block, such as an import, and what it has to be worth of a longer one
_WORDS = 6  # lines shown of the docstring of a class of which only the head is shown
_QUOTES = re.compile(r'\s*[rRuUbB]{0,2}(?:"""|\'\'\')')
_HEAD = 3  # lines shown at the beginning of a definition that is too long


@dataclass(frozen=True)
class Wanted:
    """What an excerpt is to show."""

    weights: Mapping[str, float]  # the terms by rarity, see `lexical_rank.rarity`
    most: int = 10_000  # definitions
    least: float = 0.0  # that a definition scores, as a share of the best one's
    local: bool = False  # whether a term counts for less the more of the file's definitions mention it
    by_tree: bool = False  # whether definitions are found in the syntax tree
    fill: float = 0.0  # that a definition scores, as a share of the best one's, to be shown only because there is room


def excerpt(text: str, wanted: Wanted, characters: int, path: str = "") -> tuple[str, bool]:
    """(text, whether lines were left out): the file if it fits, else its best-matching definitions that fit.

    Shows at most `characters`; "" if not even one line fits. `path`: of the file, whose name tells its language.
    """

    def fits(part: str) -> bool:
        return len(part) <= characters

    lines = text.rstrip("\n").split("\n")
    weights, most = wanted.weights, wanted.most
    if most >= 10_000 and fits(text):
        return text, False
    found = (tree_definitions(path, text) if wanted.by_tree else None) or definitions(lines)
    if fits(text) and len([d for d in found if not d.owners]) <= most:
        return text, False
    worth = [sum(weights.get(word, 0.0) for word in set(_WORD.findall(line))) for line in lines]
    shown: set[int] = set()
    taken = missed = 0
    blocks = _by_worth(lines, found, worth, weights, wanted.local)
    for value, block in blocks:
        if taken >= most or missed > 20 or value < wanted.least * blocks[0][0]:
            break
        worthy = wanted.fill * blocks[0][0] * (1 if len(block) > _FEW else _OF_FEW)
        if set(block) <= shown or value < worthy:
            continue
        wider = shown | set(block)
        if fits(render(lines, wider)):
            shown, taken = wider, taken + 1
        elif not shown:
            shown, taken = _part(lines, block, worth, fits), 1
        else:
            missed += 1
    if not shown:
        shown = _longest_head(lines, fits)
    return render(lines, shown), len(shown) < len(lines)


def tree_definitions(path: str, text: str) -> list[Definition] | None:
    """The functions and classes of a file by its syntax tree; None without a grammar, or if the file does not parse."""
    source = parsed(path, text)
    if source is None or source.root.has_error:
        return None
    found: list[Definition] = []
    headers: dict[int, int] = {}  # header by the start of a class's or function's core
    for d in source.definitions:
        around = d.parent
        within = around is not None and around.kind == "function" and _lines(source, around) <= LONG
        if d.kind == "value" or within:  # a function within a function belongs to it, unless that is very long
            continue
        owners: list[int] = []
        parent = d.parent
        while parent is not None:
            owners.insert(0, headers.get(parent.core.start, parent.line - 1))
            parent = parent.parent
        headers[d.core.start] = d.line - 1
        start = source.data.count(b"\n", 0, d.lead)
        end = source.data.count(b"\n", 0, max(d.outer.end - 1, 0)) + 1
        found.append(Definition(name=d.name, start=start, header=d.line - 1, end=end, owners=tuple(owners)))
    return found


def _lines(source: Source, d: Defined) -> int:
    return source.data.count(b"\n", d.outer.start, d.outer.end) + 1


def _by_worth(
    lines: list[str], found: list[Definition], worth: list[float], weights: Mapping[str, float], local: bool
) -> list[tuple[float, list[int]]]:
    """(score, line numbers) of blocks, best first: definitions with their owners' headers, and other matching lines."""
    inner: dict[int, Definition] = {}
    first_within: dict[int, int] = {}  # start of the first definition within one, by its header
    for definition in found:  # inner ones come later and win
        inner.update(dict.fromkeys(range(definition.start, definition.end), definition))
        for owner in definition.owners:
            first_within.setdefault(owner, definition.start)
    mentioned: dict[Definition, Counter[str]] = {}
    blocks: list[tuple[float, list[int]]] = []
    for i, value in enumerate(worth):
        if value and i in inner:
            terms = (word for word in set(_WORD.findall(lines[i])) if word in weights)
            mentioned.setdefault(inner[i], Counter()).update(terms)
        elif value:
            blocks.append((value / 4, list(range(max(0, i - 1), min(len(worth), i + 2)))))
    often, shorter = (1.0, 0.5) if local else (0.3, 1.0)  # what repeated mentions weigh, and a definition's length
    if local:
        spread = Counter(word for counts in mentioned.values() for word in counts)
        whole = math.log(1 + len(found))
        weights = {**weights, **{w: weights[w] * math.log(1 + len(found) / n) / whole for w, n in spread.items()}}
    # A definition that the issue names scores higher than one that mentions such a name, however often. One that a
    # named definition calls may be at fault too.
    meant = {d: _part_of_name(d, found, weights) if local else 1.0 for d in found}
    named = {d: weights.get(d.name, 0.0) * meant[d] for d in found}
    called = {word: value for d, value in named.items() if value for word in _calls_in(lines, d)}
    for definition in found:
        counts = mentioned.get(definition, Counter[str]())
        total = sum(weights[word] * (1 + often * math.log(n)) for word, n in counts.items())
        bonus = 8 * named[definition] or 2 * called.get(definition.name, 0.0) * meant[definition]
        # Of a class whose own lines match, only the head is shown, unless it contains no definitions.
        end = first_within.get(definition.header, definition.end)
        if bonus or total:
            rows = [*definition.owners, *range(definition.start, end)]
            if local and end < definition.end:
                rows = _without_long_words(lines, rows)
            power = shorter if end == definition.end else 1.0  # a head is mostly words about the class
            blocks.append((bonus + total / (1 + (end - definition.start) / 60) ** power, rows))
    return sorted(blocks, key=lambda block: (-block[0], block[1]))


def _part_of_name(definition: Definition, found: Sequence[Definition], weights: Mapping[str, float]) -> float:
    """What a name says of one definition of several that have it: those of an owner that is named are meant."""
    sharing = [d for d in found if d.name == definition.name]
    if len(sharing) == 1:
        return 1.0
    headers = {d.header: d.name for d in found}
    meant = [d for d in sharing if any(headers.get(owner) in weights for owner in d.owners)]
    if meant:
        return 1.0 if definition in meant else 0.0
    return 1.0 / len(sharing)


def _without_long_words(lines: list[str], rows: list[int]) -> list[int]:
    """The head of a class without the rest of a docstring that fills a screen: that is for its users."""
    opened = next((at for at, row in enumerate(rows) if _QUOTES.match(lines[row])), None)
    if opened is None:
        return rows
    quotes = '"""' if '"""' in lines[rows[opened]] else "'''"
    if lines[rows[opened]].count(quotes) > 1:
        return rows
    closed = next((at for at in range(opened + 1, len(rows)) if quotes in lines[rows[at]]), len(rows))
    return rows if closed - opened <= 2 * _WORDS else [*rows[: opened + _WORDS], *rows[closed:]]


def _calls_in(lines: list[str], definition: Definition) -> set[str]:
    return set(re.findall(r"(?<![\w$])([A-Za-z_$][\w$]*+)\(", "\n".join(lines[definition.header + 1 : definition.end])))


def _part(lines: list[str], block: list[int], worth: list[float], fits: Callable[[str], bool]) -> set[int]:
    """Of a block that is too long, its head and its best-matching lines with their neighbours, as many as fit."""
    shown: set[int] = set()
    best = sorted(block, key=lambda i: (-worth[i], i))
    rows = set(block)
    head = [i for i in block if i <= block[0] + _HEAD]
    for group in (head, *([j for j in range(i - _AROUND, i + _AROUND + 1) if j in rows] for i in best)):
        if fits(render(lines, shown | set(group))):
            shown |= set(group)
    return shown


def _longest_head(lines: list[str], fits: Callable[[str], bool]) -> set[int]:
    """As many of the first lines as fit."""
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(render(lines, set(range(middle)))):
            low = middle
        else:
            high = middle - 1
    return set(range(low))


def render(lines: list[str], shown: set[int]) -> str:
    """The shown lines in order, with `...` where lines that are not blank were left out."""
    out: list[str] = []
    skipped: list[str] = []
    for i, line in enumerate(lines):
        if i in shown:
            out += [GAP] if any(s.strip() for s in skipped) else skipped
            skipped = []
            out.append(line)
        else:
            skipped.append(line)
    if any(s.strip() for s in skipped):
        out.append(GAP)
    return "\n".join(out).strip("\n") + "\n" if shown else ""
