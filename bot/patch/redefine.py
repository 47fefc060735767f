"""Rewritten definitions, each put in the place of the one of its name in a file. Pure.

Small models rewrite a function well and copy the lines around a change badly. Definitions are found by indentation in
any language (`bot.patch.definitions`). What the model leaves out is kept: decorators, and the members of a class
that it does not show, with everything outside them. A Python docstring is always kept, since small models invent
another; SEARCH/REPLACE blocks can change it.
"""

import ast
import difflib
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bot.patch.definitions import Definition, definitions
from bot.patch.syntax import parsed
from bot.records import Issue, SourceFile

_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_CODE = re.compile(r"```.*?```|`[^`\n]*`|(?<![\w$])[A-Za-z_$][\w$]*+\(", re.DOTALL)


class NotDefined(Exception):
    """The definition can't be placed. The message says why; a path can be added to it."""


def defines(text: str) -> bool:
    """Whether the text consists of named definitions, which `redefined` can place."""
    lines = text.split("\n")
    found = _tops(definitions(lines))
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    return bool(found) and all(d.name for d in found) and found[0].start <= first


def redefined(text: str, new: str, python: bool) -> str:
    """The file's text (with line feeds alone) with the definitions in `new` in place. Raises `NotDefined`."""
    lines, written = text.split("\n"), new.split("\n")
    mine = definitions(written)
    for top in _tops(mine):
        members = [d for d in mine if d.owners and d.owners[-1] == top.header]
        old = _find(lines, top.name, None)
        has = [d.name for d in definitions(lines) if d.owners and d.owners[-1] == old.header]
        if has and not members:
            names = ", ".join(has[:5])
            raise NotDefined(f"{top.name} would lose {names}\nWrite the members that change within it.")
        if members and set(has) > {d.name for d in members}:
            for member in members:
                lines = _put(lines, written, member, _find(lines, member.name, top.name), python)
        else:
            lines = _put(lines, written, top, old, python)
    return "\n".join(lines)


@dataclass(frozen=True)
class Likely:
    """A definition as an example for a model: its file, its name, and its first line."""

    path: str
    name: str
    header: str

    @property
    def module(self) -> str:
        """The module that Python imports it from; "" for other languages."""
        parts = PurePosixPath(self.path).with_suffix("").parts
        parts = parts[1:] if parts[0] in ("src", "lib") and len(parts) > 1 else parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        return ".".join(parts) if self.path.endswith(".py") else ""


def likely(issue: Issue, files: Sequence[SourceFile]) -> Likely | None:
    """The top-level definition that the issue most likely means, of those that it names.

    One that the title names comes before one that only the body does, as a traceback or an error's text may; then what
    is named more often, and what has the longer name. A word that is code nowhere in the issue may be plain English
    (`first`, `take`, `get`) and comes last.
    """
    titled, said = _NAME.findall(issue.title), Counter(_NAME.findall(f"{issue.title}\n{issue.body}"))
    code = {name for mark in _CODE.findall(f"{issue.title}\n{issue.body}") for name in _NAME.findall(mark)}
    best: tuple[tuple[bool, bool, int, int], Likely] | None = None
    for file in files:
        lines = file.text.split("\n")
        for name, header in ((d.name, d.header) for d in _tops(definitions(lines)) if d.name in said):
            marked = name in code or not name.isalpha() or name[1:] != name[1:].lower()
            key = (marked, name in titled, said[name], len(name))
            if best is None or key > best[0]:
                best = key, Likely(file.path, name, lines[header].rstrip())
    return None if best is None else best[1]


def _tops(found: Sequence[Definition]) -> list[Definition]:
    return [d for d in found if not d.owners]


def _find(lines: list[str], name: str, owner: str | None) -> Definition:
    """The one definition of that name, within `owner` if that is given."""
    known = definitions(lines)
    of = {d.header: d.name for d in known}
    found = [d for d in known if d.name == name and (owner is None or owner in (of.get(h) for h in d.owners))]
    if len(found) > 1 and any(not d.owners for d in found):
        found = _tops(found)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(d.header + 1) for d in found[:10])
        raise NotDefined(f"{name} is defined {len(found)} times\nOn lines {places}. Write the class around it, too.")
    near = difflib.get_close_matches(name, [d.name for d in known if d.name], n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    raise NotDefined(f"there is no {name}\n{hint}Write functions and classes under the names that they have now.")


def _put(lines: list[str], written: list[str], new: Definition, old: Definition, python: bool) -> list[str]:
    """The file's lines with `new` of the written ones in the place of `old`."""
    decorators = [i for i in range(new.start, new.header) if written[i].lstrip().startswith(("@", "#["))]
    begin = decorators[0] if decorators else new.header
    replaced = next(
        (i for i in range(old.start, old.header) if decorators and lines[i].lstrip().startswith(("@", "#["))),
        old.header,
    )
    here, there = _indent(lines[old.header]), _indent(written[new.header])
    block = [here + line.removeprefix(there) if line.strip() else "" for line in written[begin : new.end]]
    if python:
        block = _with_docstring(block, lines[old.header : old.end])
    return [*lines[:replaced], *block, *lines[old.end :]]


def _with_docstring(new: list[str], old: list[str]) -> list[str]:
    """The new lines with the old ones' docstring."""
    was, becomes = _body(old), _body(new)
    if was is None or becomes is None or was[1] is None:
        return new
    kept = old[was[0].lineno - 1 : was[0].end_lineno]
    if becomes[1] is not None:
        assert becomes[0].end_lineno is not None
        return [*new[: becomes[0].lineno - 1], *kept, *new[becomes[0].end_lineno :]]
    return [*new[: becomes[0].lineno - 1], *kept, *new[becomes[0].lineno - 1 :]]


def _body(lines: list[str]) -> tuple[ast.stmt, str | None] | None:
    """A Python definition's first statement, and what it says if it is the docstring; None for what does not parse."""
    try:
        tree = parsed(textwrap.dedent("\n".join(lines)))
    except SyntaxError:
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    first = tree.body[0].body[0]
    if first.lineno == tree.body[0].lineno:  # on the header's own line
        return None
    return first, ast.get_docstring(tree.body[0], clean=False)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
