"""What GitHub does not show of a fenced block. Pure."""

import re
from collections.abc import Iterator

from bot.sanitize.formulas import seen_of_formula
from bot.sanitize.gaps import without_gaps

_LANGUAGE = re.compile(
    r"[A-Za-z0-9+#]{1,15}(?:[-_.:*/][A-Za-z0-9+#]{1,15})?(?:,(?:ignore|no_run|should_panic|compile_fail))?"
)
_USUAL = frozenset(  # in reports of bugs
    "bash c console cpp cs css csharp diff go html ini java javascript js json jsx kotlin log markdown math md mermaid "
    "php plaintext py pycon pytb python python3 ruby rust sh shell sql swift text toml traceback ts tsx txt typescript "
    "xml yaml yml".split()
)
_DRAWN = ("geojson", "topojson", "stl")  # GitHub draws these, and shows nothing of their source
_NOT_DRAWN = re.compile(
    r"[ \t>]*(?:%%|(?:accTitle|accDescr)[ \t]*:"
    r"|(?:click|classDef|linkStyle|style|links?|callback|cssClass|properties|details|dateFormat|axisFormat|tickInterval"
    r"|todayMarker|excludes|includes)[ \t]|::icon\(|Update\w{1,30}\("
    r"|class[ \t]+\S+[ \t]+\w+[ \t]*$)"
)
_IN_LABEL = re.compile(  # names of classes and icons, labels of no edge, what HTML hides, comments behind what is drawn
    r":::\w+|(?<=~~~)\|[^|\n]*\||(?<=\w)\([^()\n]*\)(?=\[)|,\s{0,9}\$(?:tags|link|sprite)\s{0,9}=\s{0,9}\"[^\"\n]*\""
    r"|<!--[^<>\n]{0,2000}>|<[A-Za-z]+\s[^<>\n]{0,2000}>|(?<=[ \t])%%(?!\{)[^\n]*"
)
_NAME = re.compile(r"[\w-]{21,}")  # one that is shown is within quotes or brackets
_SHOWN = re.compile(r"\"[^\"\n]*+\"|\[[^\[\]\n]*+\]|\([^()\n]*+\)|\{[^{}\n]*+\}|:[^\n]*+|\|[^|\n]*+\|")
_LABELLED = re.compile(  # a name for which another text is drawn
    r"\b([\w-]{3,}+)(?=[\[({>]|@\{)|\b(?:participant|actor)[ \t]+([\w-]{3,}+)[ \t]+as\b|\"[ \t]+as[ \t]+([\w-]{3,}+)"
    r"|\b\w++\(([\w-]{3,}+),"
)
_MANY_NAMES = 5
_SETTINGS = re.compile(r"@\{(?!(?:\s*(?:shape|label):[^,:{}]{0,200},?)*+\s*\})")

_DESCRIPTION = re.compile(r"^[ \t>]*accDescr[ \t]*\{")
_UNDRAWN = "what a diagram does not draw"
_RULE = re.compile(r"^[ \t>]*---[ \t]*$")
_TITLE = re.compile(r"^[ \t>]*title:")


def languages_of(info: str | None) -> list[str]:
    """The language that a fence names, of which GitHub shows nothing, in lower case; none where it is a usual one."""
    named = (info or "").lower().split()[:1]
    return [name for name in named if name not in _USUAL]


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
        unseen = any(_SETTINGS.search(line) or _NAME.search(_SHOWN.sub(" ", line)) for line in rest)
        if unseen or _says_something(rest):
            flags.add("names and settings in a diagram, which were kept")
    elif language.lower() == "math":
        rest = seen_of_formula("\n".join(rest), flags).split("\n") if rest else rest
    elif language.lower() in _DRAWN:
        flags.add("the source of a map or a solid, which was kept")
    return [first, *rest]


def _says_something(lines: list[str]) -> bool:
    """Whether many names that a diagram does not draw, since it draws a label for each, have nothing of the labels."""
    if any(re.match(r"[ \t>]*(?:classDiagram|erDiagram)", line) for line in lines):  # it draws what is in brackets
        return False
    text = "\n".join(lines)
    labels = " ".join(found.group().casefold() for found in _SHOWN.finditer(text))
    names = {next(name for name in found.groups() if name).casefold() for found in _LABELLED.finditer(text)}
    return sum(name not in labels for name in names) >= _MANY_NAMES


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
