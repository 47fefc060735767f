"""The lines of a rewritten definition, under the indentation of the place that they go to. Pure."""

import itertools
import re
from collections.abc import Collection


def reindented(
    lines: list[str], written: str, there: str, *, like: list[str], kept: Collection[int], closes: bool
) -> list[str]:
    """The lines, moved from the indentation `written` of their first to `there`.

    The first line is given without its indentation. `like`: the lines that stood there, in the file's own style.
    `kept`: the lines that are inside strings of several lines, which stay as they are. `closes`: whether a definition
    of the language ends with a bracket or a word at the indentation of its first line.
    """
    movable = [i for i in range(1, len(lines)) if lines[i].strip() and i not in kept]
    styled = _in_style(lines, movable, like)
    written = _in_style(["", f"{written}x"], [1], like)[1][:-1] if written else written
    if written == there or (not written and there and _header_alone(styled, movable, there, closes)):
        return styled
    out = list(styled)
    for i in movable:
        out[i] = there + styled[i].removeprefix(written)
    return out


def _header_alone(lines: list[str], movable: list[int], there: str, closes: bool) -> bool:
    """Whether only the first line lost its indentation: the others are deeper than the place that they go to."""
    if not movable or not all(lines[i].startswith(there) for i in movable):
        return False
    if lines[0].startswith("@") and there:  # a decorator, and what it decorates deeper
        first = next((lines[i] for i in movable if not lines[i].lstrip().startswith("@")), "")
        return indent(first) == there
    closing = closes and re.match(r"\s*(?:[)\]}]|end\b)", lines[movable[-1]]) is not None
    deeper = [i for i in movable if not closing or i != movable[-1]]
    if closing and indent(lines[movable[-1]]) != there:
        return False
    return closing or all(len(indent(lines[i])) > len(there) for i in deeper)


def _in_style(lines: list[str], movable: list[int], like: list[str]) -> list[str]:
    """The lines with tabs for spaces, or spaces for tabs, where the file has only the others."""
    theirs = "".join(indent(line) for line in like if line.strip())
    mine = "".join(indent(lines[i]) for i in movable)
    out = list(lines)
    if "\t" in theirs and " " not in theirs and "\t" not in mine:
        unit = min((len(indent(lines[i])) for i in movable if indent(lines[i])), default=4)
        for i in movable:
            depth, rest = divmod(len(indent(lines[i])), unit)
            out[i] = "\t" * depth + " " * rest + lines[i].lstrip()
    elif " " in theirs and "\t" not in theirs and "\t" in mine:
        depths = sorted({len(indent(line)) for line in like if line.strip()})
        unit = min((b - a for a, b in itertools.pairwise(depths)), default=4)
        for i in movable:
            out[i] = indent(lines[i]).replace("\t", " " * unit) + lines[i].lstrip()
    return out


def indent(line: str) -> str:
    """The blanks and tabs that the line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]
