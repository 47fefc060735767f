"""Where definitions begin and end in a text, found by indentation in any language. Pure.

A definition is a line that `DEFINITION` matches, or one that opens a deeper block at the file's top level, with its
decorators and comments above it and all deeper lines below it.
"""

import re
from dataclasses import dataclass

DEFINITION = re.compile(
    r"^[ \t]*(?:(?:@\w+[ \t]+)?(?:export|default|public|private|protected|internal|static|async|abstract|final|"
    r"override|virtual|inline|extern|unsafe|open|sealed|data|const|pub(?:\([^)]*\))?|local)[ \t]+)*"
    r"(?:def|class|function\*?|func|fun|fn|struct|enum|trait|interface|impl|module|namespace|type|record|object|"
    r"protocol|sub|proc|procedure|macro_rules!|macro|defmodule|defp?|defn|let|var|const|union|typedef|mod|extension)\b"
    r"[ \t]*(?:self\.|\([^)]*\)[ \t]*)?([A-Za-z_$][\w$]*[?!]?)?",
    re.MULTILINE,
)
_CLOSER = re.compile(r"^\s*(?:[})\]]++[;,)]*+|end\w*;?|fi|done|esac)\s*(?:(?:else|catch|finally|while)\b.*)?$")
_LEADING = re.compile(r"^\s*(?:@|#\[|///|//|#(?!!)|\*|/\*|\"\"\"|--)")
_CONTAINER = re.compile(
    r"\b(?:class|struct|impl|interface|trait|module|namespace|enum|object|protocol|extension|record|defmodule|mod)\b"
)
LONG = 150  # lines; functions within a longer function count as definitions of their own


@dataclass(frozen=True)
class Definition:
    """Lines [start, end) of a file; `header` is the line that names it; `owners` are the headers around it."""

    name: str
    start: int
    header: int
    end: int
    owners: tuple[int, ...]


def definitions(lines: list[str]) -> list[Definition]:
    """Every definition, in order of its header: those at the top level and the members of classes and the like.

    Functions within a function belong to it, unless it is very long.
    """
    depth = [_depth(line) for line in lines]
    found: list[Definition] = []
    ends: dict[int, int] = {}  # of headers
    open_: list[tuple[int, int]] = []  # (depth, header) of the definitions around
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        match = DEFINITION.match(line)
        following = next((j for j in range(i + 1, len(lines)) if lines[j].strip()), None)
        deeper = following is not None and depth[following] > depth[i]
        braced = line.rstrip().endswith("{") or (following is not None and lines[following].strip() == "{")
        opens = (deeper or braced) and not re.match(r"\s*[)\]}]", line)
        if not opens or not (match or (depth[i] == 0 and not _CLOSER.match(line))):
            continue
        end = _end(lines, depth, i)
        open_ = [(d, h) for d, h in open_ if d < depth[i] and ends[h] > i]
        if open_:
            holder = open_[-1][1]
            if not _CONTAINER.search(lines[holder]) and ends[holder] - holder <= LONG:
                continue
        start = i
        above = found[-1].header + 1 if found else 0  # no line leads two definitions
        while (
            start > above
            and depth[start - 1] == depth[i]
            and lines[start - 1].strip()
            and _LEADING.match(lines[start - 1])
        ):
            start -= 1
        name = (match[1] if match else None) or next(iter(re.findall(r"(?<![\w$])([A-Za-z_$][\w$]*+)\s*\(", line)), "")
        found.append(Definition(name=name, start=start, header=i, end=end, owners=tuple(h for _, h in open_)))
        ends[i] = end
        open_.append((depth[i], i))
    return found


def _depth(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip(" "))


def _end(lines: list[str], depth: list[int], header: int) -> int:
    """The line after the definition's last: deeper lines, then closing brackets at the header's own depth."""
    end = i = header + 1
    opened = False
    # a header over several lines: its parameters are deeper, its closing `):` is not
    while i < len(lines):
        if lines[i].strip():
            opens = lines[i].strip() == "{" and not opened
            opened |= opens
            inside = depth[i] > depth[header] or opens
            if inside or (depth[i] == depth[header] and re.match(r"\s*[)\]]", lines[i])):
                end = i + 1
            elif depth[i] == depth[header] and _CLOSER.match(lines[i]):
                return i + 1
            else:
                break
        i += 1
    return end
