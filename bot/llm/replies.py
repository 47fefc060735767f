"""Parses a model's replies into records, or into a `Problem` that says what was wrong and where. Pure.

Replies consist of these tags, each at the beginning of a line:

    <relevant>summary</relevant>   <irrelevant/>   <ranking> a path a line </ranking>
    <test path="repro.py"> script </test>   <approve/>   <done/>   <choose>2</choose>
    <edit path="pkg/mod.py"> one or more blocks `<<<<<<< SEARCH` / `=======` / `>>>>>>> REPLACE` </edit>
    <edit path="pkg/mod.py"> whole definitions, to replace those of the same names </edit>
    <create path="new.py"> text </create>   <delete path="old.py"/>

Accepted too: prose around the tags, code fences in or around them, missing quotes, CRLF, a missing end tag in a reply
that was not cut off, a last tag without its `>`, `<done/>` for `<approve/>` and the other way round, blocks without
<edit> below a line with their path. Of several drafts the last complete one counts. Tags within a line count only if no
line begins with one.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from bot.llm.elements import FINE, REPLACE, SEARCH, Element, elements, finished, untagged
from bot.llm.readings import named_paths
from bot.llm.test_script import completed
from bot.patch.apply import Block, Create, Delete, FileEdit, Problem, Redefine, Replace
from bot.patch.matching import unnumbered
from bot.patch.redefine import defines
from bot.records import Record, Reply, Test

DEFAULT_TEST_PATH = "test_issue.py"
CUT_OFF = "the reply was cut off at its token limit before it was complete"

_DIVIDER = re.compile(r"^\s*={7}\s*$")
_LOOSE_DIVIDER = re.compile(r"^\s*={4,}\s*$")
_FINE_WORDS = ("approve", "approved", "i approve", "done", "i am done", "lgtm", "looks good", "looks good to me")
_IMPORTED = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))|import_module\([\"'](\w+)", re.MULTILINE)
_FENCE = re.compile(r"^\s*(```|~~~)[\w+.-]*\s*$")


class Relevance(Record):
    relevant: bool
    summary: str = ""


class Ranking(Record):
    paths: tuple[str, ...]  # known ones, best first, each once


class Turn(Record):
    """What one reply asks for. At least one field is set."""

    test: Test | None = None
    edits: tuple[FileEdit, ...] = ()
    approve: bool = False
    done: bool = False
    choice: int | None = None  # from 1


def parse_relevance(reply: Reply) -> Relevance | Problem:
    """The last verdict in the reply, even if its summary was cut off."""
    text = _text(reply)
    found = list(
        re.finditer(
            r"<(irrelevant)\s*/?>|<(relevant)\s*>(.*?)(?:</relevant\s*>|(?=<(?:ir)?relevant\b)|\Z)", text, re.DOTALL
        )
    )
    if found:
        last = found[-1]
        return Relevance(relevant=last[1] is None, summary=" ".join((last[3] or "").split()))
    bare = text.strip().strip("*_`.<>/ ").lower()
    if re.match(r"(irrelevant|not relevant|no\b)", bare):
        return Relevance(relevant=False)
    if re.match(r"(relevant|yes\b)", bare):
        summary = re.sub(r"^\W*(relevant|yes)\b[\s:.,*-]*", "", text.strip(), flags=re.IGNORECASE)
        return Relevance(relevant=True, summary=" ".join(summary.split()))
    return _missing(reply, "no <relevant> or <irrelevant/> found")


RANKING = "<ranking>\n"  # what a ranking begins with


def parse_ranking(reply: Reply, known: Sequence[str]) -> Ranking | Problem:
    """The known paths in the order in which the last `<ranking>` (else the whole reply) names them."""
    text = _text(reply)
    inner = re.findall(r"<ranking\s*>(.*?)(?:</ranking\s*>|(?=<ranking\s*>)|\Z)", text, re.DOTALL)
    paths = named_paths((inner[-1] if inner else text).split("\n"), known)
    if paths:
        return Ranking(paths=paths)
    return _missing(reply, "no <ranking> found" if not inner else "the <ranking> names no file that was shown")


def parse_test_turn(reply: Reply, *, written: bool = True) -> Turn | Problem:
    """For the test machine: a test, or the approval of the last one, or both. `written`: whether there is one."""
    return _turn(
        reply,
        wants=("test", *FINE),
        missing=f"no <test> found\nWrite <test path=...> script </test>{', or <approve/>' if written else ''}.",
    )


def parse_edit_turn(reply: Reply, *, applied: bool = True) -> Turn | Problem:
    """For the edit machine: edits, a new test, both, or done. `applied`: whether there is an edit that applies."""
    return _turn(
        reply,
        wants=("edit", "test", *FINE),
        missing="no <edit> found\n"
        f"Write <edit>, <create> or <delete>{', or <test>, or <done/>' if applied else ', or <test>'}.",
    )


def parse_choice_turn(reply: Reply) -> Turn | Problem:
    """For the selection: a new test, or a choice."""
    return _turn(
        reply,
        wants=("choose", "test"),
        missing="no <choose> or <test> found\nWrite <choose>NUMBER</choose>, or <test>.",
    )


def parse_deliberation_turn(reply: Reply) -> Turn | Problem:
    """For a selection that may write patches, too: a test, a choice, or edits."""
    return _turn(
        reply,
        wants=("choose", "test", "edit"),
        missing="no <choose> or <test> found\nWrite <choose>NUMBER</choose>, <choose>none</choose>, <test>, <edit>, "
        "<wrong test=...> or <show>.",
    )


# -- the reader ------------------------------------------------------------------------------------------------------


def _text(reply: Reply) -> str:
    text = reply.text.lstrip("\ufeff\u200b").replace("\r\n", "\n").replace("\r", "\n")
    return finished(text, reply.cut_off)


def _missing(reply: Reply, what: str) -> Problem:
    if reply.cut_off:
        return Problem(text=f"{CUT_OFF}\nAnswer more briefly.")
    if not reply.text.strip():
        first, _, hint = what.partition("\n")
        return Problem(text=f"{first}\nThe reply was empty. {hint}".rstrip())
    return Problem(text=what)


def _turn(reply: Reply, wants: Sequence[str], missing: str) -> Turn | Problem:
    text = _text(reply)
    lines = text.split("\n")
    names = [name for want in wants for name in (("edit", "create", "delete") if want == "edit" else (want,))]
    found = elements(lines, names, inline=False) or elements(lines, names, inline=True)
    if "edit" in wants and not any(e.name in ("edit", "create", "delete") for e in found):
        found += untagged(lines)
    edits: tuple[FileEdit, ...] = ()
    test: Test | None = None
    if "edit" in wants:
        # More edits may be missing from a reply that was cut off, and a part of a patch is not a patch.
        parts = [e for e in found if e.name in ("edit", "create", "delete")]
        before = _before_a_loop(parts) if reply.cut_off else parts
        read = _edits(before, reply.cut_off and len(before) == len(parts))
        if isinstance(read, Problem):
            return read
        edits = read
    tests = [e for e in found if e.name == "test" and any(line.strip() for line in e.lines)]
    whole = [e for e in tests if e.closed] or ([] if reply.cut_off else tests)
    if whole:
        test = _test(whole[-1])
    elif tests and not edits:
        return Problem(text=f"the <test> is not closed\n{CUT_OFF}. Write a shorter script, and end it with </test>.")
    chosen = [int(m[0]) for e in found if e.name == "choose" and (m := re.search(r"\d+", " ".join(e.lines)))]
    said = {e.name for e in found}
    bare = re.sub(r"[\W_]+", " ", text).strip().lower()
    # One step says `<approve/>`, the other `<done/>`: models take either for the other.
    fine = "done" in wants and (not said.isdisjoint(FINE) or bare in _FINE_WORDS)
    approve, done = fine and "edit" not in wants, fine and "edit" in wants
    if chosen:
        return Turn(choice=chosen[-1], test=test)
    if edits or test:
        return Turn(edits=edits, test=test, approve=approve, done=done)
    if approve or done:
        return Turn(approve=approve, done=done)
    if "edit" in wants and re.search(r"^(@@ -\d|--- a/)", text, re.MULTILINE) and not reply.cut_off:
        return Problem(text="no <edit> found\nA diff can't be used: write <edit> with SEARCH and REPLACE blocks.")
    return _missing(reply, missing)


def _body(lines: Sequence[str], path: str = "") -> list[str]:
    """The lines without blank lines at either end and without a code fence around them all."""
    body = list(lines)
    if body and any(line.strip() for line in body) and "".join(body).strip().startswith("<![CDATA["):
        body = "\n".join(body).strip().removeprefix("<![CDATA[").removesuffix("]]>").split("\n")
    while body and not body[0].strip():
        body.pop(0)
    while body and not body[-1].strip():
        body.pop()
    if len(body) >= 2 and _FENCE.match(body[0]) and _FENCE.match(body[-1]):
        # A Markdown file may consist of one block of code, unless the block holds a title.
        prose = path.endswith((".md", ".rst")) and not (len(body) > 2 and body[1].startswith("# "))
        return body if prose else body[1:-1]
    fences = [i for i, line in enumerate(body) if _FENCE.match(line)]
    if len(fences) == 1 and len(body) > 1 and not path.endswith((".md", ".rst")):  # one that has no other half
        return body[1:] if fences == [0] else body[:-1] if fences == [len(body) - 1] else body
    return body


def _test(element: Element) -> Test:
    text = "\n".join(_body(element.lines)) + "\n"
    # only the name: the sandbox decides on the folder
    name = PurePosixPath(element.path.replace("\\", "/")).name
    if not re.fullmatch(r"[\w][\w.+-]{0,99}", name):
        shell = re.match(r"#!.*\b(sh|bash|dash|zsh)\b", text)
        name = "test_issue.sh" if shell else DEFAULT_TEST_PATH
    name = _unlike_modules(name, text)
    return Test(path=name, text=completed(name, text))


def _unlike_modules(name: str, text: str) -> str:
    """The script's name, changed where the script would be imported in place of a module of that name."""
    stem, dot, ending = name.rpartition(".")
    if ending != "py":
        return name
    imported = {
        module.split()[0].partition(".")[0]
        for package, modules, named in _IMPORTED.findall(text)
        for module in (package, *modules.split(","), named)
        if module.strip()
    }
    shadowed = imported | (sys.stdlib_module_names - {"test"})
    while stem in shadowed:
        stem = f"test_{stem}"
    return f"{stem}{dot}{ending}"


