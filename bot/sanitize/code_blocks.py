"""What GitHub does not show of a fenced block. Pure."""

import re
from collections.abc import Iterator

from bot.sanitize.formulas import seen_of_formula

_LANGUAGE = re.compile(r"[A-Za-z0-9+#]{1,15}(?:[-_.:*/][A-Za-z0-9+#]{1,15})?")
_DRAWN = ("geojson", "topojson", "stl")  # GitHub draws these, and shows nothing of their source
_NOT_DRAWN = re.compile(
    r"^[ \t>]*(?:%%|(?:accTitle|accDescr)[ \t]*:|(?:click|classDef|linkStyle|style|links?|callback)[ \t])"
)
_DESCRIPTION = re.compile(r"^[ \t>]*accDescr[ \t]*\{")
_FAR = re.compile(r"[ \t\u00a0\u2000-\u200a\u3000]{150,}(?=\S)")  # more than a screen's width: nobody scrolls there
_RULE = re.compile(r"^[ \t>]*---[ \t]*$")
_TITLE = re.compile(r"^[ \t>]*title:")


def seen_of_code(lines: list[str], info: str | None, flags: set[str]) -> list[str]:
    """The lines of a code block as GitHub shows them; `info` is what follows the fence, None for an indented one.

    The source of maps and solids is kept, and flagged.
    """
    if any(_FAR.search(line) for line in lines):
        flags.add("text far to the right in code")
        lines = [_FAR.sub("    ", line) for line in lines]
    words = (info or "").split()
    if not words:
        return lines
    language = words[0] if _LANGUAGE.fullmatch(words[0]) else ""
    first = lines[0]
    if language != (info or "").strip():
        at = first.rfind((info or "").strip())
        if at >= 0:
            flags.add("words after the language of code")
            first = first[:at] + language
    rest = lines[1:]
    if language.lower() == "mermaid":
        kept = list(_seen_of_diagram(rest))
        if len(kept) < len(rest):
            flags.add("what a diagram does not draw")
        rest = kept
    elif language.lower() == "math":
        rest = seen_of_formula("\n".join(rest), flags).split("\n") if rest else rest
    elif language.lower() in _DRAWN:
        flags.add("the source of a map or a solid, which was kept")
    return [first, *rest]


def _seen_of_diagram(lines: list[str]) -> Iterator[str]:
    """Without comments, descriptions, tooltips, styles and settings."""
    begun = in_front = in_description = False
    for line in lines:
        if _RULE.match(line) and (in_front or not begun):
            begun, in_front = True, not in_front
            yield line
        elif in_front:
            if _TITLE.match(line):
                yield line
        elif in_description or _DESCRIPTION.match(line):
            in_description = "}" not in line
        elif not _NOT_DRAWN.match(line):
            begun = begun or bool(line.strip(" \t>"))
            yield line
