"""Where a file has the lines that a model searches for, and the new lines as they fit there. Pure.

Models change lines as they copy them: they drop trailing white space, shift the indentation, write tabs for spaces,
leave blank lines out, copy the line numbers that were shown beside a file, put the signs of a diff before them, or take
typographic quotes and dashes for plain ones. Each function here forgives one of these.
"""

import difflib
import itertools
import re
from collections.abc import Sequence

from bot.patch.reindent import indent

Place = tuple[int, int, list[str]]  # the first line, the line after the last, the new lines

# Beside the line: its number, as editors, `cat -n`, `grep -n` and prose write it.
_NUMBERED = re.compile(
    r"^[ \t]*+(?:[>*][ \t]*+)?(?:[\w./+-]*[\w+]\.\w+[:-])?(?:L?(\d{1,6})(?: [|│]|[|│→\t:.-])|\[(\d{1,6})\])(.*)$"
)
_ALIKE = str.maketrans(
    dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u202f", " ")
    | {"\u2026": "..."}
)


def exactly(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places that hold the searched lines letter by letter."""
    return [(start, start + len(search), new) for start in starts(lines, search)]


def without_trailing_space(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places that differ from the searched lines in trailing white space at most."""
    found = starts([line.rstrip() for line in lines], [line.rstrip() for line in search])
    return [(start, start + len(search), new) for start in found]


def shifted(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places with one more (or less) indentation, or without the blank lines at the search's ends."""
    search, new = _without_blank_ends(search, new)
    if not any(line.strip() for line in search):
        return []
    return [
        (start, start + len(search), moved)
        for start, add, drop in _shifts(lines, search)
        if (moved := _all_moved(new, add, drop)) is not None
    ]


def without_blank_lines(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places that hold the searched lines with more or fewer blank lines between them, which the new text keeps."""
    solid, wanted = [i for i, line in enumerate(lines) if line.strip()], [line for line in search if line.strip()]
    if not wanted:
        return []
    places = []
    for first, add, drop in _shifts([lines[i] for i in solid], wanted):
        there, moved = solid[first : first + len(wanted)], _all_moved(new, add, drop)
        searched = _all_moved(search, add, drop)
        if moved is not None and searched is not None:
            merged = _merged(list(lines[there[0] : there[-1] + 1]), searched, moved)
            places.append((there[0], there[-1] + 1, merged))
    return places


def unnumbered(search: list[str], new: list[str], *, spaced: bool = True) -> tuple[list[str], list[str]]:
    """Both without the line numbers that each searched line begins with; as they are if one has none.

    `spaced`: a blank between number and line is not the line's.
    """
    numbered = [_NUMBERED.match(line) for line in search if line.strip()]
    numbers = [int(m[1] or m[2]) for m in numbered if m]
    if len(numbers) < len(numbered) or any(b <= a for a, b in itertools.pairwise(numbers)):
        return search, new
    return [_unnumbered(line, spaced) for line in search], [_unnumbered(line, spaced) for line in new]


def _unnumbered(line: str, spaced: bool) -> str:
    found = _NUMBERED.match(line)
    return line if found is None else found[3].removeprefix(" " if spaced else "")


def unsigned(search: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Both without the `-`, `+` and blanks of a diff before their lines; as they are if one line has none of them."""
    minus = all(line[:1] in ("-", " ", "") for line in search) and any(line.startswith("-") for line in search)
    plus = all(line[:1] in ("+", " ", "") for line in new) and any(line.startswith("+") for line in new)
    if not minus or not (plus or not new):
        return search, new
    return [line[1:] for line in search], [line[1:] for line in new]


def without_lookalikes(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places that differ from the searched lines in characters that only look like the file's."""
    wanted = [line.translate(_ALIKE).rstrip() for line in search]
    if not any(wanted):
        return []
    places = []
    for start in starts([line.translate(_ALIKE).rstrip() for line in lines], wanted):
        there = list(lines[start : start + len(search)])
        odd = {c for line in search for c in line if ord(c) in _ALIKE} - {c for line in there for c in line}
        plain = {ord(c): _ALIKE[ord(c)] for c in odd}
        kept = dict(zip(search, there, strict=True))
        places.append((start, start + len(search), [kept.get(line, line.translate(plain)) for line in new]))
    return places


def starts(lines: Sequence[str], search: Sequence[str]) -> list[int]:
    """The indices at which the searched lines begin."""
    first, n, wanted = search[0], len(search), list(search)
    return [i for i, line in enumerate(lines) if line == first and list(lines[i : i + n]) == wanted]


def _merged(there: list[str], search: list[str], new: list[str]) -> list[str]:
    """The new lines with the file's blank lines where the search left them out. `there`: the file's lines."""
    was, becomes, wanted = _spaced(there), _spaced(new), _spaced(search)
    out: list[str] = []
    before = [line.rstrip() for _, line in wanted]
    matcher = difflib.SequenceMatcher(None, before, [line.rstrip() for _, line in becomes], autojunk=False)
    ahead = False  # whether the blank lines before the next kept line are out already
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        with_next = tag == "insert" and 0 < i1 < len(was) and _goes_with(becomes[j1][1], was[i1 - 1][1], was[i1][1])
        for j in range(j1, j2):
            gap, line = becomes[j]
            i = i1 + j - j1
            if i2 - i1 == j2 - j1 or (j == j1 and (tag == "replace" or with_next)):
                gap = gap if ahead else max(0, was[i][0] + gap - wanted[i][0])
                line = was[i][1] if tag == "equal" else line
            ahead = False
            out += [*([""] * (gap if out else 0)), line]
        ahead = with_next and indent(becomes[j2 - 1][1]) == indent(was[i1][1])
    leading = next((i for i, line in enumerate(new) if line.strip()), 0) - next(
        (i for i, line in enumerate(search) if line.strip()), 0
    )
    trailing = _blank_end(new) - _blank_end(search)
    return [""] * max(0, leading) + out + [""] * max(0, trailing)


def _goes_with(line: str, last: str, following: str) -> bool:
    """Whether an inserted line belongs to the one after it, by its indentation, and not to the one before."""
    return indent(line) == indent(following) != indent(last)


def _spaced(lines: Sequence[str]) -> list[tuple[int, str]]:
    """The lines that are not blank, each with the number of blank lines right before it."""
    found, gap = [], 0
    for line in lines:
        if line.strip():
            found.append((gap, line))
            gap = 0
        else:
            gap += 1
    return found


def _blank_end(lines: Sequence[str]) -> int:
    return next((i for i, line in enumerate(reversed(lines)) if line.strip()), 0)


def _without_blank_ends(search: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Both without the blank lines that they begin and end with in common."""
    while search and not search[0].strip() and (not new or not new[0].strip()):
        search, new = search[1:], new[1:]
    while search and not search[-1].strip() and (not new or not new[-1].strip()):
        search, new = search[:-1], new[:-1]
    return search, new


def _shifts(lines: Sequence[str], search: Sequence[str]) -> list[tuple[int, str, str]]:
    """Where the searched lines are under one more (or less) indentation: (index, to add, to drop)."""
    stripped = [line.strip() for line in lines]
    places = []
    anchor = next(i for i, line in enumerate(search) if line.strip())
    for start in starts(stripped, [line.strip() for line in search]):
        here, there = indent(lines[start + anchor]), indent(search[anchor])
        add, drop = ("", there.removeprefix(here)) if there.startswith(here) else (here.removeprefix(there), "")
        pairs = zip(search, lines[start : start + len(search)], strict=True)
        if all(not a.strip() or (_move(a, add, drop) or "").rstrip() == b.rstrip() for a, b in pairs):
            places.append((start, add, drop))
    return places


def _all_moved(lines: Sequence[str], add: str, drop: str) -> list[str] | None:
    """The lines with their indentation changed; None if one has too little to drop."""
    moved = [_move(line, add, drop) for line in lines]
    return None if None in moved else [line for line in moved if line is not None]


def _move(line: str, add: str, drop: str) -> str | None:
    if not line.strip():
        return line
    return add + line.removeprefix(drop) if line.startswith(drop) else None