def _before_a_loop(parts: Sequence[Element]) -> Sequence[Element]:
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


def _edits(parts: Sequence[Element], cut_off: bool) -> tuple[FileEdit, ...] | Problem:
    edits: list[FileEdit] = []
    marked = any(SEARCH.match(line) for element in parts for line in element.lines)
    passing: Problem | None = None  # a tag in prose, or a draft without blocks: ignored if there is a complete edit
    for element in parts:
        where = f"<{element.name}> on line {element.line} of your reply"
        started = element.name != "edit" or any(SEARCH.match(line) for line in element.lines)
        if cut_off and not element.closed:
            return Problem(text=f"{CUT_OFF}\nThe {where} is not closed. Change less, or fewer lines at a time.")
        read: FileEdit | Problem
        if not element.path:
            read = Problem(text=f'the <{element.name}> has no path\n{where}: write <{element.name} path="...">.')
        elif element.name == "delete":
            read = Delete(path=element.path)
        elif element.name == "create":
            read = Create(path=element.path, text="\n".join(_body(element.lines, element.path)))
        elif not marked and defines(whole := "\n".join(unnumbered(_body(element.lines, element.path), [])[0])):
            read = Redefine(path=element.path, text=whole)
        else:
            blocks = _blocks(element)
            read = blocks if isinstance(blocks, Problem) else Replace(path=element.path, blocks=blocks)
        if not isinstance(read, Problem):
            edits.append(read)
        elif started:
            return read
        else:
            passing = read
    return passing if passing and not edits else tuple(edits)


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
    if len(lines) >= 2 and _FENCE.match(lines[0]) and _FENCE.match(lines[-1]):
        return lines[1:-1]
    return lines
