"""Lines that a model copied in another style of indentation: tabs for spaces, two spaces for four. Pure."""

import itertools
from collections.abc import Sequence

from bot.patch.matching import Place, starts
from bot.patch.reindent import indent


def in_another_style(lines: Sequence[str], search: list[str], new: list[str]) -> list[Place]:
    """The places that hold the searched lines under indentations of their own, one for each of the searched ones.

    The new lines get the indentations of the place; where one can't be told, the place is none.
    """
    wanted = [line.strip() for line in search]
    if not any(wanted) or not wanted[0]:
        return []
    places = []
    for start in starts([line.strip() for line in lines], wanted):
        there = lines[start : start + len(search)]
        known = {indent(mine): indent(theirs) for mine, theirs in zip(search, there, strict=True) if mine.strip()}
        same = all(known[indent(a)] == indent(b) for a, b in zip(search, there, strict=True) if a.strip())
        moved = _moved(new, known, lines) if same and len(set(known.values())) == len(known) else None
        if moved is not None:
            places.append((start, start + len(search), moved))
    return places


def _moved(new: Sequence[str], known: dict[str, str], lines: Sequence[str]) -> list[str] | None:
    """The lines under the indentations that `known` says theirs mean; None where it does not say."""
    mine = [*known, *(indent(line) for line in new if line.strip())]
    steps = _step(mine), _step([*known.values()]) or _step([indent(line) for line in lines if line.strip()])
    moved = []
    for line in new:
        here = _meant(indent(line), known, *steps) if line.strip() else ""
        if here is None:
            return None
        moved.append(here + line.lstrip(" \t"))
    return moved


def _meant(written: str, known: dict[str, str], step: str, becomes: str) -> str | None:
    """The file's indentation for the written one, as many steps from a known one as that is."""
    if written in known:
        return known[written]
    if not step or not becomes:
        return None
    for one in sorted(known, key=len, reverse=True):
        deeper, less = written.removeprefix(one), one.removeprefix(written)
        if written.startswith(one) and deeper == step * (len(deeper) // len(step)):
            return known[one] + becomes * (len(deeper) // len(step))
        dropped = becomes * (len(less) // len(step))
        if one.startswith(written) and less == step * (len(less) // len(step)) and known[one].endswith(dropped):
            return known[one][: len(known[one]) - len(dropped)]
    return None


def _step(indents: Sequence[str]) -> str:
    """One level of the indentations: the smallest difference of two of them; "" if they don't tell."""
    levels = sorted({"", *indents}, key=len)
    steps = [b.removeprefix(a) for a, b in itertools.pairwise(levels) if b.startswith(a) and b != a]
    return min(steps, key=len, default="")
