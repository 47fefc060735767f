"""Finds the tags of a reply (`bot.llm.replies`), however they are written. Pure."""

import bisect
import re
from collections.abc import Sequence

from bot.records import Record
from bot.sanitize.delimiters import path_as_meant

FINE = {"approve": "approve", "approved": "approve", "done": "done"}  # tags that say that all is well
EDITS = ("edit", "define", "file", "diff", "create", "delete")  # tags of edits
_NAMES = ("run", *EDITS, "test", "choose", "ranking", "relevant", "irrelevant", *FINE)
_LAST_TAG = re.compile(rf"<(/?)({'|'.join(_NAMES)})\b[^<>\n]*\Z", re.IGNORECASE)
_LAST_END = re.compile(r"</([a-z]*)\Z")
_LAST_REPLACE = re.compile(r"^[ \t]*>{5,}[ \t]*(?:R|RE|REP|REPL|REPLA|REPLAC)?\Z", re.MULTILINE)
_ENDS_REPLY = re.compile(rf"^\s*(?:<(?i:{'|'.join(FINE)})\s*/?>|</(?:answer|response|output|reply)>)\s*$")
SEARCH = re.compile(r"^\s*<{4,}\s*SEARCH\b")
REPLACE = re.compile(r"^\s*>{4,}\s*(REPLACE|UPDATED)\b|^\s*>{7,}\s*$")
FENCE = re.compile(r"^\s*(```|~~~)[\w+.-]*\s*$")
_VALUE = r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+?)(?=\s|/?>|$))"
_PATH = re.compile(rf"(?<![\w-])(?:path|file|filename|file_?path|target_file){_VALUE}")
_ATTRIBUTE = re.compile(r"(?:path|file|filename|name)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+?)(?=\s|/?>|$))")
_BROKEN_ATTRIBUTE = re.compile(r"(?<!\s)\s*(?:path|file|filename)\s*[=:]\s*")  # one whose quotes do not pair


class Element(Record):
    """One tag as found. `line`: in the reply, from 1."""

    name: str
    path: str
    lines: tuple[str, ...]
    line: int
    closed: bool
    attributes: str = ""  # all of them, as they are written

    def attribute(self, name: str) -> str:
        """The value of the attribute; "" if there is none."""
        m = re.search(rf"(?<![\w-]){name}{_VALUE}", self.attributes)
        return next((group for group in m.groups() if group is not None), "").strip() if m else ""


def finished(text: str, cut_off: bool) -> str:
    """The text with its last tag closed, if only the end of that tag is missing.

    Models and stop sequences leave it out. Of a reply that was cut off, a tag with attributes may lack a part of them.
    """
    text = text.rstrip()
    tag, end = _LAST_TAG.search(text), _LAST_END.search(text)
    if tag and (tag[1] or not cut_off or tag[2].lower() in FINE):
        return f"{text}>"
    if end:
        begun = end[1] and next((n for n in _NAMES if n.startswith(end[1]) and f"<{n}" in text), "")
        return text[: end.start()] + (f"</{begun}>" if begun else "")
    return _LAST_REPLACE.sub(">>>>>>> REPLACE", text)


def elements(lines: list[str], names: Sequence[str], *, inline: bool) -> list[Element]:
    """Every tag with one of the names, in order; with `inline`, also those within a line."""
    tags = "|".join(f"(?i:{name})" if name in FINE else name for name in names)
    opening = re.compile((r"" if inline else r"^\s*(?:[-*>]\s+)?`{0,3}") + rf"<({tags})\b([^<>\n]*)>")
    found: list[Element] = []
    lines = list(lines)
    # A script may contain XML with <test>: if any <test> has a path, only those with one are ours.
    strict = any((m := opening.search(line)) and m[1] == "test" and "path" in m[2] for line in lines)
    i = 0
    while i < len(lines):
        m = opening.search(lines[i])
        if not m or (m[1] == "test" and strict and "path" not in m[2]):
            i += 1
            continue
        name, rest = FINE.get(m[1].lower(), m[1]), lines[i][m.end() :]
        if name == "choose" and re.search(r"\d", m[2]):  # <choose number="2"/>
            rest = m[2] + rest
        empty = (m[2].rstrip().endswith("/") and name != "choose") or name in ("approve", "done", "delete")
        if empty:
            found.append(Element(name=name, path=_path(m[2]), lines=(), line=i + 1, closed=True, attributes=m[2]))
            lines[i] = rest
            i += 0 if rest.strip() else 1
            continue
        inner, end, closed = _inner(lines, i, rest, name, opening)
        bare = (
            _BROKEN_ATTRIBUTE.sub("", m[2], count=1).strip().strip("\"'`:") if name in EDITS and not _path(m[2]) else ""
        )
        path = _path(m[2]) or (bare if name in ("edit", "create") or bare != m[2].strip() else "")
        element = Element(name=name, path=path, lines=tuple(inner), line=i + 1, closed=closed, attributes=m[2])
        found.append(element)
        i = end
    return found


