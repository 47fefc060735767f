"""The edits of a reply, in whichever form they are written, or what is wrong with them. Pure."""

import re
from collections.abc import Sequence
from textwrap import dedent

from bot.llm.elements import FENCE, REPLACE, SEARCH, Element, inner_lines
from bot.patch.edits import Block, Create, Delete, FileEdit, Problem, Redefine, Replace, Rewrite
from bot.patch.entities import unescaped, unescaped_code
from bot.patch.matching import unnumbered
from bot.patch.redefine import defines
from bot.patch.splice import defines_by_tree
from bot.patch.syntax_tree import language_of
from bot.patch.unified_diff import diff_edits, is_diff

CUT_OFF = "the reply was cut off at its token limit before it was complete"

_DIVIDER = re.compile(r"^\s*={7}\s*$")
_LOOSE_DIVIDER = re.compile(r"^\s*={4,}\s*$")


def before_a_loop(parts: Sequence[Element]) -> Sequence[Element]:
    """The elements before the reply began to repeat itself up to its limit; all of them if it did not.

    A small model that is done may repeat itself, with variations of one function: the first is kept.
    """
    said: dict[tuple[str, tuple[str, ...]], Element] = {}
    for element in parts:
        key = element.path, element.lines
        if key in said:
            heads = {(e.path, next(filter(str.strip, e.lines), "")): e for e in reversed(list(said.values()))}
            return [e for e in said.values() if e in heads.values() or any(map(SEARCH.match, e.lines))]
        said[key] = element
    return parts


def edits_of(parts: Sequence[Element], cut_off: bool) -> tuple[FileEdit, ...] | Problem:
    """The edits of the elements of a reply, or the first problem."""
    edits: list[FileEdit] = []
    marked = any(SEARCH.match(line) for element in parts for line in element.lines)
    passing: Problem | None = None  # a tag in prose, or a draft without blocks: ignored if there is a complete edit
    elsewhere = {element.path for element in parts if element.name != "file"}
    for element in parts:
        where = f"<{element.name}> on line {element.line} of your reply"
        written = element.name == "define" and any(map(str.strip, element.lines))
        started = element.name in ("create", "delete") or written or any(map(SEARCH.match, element.lines))
        if cut_off and not element.closed:
            return Problem(text=f"{CUT_OFF}\nThe {where} is not closed. Change less, or fewer lines at a time.")
        if element.name == "file" and (element.path in elsewhere or element.attribute("excerpt")):
            continue  # a file that was shown, repeated beside its edit
        read: Sequence[FileEdit] | Problem
        if not element.path and element.name != "diff":
            read = Problem(text=f'the <{element.name}> has no path\n{where}: write <{element.name} path="...">.')
        else:
            read = _edit(element, marked)
        if not isinstance(read, Problem):
            edits += read
        elif started:
            return read
        else:
            passing = read
    return passing if passing and not edits else tuple(edits)


def _edit(element: Element, marked: bool) -> Sequence[FileEdit] | Problem:
    """The edits of one element. `marked`: whether any of the reply's elements holds a SEARCH block."""
    path = element.path
    if element.name == "delete":
        return (Delete(path=path),)
    text = unescaped_code(path, "\n".join(inner_lines(element.lines, path)))
    if element.name == "create":
        return (Create(path=path, text=text),)
    if element.name == "file" and not any(map(SEARCH.match, element.lines)):
        return (Rewrite(path=path, text=text),)
    own = any(map(SEARCH.match, element.lines))
    if not own and is_diff(element.lines):
        edits = diff_edits(element.lines, path, element.line + 1)
        return edits or Problem(text="the diff names no file\nWrite `--- a/PATH` and `+++ b/PATH` before its hunks.")
    whole = "\n".join(unnumbered(inner_lines(element.lines, path), [])[0])
    if "&" in whole and unescaped_code(path, dedent(whole)) != dedent(whole):
        whole = unescaped(whole)
    if element.name == "define" and not own:
        line = element.attribute("line")
        name = element.attribute("name")
        return (Redefine(path=path, text=whole, name=name, line=int(line) if re.fullmatch(r"\d{1,9}", line) else 0),)
    if element.name == "diff" and not own:
        return Problem(text="the <diff> holds no hunk\nBegin each with a line `@@ ... @@`.")
    if not marked and (defines(whole) or defines_by_tree(language_of(path), whole)):
        return (Redefine(path=path, text=whole),)
    blocks = _blocks(element)
    return blocks if isinstance(blocks, Problem) else (Replace(path=path, blocks=blocks),)


def _blocks(element: Element) -> tuple[Block, ...] | Problem:
    """The SEARCH/REPLACE blocks of an edit."""
    blocks: list[Block] = []
    lines = element.lines
    i = 0
    while i < len(lines):
        if not SEARCH.match(lines[i]):
            i += 1
            continue
        number = element.line + i + 1
        end = next((j for j in range(i + 1, len(lines)) if REPLACE.match(lines[j])), None)
        following = next((j for j in range(i + 1, len(lines)) if SEARCH.match(lines[j])), None)
        if end is None or (following is not None and following < end):
            return Problem(text=f"a block has no >>>>>>> REPLACE\nIt begins on line {number} of your reply.")
        within = lines[i + 1 : end]
        dividers = [j for j, line in enumerate(within) if _DIVIDER.match(line)]
        dividers = dividers or [j for j, line in enumerate(within) if _LOOSE_DIVIDER.match(line)]
        if not dividers:
            return Problem(text=f"a block has no =======\nIt begins on line {number} of your reply.")
        pairs = [("\n".join(_unfenced(within[:j])), "\n".join(_unfenced(within[j + 1 :]))) for j in dividers]
        blocks.append(Block(search=pairs[0][0], replace=pairs[0][1], others=tuple(pairs[1:]), line=number))
        i = end + 1
    if not blocks:
        return Problem(
            text=f"the <edit> of {element.path} holds no SEARCH block\n"
            f"It is on line {element.line} of your reply. A block is:\n"
            "<<<<<<< SEARCH\nlines as they are\n=======\nlines as they should be\n>>>>>>> REPLACE"
        )
    return tuple(blocks)


def _unfenced(lines: Sequence[str]) -> Sequence[str]:
    if len(lines) >= 2 and FENCE.match(lines[0]) and FENCE.match(lines[-1]):
        return lines[1:-1]
    return lines
