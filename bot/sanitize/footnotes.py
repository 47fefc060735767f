"""Which footnotes GitHub shows. Pure."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

_NOTE = re.compile(r"^[ >]*(?:(?:[-+*]|\d{1,9}[.)]) +)*\[\^([^\]\s]+)\]:")
_REFERENCE = re.compile(r"\[\^([^\]\s]{1,999})\]")
_INDENT = re.compile(r"^(?: {1,4}|\t)")
# Escapes, spans of code, tags, links and addresses: nothing in them refers to anything.
_PASSED = re.compile(
    r"\\.|(?<!`)(`+)(?!`)(?:[^`]|(?<!`)(?!\1(?!`))`+){1,2000}(?<!`)\1(?!`)|<[a-z/][^<>]{0,2000}>"
    r"|(?<![a-z])(?:https?://|www\.)[^\s<]{1,2000}|\[\^[^\]\s]{1,999}\]\((?:<[^<>\n]{0,2000}>|[^\s()<>]{0,2000})\)"
    r"|(?<=\])\([^()\n]{0,2000}\)",
    re.DOTALL | re.IGNORECASE,
)


class Footnotes(NamedTuple):
    """Numbers of lines, from 0, and the labels of all, in lower case and in order."""

    hidden: set[int]  # of those that nothing refers to, or whose label an earlier one has
    labels: tuple[str, ...]
    flat: list[str]  # all lines, those of footnotes as if they stood by themselves

    @classmethod
    def of(cls, lines: list[str], code: Collection[int], html: Collection[int]) -> "Footnotes":
        """`code`, `html`: the numbers of the lines that are code or HTML, in which nothing refers to a footnote."""
        notes: dict[str, set[int]] = {}
        every: set[int] = set()
        flat = [*lines]
        n = 0
        while n < len(lines):
            match = None if n in code else _NOTE.match(lines[n])
            if match is None:
                n += 1
                continue
            start, n = n, _end(lines, n)
            every.update(range(start, n))
            flat[start] = lines[start].replace(f"[^{match[1]}]:", "", 1).lstrip()
            flat[start + 1 : n] = [_INDENT.sub("", line) for line in lines[start + 1 : n]]
            notes.setdefault(match[1].casefold(), set(range(start, n)))
        due = _references(lines, (n for n in range(len(lines)) if not (n in every or n in code or n in html)))
        seen: set[str] = set()
        while new := (due & notes.keys()) - seen:
            seen |= new
            due = set().union(*(_references(lines, sorted(notes[label])) for label in new))
        shown = set().union(*(notes[label] for label in seen))
        return cls(every - shown, tuple(notes), flat)


def _end(lines: list[str], start: int) -> int:
    """The number past the last line of the footnote that begins at `start`."""
    n = start + 1
    while n < len(lines) and not _NOTE.match(lines[n]):
        after_blank = not lines[n - 1].strip()
        if lines[n].strip() and after_blank and not lines[n].startswith(("    ", "\t")):
            break
        n += 1
    while not lines[n - 1].strip():
        n -= 1
    return n


def _references(lines: list[str], numbers: Iterable[int]) -> set[str]:
    text = "\n".join(lines[n] for n in numbers)
    text = _PASSED.sub("", text)
    return {m[1].casefold() for m in _REFERENCE.finditer(text) if text[m.end() : m.end() + 1] != ":"}
