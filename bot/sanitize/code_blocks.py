"""What GitHub does not show of a fenced block. Pure."""

import re
from collections.abc import Iterator

from bot.sanitize.formulas import seen_of_formula

_LANGUAGE = re.compile(
    r"[A-Za-z0-9+#]{1,15}(?:[-_.:*/][A-Za-z0-9+#]{1,15})?(?:,(?:ignore|no_run|should_panic|compile_fail))?"
)
_DRAWN = ("geojson", "topojson", "stl")  # GitHub draws these, and shows nothing of their source
_NOT_DRAWN = re.compile(
    r"[ \t>]*(?:%%|(?:accTitle|accDescr)[ \t]*:"
    r"|(?:click|classDef|linkStyle|style|links?|callback|cssClass|properties|details)[ \t]"
    r"|class[ \t]+\S+[ \t]+\w+[ \t]*$)"
)
_IN_LABEL = re.compile(  # names of classes, what HTML hides, and comments behind what is drawn
    r":::\w+|<!--[^<>\n]{0,2000}>|<[A-Za-z]+\s[^<>\n]{0,2000}>|(?<=[ \t])%%(?!\{)[^\n]*"
)
_NAME = re.compile(r"[\w-]{21,}")  # one that is shown is within quotes or brackets
_SHOWN = re.compile(r"\"[^\"\n]*+\"|\[[^\[\]\n]*+\]|\([^()\n]*+\)|\{[^{}\n]*+\}|:[^\n]*+|\|[^|\n]*+\|")
_SETTINGS = re.compile(r"@\{(?!(?:\s*(?:shape|label):[^,:{}]{0,200},?)*+\s*\})")

_DESCRIPTION = re.compile(r"^[ \t>]*accDescr[ \t]*\{")
_GAP = re.compile(r"[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]{8,}")
_TAB = 8  # columns, as GitHub shows it
_WIDE, _FAR = (
    60,
    150,
)  # columns of a gap that no table needs, and of all of them: beyond a screen's width nobody scrolls
_UNDRAWN = "what a diagram does not draw"
_RULE = re.compile(r"^[ \t>]*---[ \t]*$")
_TITLE = re.compile(r"^[ \t>]*title:")


def seen_of_code(lines: list[str], info: str | None, flags: set[str]) -> list[str]:
    """The lines of a code block as GitHub shows them; `info` is what follows the fence, None for an indented one.

    The source of maps and solids is kept, and flagged.
    """
    lines = without_gaps(lines, flags)
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
        if kept != rest:
            flags.add(_UNDRAWN)
        rest = [_IN_LABEL.sub("", line) for line in kept]
        if rest != kept:
            flags.add(_UNDRAWN)
        if any(_SETTINGS.search(line) or _NAME.search(_SHOWN.sub(" ", line)) for line in rest):
            flags.add("names and settings in a diagram, which were kept")
    elif language.lower() == "math":
        rest = seen_of_formula("\n".join(rest), flags).split("\n") if rest else rest
    elif language.lower() in _DRAWN:
        flags.add("the source of a map or a solid, which was kept")
    return [first, *rest]


def without_gaps(lines: list[str], flags: set[str]) -> list[str]:
    """The lines of preformatted text, those brought near that begin so far to the right that nobody sees them."""
    return [_without_gaps(line, flags) for line in lines]


def _without_gaps(line: str, flags: set[str]) -> str:
    gaps = [len(found[0]) + (_TAB - 1) * found[0].count("\t") for found in _GAP.finditer(line.rstrip())]
    if sum(gap for gap in gaps if gap >= _WIDE) < _FAR:
        return line
    flags.add("text far to the right in code")
    return _GAP.sub("    ", line)


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
        else:
            drawn = [one for one in line.split(";") if not _NOT_DRAWN.match(one)]
            begun = begun or bool(line.strip(" \t>"))
            if drawn:
                yield ";".join(drawn)
