"""The one place of a file where a SEARCH/REPLACE block applies, or why there is none. Pure."""

import difflib
import itertools
from collections.abc import Sequence

from bot.patch.edits import Block
from bot.patch.entities import unescaped
from bot.patch.matching import (
    Place,
    exactly,
    shifted,
    starts,
    unnumbered,
    unsigned,
    without_blank_lines,
    without_lookalikes,
    without_trailing_space,
)
from bot.patch.restyle import in_another_style

_EXACT = (exactly, without_trailing_space)
_FORGIVING = (without_lookalikes, shifted, without_blank_lines, in_another_style)


class Wrong(Exception):
    """A problem with an edit; its text is for the model."""


def all_at_once(path: str, lines: list[str], blocks: Sequence[Block]) -> list[str]:
    """The lines with all blocks applied, each placed in the lines as they were. Raises `Wrong`."""
    places = sorted(place_of(path, lines, block, number) for number, block in enumerate(blocks, 1))
    out: list[str] = []
    at = 0
    for start, end, new in places:
        if start < at:
            raise Wrong(f"two blocks of the edit of {path} overlap at line {start + 1}\nJoin them into one block.")
        out += [*lines[at:start], *new]
        at = end
    return [*out, *lines[at:]]


def place_of(path: str, lines: list[str], block: Block, number: int) -> Place:
    """Where the block applies: first line, line after the last, the new lines. Raises `Wrong`."""
    for other, instead in reversed(block.others):  # the longest SEARCH that is in the file
        wanted = [line.rstrip() for line in other.split("\n")]
        if len(starts([line.rstrip() for line in lines], wanted)) == 1:
            return place_of(path, lines, Block(search=other, replace=instead, line=block.line), number)
    search = block.search.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    new = block.replace.removeprefix("\ufeff").replace("\r\n", "\n").split("\n") if block.replace else []
    if not any(line.strip() for line in search):
        if block.at and block.loose:
            at = min(block.at - 1, len(lines))
            return at, at, new
        if not any(line.strip() for line in lines):
            return 0, len(lines), [*new, ""]
        raise Wrong(f"SEARCH text is empty in block {number} for {path}\nCopy the lines to replace from the file.")
    readings = _readings(search, new)
    for find, (wanted, becomes) in (*itertools.product(_EXACT, readings), *itertools.product(_FORGIVING, readings)):
        places = find(lines, wanted, becomes)
        if len(places) == 1:
            return places[0]
        if near := _nearest(lines, places, block):
            return near
        if places:
            raise Wrong(_ambiguous(path, block, number, [start for start, _, _ in places]))
    if block.loose and (trimmed := _trimmed(block)):
        try:
            return place_of(path, lines, trimmed, number)
        except Wrong:
            pass  # the problem with the whole block says more
    raise Wrong(_not_found(path, lines, unnumbered(search, new)[0], block, number))


def _readings(search: list[str], new: list[str]) -> list[tuple[list[str], list[str]]]:
    """The block as it is written, then as it may be meant: without line numbers, a diff's signs, HTML's entities."""
    plain = [unescaped(line) for line in search], [unescaped(line) for line in new]
    found = [(search, new)]
    numbered = unnumbered(search, new, spaced=False), unnumbered(search, new)
    found += [pair for pair in (*numbered, unsigned(search, new), plain) if pair[0] != search]
    return found


def _nearest(lines: list[str], places: Sequence[Place], block: Block) -> Place | None:
    """Of several places the one that the block's section or line number means beyond doubt."""
    if block.section:
        heads = [i for i, line in enumerate(lines) if line.strip() == block.section]
        below = [place for place in places if len(heads) == 1 and place[0] >= heads[0]]
        if below:
            return min(below)
    if not block.at or len(places) < 2:
        return None
    first, second = sorted(places, key=lambda place: abs(place[0] + 1 - block.at))[:2]
    sure = abs(first[0] + 1 - block.at) * 2 < abs(second[0] + 1 - block.at)
    return first if sure else None


def _trimmed(block: Block) -> Block | None:
    """The block without its outermost line that stays the same, the farther from a change; None if there is none."""
    search, new = block.search.split("\n"), block.replace.split("\n") if block.replace else []
    ahead = next((i for i, (a, b) in enumerate(zip(search, new, strict=False)) if a != b), min(len(search), len(new)))
    behind = next(
        (i for i, (a, b) in enumerate(zip(search[::-1], new[::-1], strict=False)) if a != b), min(len(search), len(new))
    )
    behind = min(behind, min(len(search), len(new)) - ahead)
    if max(ahead, behind) == 0 or len(search) < 2:
        return None
    cut = slice(1, None) if ahead >= behind else slice(None, -1)
    at = block.at + 1 if block.at and ahead >= behind else block.at
    shorter = "\n".join(search[cut])
    if not shorter.strip():
        return None
    return block.model_copy(update={"search": shorter, "replace": "\n".join(new[cut]), "at": at})


# -- messages ---------------------------------------------------------------------------------------------------


def _where(block: Block, number: int) -> str:
    return f"block {number}" + (f", line {block.line} of your reply" if block.line else "")


def _ambiguous(path: str, block: Block, number: int, starts: Sequence[int]) -> str:
    numbers = ", ".join(str(start + 1) for start in starts[:10])
    return (
        f"SEARCH text was found {len(starts)} times in {path}\n"
        f"It begins at each of the lines {numbers} ({_where(block, number)}). "
        "Add lines before or after it, so that it matches at one place only."
    )


def _not_found(path: str, lines: list[str], search: list[str], block: Block, number: int) -> str:
    head = f"SEARCH text was not found in {path}"
    start = _closest(lines, search)
    if start is None:
        return f"{head}\nNone of its lines is in the file ({_where(block, number)})."
    end = min(len(lines), start + len(search))
    same = [line.strip() for line in search] == [line.strip() for line in lines[start:end]]
    what = "Only white space or indentation differs. " if same else ""
    numbered = "\n".join(f"{i + 1:5} | {lines[i]}" for i in range(start, min(end, start + 40)))
    return (
        f"{head}\n{what}It must be copied letter by letter, with its indentation ({_where(block, number)}). "
        f"The closest lines are {start + 1} to {end}:\n{numbered}"
    )


def _closest(lines: list[str], search: list[str]) -> int | None:
    """The index at which most lines match the search, else where its longest line has a close match."""
    where: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        if line.strip():
            where.setdefault(line.strip(), []).append(i)
    votes: dict[int, int] = {}
    for j, line in enumerate(search):
        for i in where.get(line.strip(), ())[:200]:
            if i - j >= 0:
                votes[i - j] = votes.get(i - j, 0) + len(line.strip())
    if votes:
        return max(votes, key=lambda start: (votes[start], -start))
    longest = max(range(len(search)), key=lambda j: len(search[j].strip()))
    close = difflib.get_close_matches(search[longest].strip()[:200], list(where)[:20_000], n=1, cutoff=0.6)
    return max(0, where[close[0]][0] - longest) if close else None
