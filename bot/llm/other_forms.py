"""Brings replies in the forms of other tools, or damaged by what they passed through, into our form. Pure.

Each rule is for a reply that has nothing in our own form: our tags in capitals or escaped as HTML, markers of edits as
other tools write them, and paths in a tag or on a line of their own instead of an attribute.
"""

import re
from collections.abc import Sequence

from bot.patch.entities import unescaped

_PATH_NAMES = r"(?:path|file|filename|file_?path|target_file)"
_BARE_PATH = r"[\w./+@\\-]*\w\.\w+|[\w.+@-]+/[\w./+@-]*\w"
_SEARCH = re.compile(r"^[ \t]*<{4,}\s{0,9}SEARCH\b", re.MULTILINE)
# Other markers: of the begin, the divider, the end. They count only where all three follow one another.
_OLD, _NEW = "(?:search|old|old_str|original)", "(?:replace|new|new_str|updated)"
_MARKERS = tuple(
    tuple(re.compile(rf"[ \t]*{mark}[ \t]*\Z", re.IGNORECASE) for mark in marks)
    for marks in (
        (r"-{4,}[ \t]*SEARCH\b.*", r"={4,}", r"\+{4,}[ \t]*REPLACE\b.*"),
        (r"<{3,}[ \t]*SEARCH\b.*", r"={3,}", r">{3,}[ \t]*REPLACE\b.*"),
        (r"<{4,}[ \t]*(?:ORIGINAL|HEAD|BEFORE|OLD|CURRENT)\b.*", r"={7}", r">{4,}[ \t]*\S.*"),
        (rf"<{_OLD}>", rf"</{_OLD}>[ \t]*(?:<{_NEW}>)?", rf"</{_NEW}>"),
    )
)
_OPENS_NEW = re.compile(rf"[ \t]*<{_NEW}>[ \t]*\Z", re.IGNORECASE)
_OURS = ("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE")


def in_our_form(text: str, names: Sequence[str]) -> str:
    """The reply with tags of the `names` and markers of edits in our own form, as far as it has none."""
    tags = "|".join(names)
    if not re.search(rf"<(?:{tags})\b", text):
        if re.search(rf"&lt;(?:{tags})\b", text):
            text = unescaped(text)
        meant = re.findall(rf"<({tags})\s{{1,9}}\w+\s{{0,9}}=|</({tags})\s{{0,9}}>", text, re.IGNORECASE)
        for name in {one or other for one, other in meant}:
            text = re.sub(rf"(</?){name}(?=[\s/>])", rf"\g<1>{name.lower()}", text)
    if not _SEARCH.search(text) and re.search(r"^[ \t]*(?:&lt;){4,}\s{0,9}SEARCH\b", text, re.MULTILINE):
        text = unescaped(text)
    if not _SEARCH.search(text):
        text = _marked(text)
    return _with_paths(text)


def _marked(text: str) -> str:
    """The text with the first kind of other tools' markers that it has as ours."""
    lines = text.split("\n")
    for kind in _MARKERS:
        found = _blocks(lines, *kind)
        if found:
            marks = {at: mark for block in found for at, mark in zip(block, _OURS, strict=True)}
            opened = {divide + 1 for _, divide, _ in found if _OPENS_NEW.match(lines[divide + 1])}
            return "\n".join(marks.get(i, line) for i, line in enumerate(lines) if i not in opened)
    return text


def _blocks(
    lines: Sequence[str], begins: re.Pattern[str], divides: re.Pattern[str], ends: re.Pattern[str]
) -> list[tuple[int, int, int]]:
    """The lines of the three markers of each whole block."""
    found: list[tuple[int, int, int]] = []
    begin = divide = -1
    for i, line in enumerate(lines):
        if begins.match(line):
            begin, divide = i, -1
        elif begin >= 0 and divide < 0 and divides.match(line):
            divide = i
        elif divide >= 0 and ends.match(line):
            found.append((begin, divide, i))
            begin = divide = -1
    return found


def _with_paths(text: str) -> str:
    """The text with paths as attributes where they stand in a tag, or on a line, of their own."""
    text = re.sub(
        rf"^([ \t]*)<{_PATH_NAMES}>[ \t]*([^<>\n]+?)[ \t]*</{_PATH_NAMES}>[ \t]*(\n\s*)"
        r"<(edit|define|file|diff|create|test)>",
        lambda m: f'{m[1]}{m[3]}<{m[4]} path="{m[2]}">',
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(
        rf"<test>(\s{{0,9}})<{_PATH_NAMES}>[ \t]*([^<>\n]+?)[ \t]*</{_PATH_NAMES}>[ \t]*(?=\n)",
        lambda m: f'<test path="{m[2]}">{m[1]}',
        text,
    )
    return re.sub(
        rf"<(edit|define|file|create)>(\s*)(?:<{_PATH_NAMES}>[ \t]*([^<>\n]+?)[ \t]*</{_PATH_NAMES}>|"
        rf"(?:[#*`/]{{0,3}}[ \t]*)(?:(?:file|path):[ \t]*)?`?({_BARE_PATH})[`*:]{{0,3}})[ \t]*(?=\n)",
        lambda m: f'<{m[1]} path="{m[3] or m[4]}">{m[2]}',
        text,
        flags=re.IGNORECASE,
    )
