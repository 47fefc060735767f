"""Unified diffs as models write them, read as edits. Pure.

Line numbers are often wrong, `a/` and `b/` missing, and a blank line of context has lost its space: what a hunk removes
and keeps is searched for in the file, and its number only chooses among equal places. OpenAI's form of patches
(`*** Update File: PATH`) is read, too.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot.patch.edits import Block, Create, Delete, FileEdit, Replace

_OLD = re.compile(r"^--- (?P<path>\S.*?)(?:\t.*)?$")
_NEW = re.compile(r"^\+\+\+ (?P<path>\S.*?)(?:\t.*)?$")
_GIT = re.compile(r"^diff --git (?:\"?a/)?(?P<old>\S+?)\"? (?:\"?b/)?(?P<new>\S+?)\"?$")
_HUNK = re.compile(
    r"^@@(?: -(?P<old>\d{1,9})(?:,(?P<count>\d+))? \+\d+(?:,\d+)? ?@@ ?(?P<after>.*)| ?(?P<section>.*?)(?: @@)?)$"
)
_OTHER = re.compile(r"^\*\*\* (?P<verb>Update|Add|Delete) File: (?P<path>\S(?:.*\S)?)\s*$")
_NOISE = re.compile(
    r"^(?:index [0-9a-f]+\.\.|(?:new|deleted) file mode |(?:old|new) mode |similarity index |\*\*\* (?:Begin|End)|"
    r"\\ No newline|={3,}$)"
)
_END = re.compile(r"^\s*(?:```|~~~|</?(?:diff|edit|patch)\b)")
_NOWHERE = "/dev/null"


@dataclass
class _File:
    old: str
    new: str
    line: int
    hunks: list["_Hunk"] = field(default_factory=list)


@dataclass
class _Hunk:
    at: int  # the line of the file that it begins on; 0: unknown
    section: str  # a line of the file above it
    line: int  # of its head, in the reply
    lines: list[str] = field(default_factory=list)


def is_diff(lines: Sequence[str]) -> bool:
    """Whether the lines hold a hunk, or the head of a file, of a diff."""
    hunk = any(_HUNK.match(line) for line in lines)
    changed = any(re.match(r"^[+-](?![+-]{2} )", line) for line in lines)
    head = any(_OLD.match(a) and _NEW.match(b) for a, b in itertools.pairwise(lines))
    return (changed and (hunk or head)) or any(_OTHER.match(line) for line in lines)


def diff_edits(lines: Sequence[str], path: str = "", line: int = 1) -> list[FileEdit]:
    """The edits of all diffs in the lines, prose around them ignored.

    `path`: of the file, where the diff names none. `line`: of the first of the lines in the reply, from 1.
    """
    files = _files(lines, path, line)
    edits: list[FileEdit] = []
    for file in files:
        old, new = _plain(file.old, file.new)
        if file.new == _NOWHERE:
            edits.append(Delete(path=old))
        elif file.old == _NOWHERE:
            added = [one[1:] for hunk in file.hunks for one in hunk.lines if one.startswith("+")]
            edits.append(Create(path=new, text="\n".join(added)))
        elif file.hunks:
            edits.append(Replace(path=new, blocks=tuple(_block(hunk) for hunk in file.hunks)))
    return edits


def _plain(old: str, new: str) -> tuple[str, str]:
    """Both paths without the `a/` and `b/` of git."""
    prefixed = (old == _NOWHERE or old.startswith("a/")) and (new == _NOWHERE or new.startswith("b/"))
    if prefixed:
        return old.removeprefix("a/"), new.removeprefix("b/")
    return old, new


def _files(lines: Sequence[str], path: str, first: int) -> list[_File]:
    files: list[_File] = []
    i = 0
    while i < len(lines):
        line = lines[i]
        following = lines[i + 1] if i + 1 < len(lines) else ""
        old, git, other = _OLD.match(line), _GIT.match(line), _OTHER.match(line)
        if old and (new := _NEW.match(following)):
            if files and not files[-1].hunks and files[-1].line == i:  # after its `diff --git`
                files.pop()
            files.append(_File(old["path"].strip('"'), new["path"].strip('"'), i + 2))
            i += 2
        elif git:
            files.append(_File(git["old"], git["new"], i + 1))
            i = _skip_noise(lines, i + 1, files[-1])
            files[-1].line = i
        elif other:
            at = other["path"]
            verb = other["verb"]
            files.append(_File(_NOWHERE if verb == "Add" else at, _NOWHERE if verb == "Delete" else at, i + 1))
            i += 1
            if i < len(lines) and not _HUNK.match(lines[i]) and lines[i][:1] in ("+", "-", " "):
                i = _read_hunk(lines, i - 1, files[-1], first)
        elif _HUNK.match(line) and (files or path):
            if not files:
                files.append(_File(path, path, i))
            i = _read_hunk(lines, i, files[-1], first)
        else:
            i += 1
    return [file for file in files if file.hunks or _NOWHERE in (file.old, file.new)]


def _skip_noise(lines: Sequence[str], i: int, file: _File) -> int:
    while i < len(lines) and _NOISE.match(lines[i]):
        if lines[i].startswith("new file"):
            file.old = _NOWHERE
        elif lines[i].startswith("deleted file"):
            file.new = _NOWHERE
        i += 1
    return i


def _read_hunk(lines: Sequence[str], head: int, file: _File, first: int) -> int:
    """Add the hunk whose head is on that line to the file; the index of the line after it."""
    m = _HUNK.match(lines[head]) if head >= 0 else None
    number = int(m["old"] or 0) + (m["count"] == "0") if m else 0
    section = (m["section"] or m["after"] or "").strip() if m else ""
    hunk: list[str] = []
    i = head + 1
    while i < len(lines):
        line = lines[i]
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if _HUNK.match(line) or _GIT.match(line) or _OTHER.match(line) or _END.match(line):
            break
        if _OLD.match(line) and _NEW.match(following):
            break
        if line.startswith("\\") or line.startswith("*** End"):
            i += 1
            continue
        if line[:1] not in (" ", "+", "-", "\t", ""):
            if not _goes_on(lines, i):
                break
            line = f" {line}"  # the model left the space before a line of context out
        hunk.append(f" {line}" if line[:1] in ("\t", "") else line)
        i += 1
    while hunk and hunk[-1] == " " and (i >= len(lines) or not lines[i - 1].strip()):
        hunk.pop()  # blank lines after the diff
    if hunk:
        file.hunks.append(_Hunk(number, section, first + head, hunk))
    return i


def _goes_on(lines: Sequence[str], i: int) -> bool:
    """Whether the hunk has more changed lines after an odd one."""
    for line in lines[i + 1 :]:
        if _HUNK.match(line) or _GIT.match(line) or _OTHER.match(line) or _END.match(line):
            return False
        if re.match(r"^[+-](?![+-]{2} )", line) and not re.match(r"^[-+] ?$|^- \w", line):
            return True
    return False


def _block(hunk: _Hunk) -> Block:
    search = [one[1:] for one in hunk.lines if one[0] in " -"]
    replace = [one[1:] for one in hunk.lines if one[0] in " +"]
    return Block(
        search="\n".join(search),
        replace="\n".join(replace),
        line=hunk.line,
        at=hunk.at,
        section=hunk.section,
        loose=True,
    )
