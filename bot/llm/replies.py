"""Parses a model's replies into records, or into a `Problem` that says what was wrong and where. Pure.

Replies consist of these tags, each at the beginning of a line:

    <relevant>summary</relevant>   <irrelevant/>   <ranking> a path a line </ranking>
    <test path="repro.py"> script </test>   <approve/>   <done/>   <choose>2</choose>
    <edit path="pkg/mod.py"> one or more blocks `<<<<<<< SEARCH` / `=======` / `>>>>>>> REPLACE` </edit>
    <define path="pkg/mod.py" name="Class.method"> the whole new text of a definition, imports beside it </define>
    <file path="pkg/mod.py"> the whole new text of a file </file>   <diff> a unified diff </diff>
    <create path="new.py"> text </create>   <delete path="old.py"/>

Accepted too: prose around the tags, code fences in or around them, missing quotes, CRLF, a missing end tag in a reply
that was not cut off, a last tag without its `>`, `<done/>` for `<approve/>` and the other way round, blocks without
<edit> below a line with their path, whole definitions in <edit>, a diff in <edit> or without a tag. Of several drafts
the last complete one counts. Tags within a line count only if no line begins with one.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from bot.llm.edits_in_reply import CUT_OFF, before_a_loop, edits_of
from bot.llm.elements import EDITS, FINE, Element, elements, finished, inner_lines, untagged
from bot.llm.other_forms import in_our_form
from bot.llm.readings import named_paths
from bot.llm.test_script import completed
from bot.patch.edits import FileEdit, Problem
from bot.patch.entities import unescaped_code
from bot.patch.unified_diff import diff_edits, is_diff
from bot.records import Record, Reply, Test

DEFAULT_TEST_PATH = "test_issue.py"

_FINE_WORDS = ("approve", "approved", "i approve", "done", "i am done", "lgtm", "looks good", "looks good to me")
_IMPORTED = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))|import_module\([\"'](\w+)", re.MULTILINE)


_NUMBER = re.compile(r"(?<!\d)\d{1,6}(?!\d)")


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


def parse_edit_turn(reply: Reply, *, applied: bool = True, tag: str = "edit") -> Turn | Problem:
    """For the edit machine: edits, a new test, both, or done. `applied`: whether there is an edit that applies.

    `tag`: in which edits are asked for.
    """
    asked = "<edit>, <create> or <delete>" if tag == "edit" else f"<{tag}>"
    return _turn(
        reply,
        wants=("edit", "test", *FINE),
        missing=f"no <{tag}> found\nWrite {asked}{', or <test>, or <done/>' if applied else ', or <test>'}.",
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
    text = in_our_form(_text(reply), [*EDITS, "test", "choose"])
    lines = text.split("\n")
    names = [name for want in wants for name in (EDITS if want == "edit" else (want,))]
    found = elements(lines, names, inline=False) or elements(lines, names, inline=True)
    if "edit" in wants and not any(e.name in EDITS for e in found):
        found += untagged(lines)
    if "test" in wants and "edit" not in wants and not found:  # a test is a new file
        written = [e for e in elements(lines, ("create", "file"), inline=False) if e.closed and e.path]
        found += [e.model_copy(update={"name": "test"}) for e in written[-1:]]
    edits: tuple[FileEdit, ...] = ()
    test: Test | None = None
    if "edit" in wants:
        # More edits may be missing from a reply that was cut off, and a part of a patch is not a patch.
        parts = [e for e in found if e.name in EDITS]
        before = before_a_loop(parts) if reply.cut_off else parts
        read = edits_of(before, reply.cut_off and len(before) == len(parts))
        if isinstance(read, Problem):
            return read
        bare_diff = not parts and not reply.cut_off and is_diff(lines)
        edits = tuple(diff_edits(lines)) if bare_diff else read
    tests = [e for e in found if e.name == "test" and any(line.strip() for line in e.lines)]
    whole = [e for e in tests if e.closed] or ([] if reply.cut_off else tests)
    if whole:
        test = _test(whole[-1])
    elif tests and not edits:
        return Problem(text=f"the <test> is not closed\n{CUT_OFF}. Write a shorter script, and end it with </test>.")
    chosen = [int(m[0]) for e in found if e.name == "choose" and (m := _NUMBER.search(" ".join(e.lines)))]
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
    if "edit" in wants and is_diff(lines) and not reply.cut_off:
        return Problem(text="the diff names no file\nWrite `--- a/PATH` and `+++ b/PATH` before its hunks.")
    return _missing(reply, missing)


def _test(element: Element) -> Test:
    text = "\n".join(inner_lines(element.lines)) + "\n"
    # only the name: the sandbox decides on the folder
    name = PurePosixPath(element.path.replace("\\", "/")).name
    if not re.fullmatch(r"[\w][\w.+-]{0,99}", name):
        shell = re.match(r"#!.*\b(sh|bash|dash|zsh)\b", text)
        name = "test_issue.sh" if shell else DEFAULT_TEST_PATH
    text = unescaped_code(name, text)
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