def untagged(lines: list[str]) -> list[Element]:
    """Blocks outside any <edit>, in the format of other tools: a line with the file's path comes before them."""
    found: list[Element] = []
    ends = [j for j, line in enumerate(lines) if REPLACE.match(line)]
    path, i = "", 0
    while i < len(lines):
        after = bisect.bisect_right(ends, i)
        end = ends[after] if after < len(ends) else None
        if not SEARCH.match(lines[i]) or end is None:
            bare = lines[i].strip().lstrip("#*->` ").strip("*`: ").removeprefix("File: ").strip("`")
            path = bare if re.fullmatch(r"[\w./+@-]*\w\.\w+|[\w.+@-]+/[\w./+@-]*\w", bare) else path
            i += 1
            continue
        beside = re.match(r"\s*<{4,}\s*SEARCH[ \t:]+`?([\w./+@-]*\w\.\w+)`?\s*$", lines[i])
        path = beside[1] if beside else path
        if path:
            found.append(Element(name="edit", path=path, lines=tuple(lines[i : end + 1]), line=i, closed=True))
        i = end + 1
    return found


def _inner(lines: list[str], i: int, rest: str, name: str, opening: re.Pattern[str]) -> tuple[list[str], int, bool]:
    """The lines within the element that opens on line `i`, the index of the line after it, whether it was closed."""
    close = re.compile(rf"</{name}s?(?:\s[^<>\n]*)?>")
    if (m := close.search(rest)) is not None:
        return [rest[: m.start()]], i + 1, True
    head = [rest] if rest.strip() else []
    alone = re.compile(rf"^\s*`{{0,3}}</{name}s?(?:\s[^<>\n]*)?>`{{0,3}}\s*$")
    last, at_end = None, None
    in_block = False
    j = i + 1
    while j < len(lines):
        line = lines[j]
        m = opening.match(line) if not in_block else None
        if m and (m[1] != "test" or "path" in m[2]) and (name == "edit" or last is not None or m[1] == name):
            break  # the next element begins, and what closes it on its own line does not close this one
        if name == "edit":
            # within a block every line is the file's text
            if SEARCH.match(line):
                in_block = True
            elif REPLACE.match(line):
                in_block = False
            elif not in_block and close.search(line):
                return head + lines[i + 1 : j], j + 1, True
        elif alone.match(line):
            last = j
            if name not in ("test", "create", "file"):
                break
        elif close.search(line) and line.rstrip().endswith(">"):
            at_end = j
        j += 1
    if last is not None:
        return head + lines[i + 1 : last], last + 1, True
    if at_end is not None:
        cut = close.search(lines[at_end])
        assert cut is not None
        return [*head, *lines[i + 1 : at_end], lines[at_end][: cut.start()]], at_end + 1, True
    end = j
    while end > i + 1 and (not lines[end - 1].strip() or _ENDS_REPLY.match(lines[end - 1])):
        end -= 1  # it was not closed, but the reply goes on to its end
    return head + lines[i + 1 : end], j, False


def _path(attributes: str) -> str:
    m = _PATH.search(attributes) or _ATTRIBUTE.search(attributes)
    return path_as_meant(next((group for group in m.groups() if group is not None), "").strip()) if m else ""


def inner_lines(lines: Sequence[str], path: str = "") -> list[str]:
    """The lines without blank lines at either end and without a code fence around them all."""
    body = list(lines)
    if body and any(line.strip() for line in body) and "".join(body).strip().startswith("<![CDATA["):
        body = "\n".join(body).strip().removeprefix("<![CDATA[").removesuffix("]]>").split("\n")
    while body and not body[0].strip():
        body.pop(0)
    while body and not body[-1].strip():
        body.pop()
    if len(body) >= 2 and FENCE.match(body[0]) and FENCE.match(body[-1]):
        # A Markdown file may consist of one block of code, unless the block holds a title.
        prose = path.endswith((".md", ".rst")) and not (len(body) > 2 and body[1].startswith("# "))
        return body if prose else body[1:-1]
    fences = [i for i, line in enumerate(body) if FENCE.match(line)]
    if len(fences) == 1 and len(body) > 1 and not path.endswith((".md", ".rst")):  # one that has no other half
        return body[1:] if fences == [0] else body[:-1] if fences == [len(body) - 1] else body
    return body
