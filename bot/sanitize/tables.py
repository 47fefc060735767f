"""What GitHub does not show of a table. Pure."""

import re

_PREFIX = re.compile(r"[ \t>]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*(?:\[\^[^\]\s]{1,999}\]:[ \t]*)?\|?")
# What makes a table so wide that nobody sees what comes after it.
_FAR = re.compile(
    r"(?:(?:&(?:nbsp|emsp|ensp|#160|#xa0);|[\u00a0\u2000-\u200a\u2800\u3000])[ \t]*+){60,}+|(?:\|[ \t]*+){40,}+"
    r"|(?:<t[dh]>[ \t]*+(?:</t[dh]>)?[ \t]*+){40,}+",
    re.IGNORECASE,
)
_BORDER = re.compile(r"(?<!\\)\|")


def seen_of_table(lines: list[str], flags: set[str]) -> list[str]:
    """The lines of a table, its head first, without the cells beyond the head's columns.

    What is far to the right is brought near, which may make something else of the table: it is looked at again.
    """
    near = brought_near(lines, flags)
    if near != lines:
        return near
    columns = len(_borders(lines[0].rstrip()))
    out = []
    for line in lines:
        borders = _borders(line.rstrip())
        if len(borders) > columns:
            flags.add("cells beyond a table's columns")
            line = line[: borders[columns - 1]]
        out.append(line)
    return out


def brought_near(lines: list[str], flags: set[str]) -> list[str]:
    """The lines without what makes a table so wide that nobody sees its end."""
    near = [_FAR.sub(lambda far: {"|": "|", "<": "<td>"}.get(far[0][0], " "), line) for line in lines]
    if near != lines:
        flags.add("text far to the right in a table")
    return near


def _borders(line: str) -> list[int]:
    """Where each cell of the line ends, past its border or at the line's end."""
    prefix = _PREFIX.match(line)
    ends = [found.end() for found in _BORDER.finditer(line, prefix.end() if prefix else 0)]
    return ends if ends and ends[-1] == len(line) else [*ends, len(line)]
