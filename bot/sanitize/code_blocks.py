"""What GitHub does not show of a fenced block, of math and of footnotes. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping

_LANGUAGE = re.compile(r"[\w+#.:*/-]{1,30}")
_MERMAID = re.compile(r"^[ \t>]*%%")
_ACCESSIBLE = re.compile(r"^[ \t]*acc(?:Title|Descr)[ \t]*[:{]")
_MATH_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_UNSEEN = re.compile(
    r"\\(?:[hv]?phantom|label|cssId|class|style|(?:re)?newcommand|def|mathchoice|require|tooltip|texttip)(?![A-Za-z])"
)
_FOOTNOTE = re.compile(r"^ {0,3}(?:> ?)*\[\^([^\]\s]+)\]:")
_REFERENCE = re.compile(r"\[\^([^\]\s]+)\]")


def seen_of_code(lines: list[str], info: str | None, flags: set[str]) -> list[str]:
    """The lines of a code block as GitHub shows them; `info` is what follows the fence, None for an indented one."""
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
        kept = [line for line in rest if not _MERMAID.match(line) and not _ACCESSIBLE.match(line)]
        if len(kept) < len(rest):
            flags.add("comments in diagrams")
        rest = kept
    elif language.lower() == "math":
        rest = seen_of_math("\n".join(rest), flags).split("\n") if rest else rest
    return [first, *rest]


def seen_of_math(text: str, flags: set[str]) -> str:
    """The formula without its comments and without what is set invisibly."""
    found = _MATH_COMMENT.sub("", text) if "\n" in text else text
    out: list[str] = []
    at = 0
    while match := _UNSEEN.search(found, at):
        out.append(found[at : match.start()])
        at = _argument_end(found, match.end())
    found = "".join(out) + found[at:]
    if found != text:
        flags.add("invisible parts of formulas")
    return found


def _argument_end(text: str, at: int) -> int:
    """The index past the group in braces that begins at `at`; `at` itself if there is none."""
    begin = re.compile(r"\s*+\{").match(text, at)
    if begin is None:
        return at
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, begin.end() - 1):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.end()
    return len(text)


def unreferenced_footnotes(lines: list[str], code: Collection[int]) -> tuple[set[int], set[int]]:
    """The numbers of the lines of footnotes that nothing refers to, and of those that are shown."""
    notes: dict[str, set[int]] = {}
    n = 0
    while n < len(lines):
        match = None if n in code else _FOOTNOTE.match(lines[n])
        if match is None:
            n += 1
            continue
        start, n = n, n + 1
        while n < len(lines) and not _FOOTNOTE.match(lines[n]):
            after_blank = not lines[n - 1].strip()
            if lines[n].strip() and after_blank and not lines[n].startswith(("    ", "\t")):
                break
            n += 1
        while not lines[n - 1].strip():
            n -= 1
        notes.setdefault(match[1].casefold(), set()).update(range(start, n))
    if not notes:
        return set(), set()
    return _apart(lines, notes, code)


def _apart(lines: list[str], notes: Mapping[str, set[int]], code: Collection[int]) -> tuple[set[int], set[int]]:
    of_notes = set().union(*notes.values())
    due = _references(lines, (n for n in range(len(lines)) if n not in of_notes and n not in code))
    shown: set[str] = set()
    while new := (due & notes.keys()) - shown:
        shown |= new
        due = set().union(*(_references(lines, notes[label]) for label in new))
    kept = set().union(*(notes[label] for label in shown))
    return of_notes - kept, kept


def _references(lines: list[str], numbers: Iterable[int]) -> set[str]:
    text = "\n".join(lines[n] for n in numbers)
    text = re.sub(r"`[^`\n]*`", "", text)
    return {m[1].casefold() for m in _REFERENCE.finditer(text) if text[m.end() : m.end() + 1] != ":"}
