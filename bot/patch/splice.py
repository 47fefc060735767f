"""Whole definitions put into a file by its syntax tree, in the place of those of the same names. Pure.

What the model leaves out of one stays: decorators, `export`, visibility, attributes, comments above it, its docstring,
the members of a class that it does not show. A name that is not there is a new definition; imports beside a
definition are merged into the file's.
"""

import difflib
import itertools
import re
from dataclasses import dataclass

from bot.patch.imports import imports, with_imports
from bot.patch.kept_parts import kept_docstring, with_kept_head
from bot.patch.namesakes import Ambiguous, names_in, namesake, normalised_name
from bot.patch.placeholders import is_stub, placeholder, without_placeholders
from bot.patch.redefine import NotDefined, defines, redefined
from bot.patch.reindent import indent, reindented
from bot.patch.syntax_tree import COMMENTS, LARGEST, Defined, Language, Source, Span, language_of, parsed_part

_DECLARED = ("function_declaration", "generator_function_declaration")  # JavaScript's
_NEAR = 0.75  # of `difflib`: a name so close to another is taken for a slip of the pen


@dataclass(frozen=True)
class _Part:
    """One definition of the new text, with the text's own tree."""

    source: Source
    new: Defined
    name: tuple[str, ...]  # as the model calls it, owners first


def placed(path: str, text: str, new: str, name: str = "", line: int = 0) -> str:
    """The file's text (with line feeds alone) with the new text's definitions in it, as of `spliced`.

    In a language without a grammar here, and in a file that its grammar can't read, definitions are found by their
    indentation (`bot.patch.redefine`). Raises `NotDefined`.
    """
    language = language_of(path)
    if language is not None and max(len(text), len(new)) <= LARGEST:
        try:
            return spliced(language, text, new, name, line)
        except NotDefined:
            if not Source(language, text).root.has_error:
                raise
    if not defines(new):
        raise NotDefined("the new text is no definition\nUse a SEARCH/REPLACE block for it.")
    return redefined(text, new, language == "python")


def spliced(language: Language, text: str, new: str, name: str = "", line: int = 0) -> str:
    """The file's text (with line feeds alone) with the new text's definitions in it.

    `name`: of the definition that the new text takes the place of, with its owners or without; "": the new text's own
    names say. `line`: in which it begins, to tell it from others of that name. Raises `NotDefined`.
    """
    source = parsed_part(language, without_placeholders(language, new.strip("\n") + "\n", text))
    tops = source.tops
    added = [source.text(span) for span in imports(source)]
    if source.root.has_error:
        shown = new.strip("\n").split("\n")[max(0, source.broken_line - 1) :][:1]
        raise NotDefined(
            f"the new text does not parse\nLook at its line {source.broken_line}: {''.join(shown).strip()[:200]}"
        )
    if not tops and not added:
        raise NotDefined("the new text defines no function, class or constant\nWrite a definition as a whole.")
    if found := placeholder(source, text):
        raise NotDefined(f"the new text leaves lines out: {found[:80]}\nNothing is filled in: write out every line.")
    whole = len(tops) == 1
    asked = normalised_name(name)
    result, pending = text, []
    anchor: str = ""
    for top in tops:
        named = asked if asked and (whole or asked[-1] == top.name) else (*top.owners, top.name)
        part = _Part(source, top, named)
        alike = [other for other in tops if other.name == top.name and other.kind == top.kind]
        if len(alike) > 1 and (run := _run(Source(language, text), named, source, alike)):
            if top is alike[0]:
                result = run if result == text else _run(Source(language, result), named, source, alike) or result
            anchor = top.name
            continue
        placed = _replaced(language, result, part, line if whole else 0)
        if placed is None:
            pending.append((part, anchor))
        else:
            result = placed
        anchor = top.name
    for part, after in pending:
        result = _inserted(language, result, part, after, [top.name for top in tops])
    result = with_imports(Source(language, result), added) if added else result
    after_all, before = Source(language, result), Source(language, text)
    if after_all.root.has_error and not before.root.has_error:
        raise NotDefined(f"the file would not parse with the new text\nLook at its line {after_all.broken_line}.")
    return result


def _replaced(language: Language, text: str, part: _Part, line: int) -> str | None:
    """The text with the part in the place of its namesake; None if there is none."""
    file = Source(language, text)
    try:
        old = namesake(file, part.source, part.new, part.name, line)
    except Ambiguous as error:
        raise NotDefined(str(error)) from None
    if old is None:
        return None
    if old.node.has_error:
        raise NotDefined(f"{old.full_name} does not parse as it is now\nUse a SEARCH/REPLACE block for it.")
    members = part.source.members(part.new) if old.kind == "class" else []
    has = [d for d in file.members(old) if d.kind != "value"] if old.kind == "class" else []
    if old.kind == "class" and has and part.new.kind == "class":
        return _with_members(language, text, file, part, old)
    if old.kind == "class" and part.new.kind != "class" and part.new.name == old.name and has:
        raise NotDefined(f"{old.name} is a class\nWrite the member that changes under the name {old.name}.NAME.")
    if is_stub(part.source, part.new) and not is_stub(file, old) and not members:
        raise NotDefined(f"the new text of {old.name} has no body\nNothing is filled in: write out every line.")
    return _put(file, part, old)


def _run(file: Source, name: tuple[str, ...], source: Source, new: list[Defined]) -> str:
    """The file's text with overloads, which follow one another there and in the new text; "" where that is not so."""
    old = [d for d in file.definitions if (*d.owners, d.name)[-len(name) :] == name and d.kind == new[0].kind]
    if len(old) < 2 or len(old) == len(new) or {d.parent for d in old} != {old[0].parent}:
        return ""
    between = [d for d in file.definitions if old[0].outer.start < d.outer.start < old[-1].outer.start]
    if any(d not in old and d.parent == old[0].parent for d in between):
        return ""
    target, taken = Span(old[0].outer.start, old[-1].outer.end), Span(new[0].outer.start, new[-1].outer.end)
    moved = _moved(source, taken, file, target)
    return file.text(Span(0, target.start)) + moved + file.text(Span(target.end, len(file.data)))


def _with_members(language: Language, text: str, file: Source, part: _Part, old: Defined) -> str:
    """The class with the members that are shown; it keeps those that are not."""
    shown, there = part.source.members(part.new), file.members(old)
    functions = {d.name for d in there if d.kind != "value"}
    if functions <= {d.name for d in shown} and not any(is_stub(part.source, d) for d in shown):
        return _put(file, part, old)
    if not shown:
        names = ", ".join(sorted(functions)[:5])
        raise NotDefined(f"{old.name} would lose {names}\nWrite the members that change within it.")
    full = (*old.owners, old.name)
    text = _with_head(file, part, old)
    anchor = ""
    for member in shown:
        current = Source(language, text)
        owner = _again(current, old)
        mine = _Part(part.source, member, (*full, member.name))
        try:
            found = namesake(current, part.source, member, mine.name, 0, within=owner)
        except Ambiguous as error:
            raise NotDefined(str(error)) from None
        if found is None:
            text = _inserted(language, text, mine, anchor, [])
        elif not is_stub(part.source, member) or is_stub(current, found):
            text = _put(current, mine, found)
        anchor = member.name
    return text


def _again(file: Source, old: Defined) -> Defined:
    """The definition in the file as it is now: that of the same name and kind which begins nearest."""
    same = [d for d in file.definitions if d.full_name == old.full_name and d.node.type == old.node.type]
    return min(same, key=lambda d: abs(d.line - old.line))


def _with_head(file: Source, part: _Part, old: Defined) -> str:
    """The file's text with the class's first lines as the new text has them."""
    new = part.new
    text = file.data.decode("utf-8", "surrogatepass")
    if old.body is None or new.body is None or old.node.type != new.node.type:
        return text
    was = file.text(Span(old.core.start, old.body.start))
    becomes = part.source.text(Span(new.core.start, new.body.start))
    becomes = with_kept_head(part.source, new, file, old, becomes)
    if was.split() == becomes.split():
        return text
    head = was[len(was.rstrip()) :]
    return (
        file.text(Span(0, old.core.start)) + becomes.rstrip() + head + file.text(Span(old.body.start, len(file.data)))
    )


def _put(file: Source, part: _Part, old: Defined) -> str:
    """The file's text with the part in the place of `old`."""
    span, new_text = _spans(part.source, part.new, file, old)
    return file.text(Span(0, span.start)) + new_text + file.text(Span(span.end, len(file.data)))


def _spans(source: Source, new: Defined, file: Source, old: Defined) -> tuple[Span, str]:
    """What of the file is replaced, and by which text."""
    if old.grouped or (new.grouped and old.core == old.bare):
        target, taken = old.core, new.core
    else:
        wrapped = new.outer != new.bare
        target = old.outer if wrapped else old.bare
        taken = new.outer
    value = old.node.child_by_field_name("right") or old.node.child_by_field_name("value")
    if value is not None and old.node.type in ("assignment_expression", "pair") and new.node.type in _DECLARED:
        target, taken = Span(value.start_byte, value.end_byte), new.bare  # `exports.f = function ...` stays exported
    body = _moved(source, taken, file, target)
    if old.node.type in ("assignment_expression", "variable_declarator") and file.text(target).endswith(";"):
        body = body.rstrip(";") + ";"
    body = with_kept_head(source, new, file, old, body)
    body = kept_docstring(file.language, body, file.text(target), indent=file.indent(target.start))
    if target != old.outer or new.lead == new.outer.start:
        return target, body
    return _with_lead(source, new, file, old, target, body)


def _with_lead(source: Source, new: Defined, file: Source, old: Defined, target: Span, body: str) -> tuple[Span, str]:
    """The same with the comments and attributes above: the new ones, where they continue the old ones."""
    there = file.indent(target.start)
    above = source.text(Span(new.lead, new.outer.start))
    attributes = source.text(Span(new.attributes, new.outer.start)) if new.attributes < new.outer.start else ""
    was = file.text(Span(old.lead, target.start))
    comments_only = not attributes and old.attributes < old.outer.start
    if comments_only or not _continues(above, was):
        if not attributes:
            return target, body
        start = old.attributes if old.attributes < old.outer.start else target.start
        lines = [line.strip() for line in attributes.split("\n")]
        return Span(start, target.end), f"\n{there}".join(lines[:-1]) + f"\n{there}" + body
    lines = [line.strip() for line in above.rstrip().split("\n")]
    gap = " " if any(line.startswith("*") for line in lines) else ""
    moved = f"\n{there}".join(gap + line if line.startswith("*") else line for line in lines)
    end = above[len(above.rstrip()) :]
    joint = f"\n{there}" if "\n" in end or not end else end
    return Span(old.lead, target.end), moved + joint + body


def _continues(above: str, was: str) -> bool:
    """Whether the comments above a new definition are those of the old one, changed, and not a model's remark."""
    plain = " ".join(above.split())
    before = " ".join(was.split())
    if not before:
        return False
    return before in plain or difflib.SequenceMatcher(None, before, plain, autojunk=False).ratio() > 0.5


def _moved(source: Source, taken: Span, file: Source, target: Span | None, there: str = "", like: str = "") -> str:
    """The new text at the indentation of its place."""
    if target is not None:
        there, like = file.indent(target.start), file.text(target)
    first_line = source.data.count(b"\n", 0, taken.start)
    lines = source.text(taken).split("\n")
    kept: set[int] = set()
    for node in source.within_strings(taken):
        rows = range(node.start_point.row - first_line + 1, node.end_point.row - first_line + 1)
        words = (node.text or b"").decode("utf-8", "surrogatepass")
        deep = source.indent(taken.start) + " "
        outside = [i for i in rows if 0 <= i < len(lines) and lines[i].strip() and not lines[i].startswith(deep)]
        if words in like or (outside and not _is_docstring(node)):
            kept.update(rows)
    beside = [there + like, *like.split("\n")[1:]]
    moved = reindented(
        lines, source.indent(taken.start), there, like=beside, kept=kept, closes=source.language != "python"
    )
    return "\n".join(moved)


def _is_docstring(node: object) -> bool:
    parent = getattr(node, "parent", None)
    return parent is not None and parent.type == "expression_statement"


# -- new definitions -------------------------------------------------------------------------------------------------


def _inserted(language: Language, text: str, part: _Part, after: str, beside: list[str]) -> str:
    """The text with a definition that it does not have. `after`: the name of the one before it in the new text."""
    file = Source(language, text)
    *owners, name = part.name
    owner = _owner(file, owners) if language != "go" else None  # its methods are not within their type
    if owners and owner is None and language != "go":
        raise NotDefined(f"there is no {'.'.join(owners)}\n{_near(file, owners[-1])}Name a class that is there.")
    _check_slip(file, part, name, beside)
    siblings = file.members(owner) if owner is not None else file.tops
    place = next((d for d in siblings if d.name == after), None)
    if place is None and owner is None and after == "" and part.new.kind != "function":
        return _at_head(file, part)
    if place is None:
        place = _last(file, part, siblings, owner)
    there = file.indent(place.outer.start) if place is not None else _member_indent(file, owner)
    begin = Span(part.new.lead, part.new.outer.end)
    like = file.text(place.outer) if place is not None else ""
    new = _moved(part.source, begin, file, None, there, like)
    if place is None:
        return _into_empty(file, owner, there + new)
    gap = _gap(file, siblings, place, owner)
    end = place.outer.end
    end += len(re.match(rb"[ \t]*[;,]?[^\n]*", file.data[end:])[0])  # type: ignore[index]  # it always matches
    return file.text(Span(0, end)) + gap + there + new.rstrip() + file.text(Span(end, len(file.data)))


def _owner(file: Source, owners: list[str]) -> Defined | None:
    """The class, or Rust's `impl`, that the owners name."""
    found = [
        d
        for d in file.definitions
        if d.kind == "class" and (*d.owners, d.name)[-len(owners) :] == tuple(owners) and d.node.type != "struct_item"
    ]
    plain = [d for d in found if d.node.child_by_field_name("trait") is None]
    return (plain or found)[-1] if owners and found else None


def _check_slip(file: Source, part: _Part, name: str, beside: list[str]) -> None:
    """Raise `NotDefined` for a name that is nearly one of the file's and that nothing uses."""
    near = [n for n in names_in(file) if difflib.SequenceMatcher(None, n, name).ratio() >= _NEAR and n not in beside]
    outside = part.source.text(Span(0, part.new.lead)) + part.source.text(
        Span(part.new.outer.end, len(part.source.data))
    )
    used = re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", file.data.decode("utf-8", "replace") + outside)
    if near and not used:
        raise NotDefined(
            f"there is no {name}\nDid you mean {', '.join(near[:3])}? Write functions and classes under the names that "
            "they have now. A new one is called by something in the same edit."
        )


def _near(file: Source, name: str) -> str:
    near = difflib.get_close_matches(name, names_in(file), n=3, cutoff=0.5)
    return f"Did you mean {', '.join(near)}? " if near else ""


def _last(file: Source, part: _Part, siblings: list[Defined], owner: Defined | None) -> Defined | None:
    """The definition after which a new one goes that has no neighbour in its own text."""
    if file.language == "go" and owner is None and len(part.name) > 1:
        siblings = [d for d in siblings if part.name[0] in (d.name, *d.owners)] or siblings
    first = file.indent(siblings[0].outer.start) if siblings else ""
    siblings = [d for d in siblings if file.indent(d.outer.start) == first]  # not those in Ruby's `class << self`
    same = [d for d in siblings if d.kind == part.new.kind] or [d for d in siblings if d.kind != "value"] or siblings
    return same[-1] if same else None


def _at_head(file: Source, part: _Part) -> str:
    """A constant or a class that comes first in its text goes before the first function or class."""
    new = _moved(part.source, Span(part.new.lead, part.new.outer.end), file, None)
    first = next((d for d in file.tops if d.kind != "value"), None)
    text = file.data.decode("utf-8", "surrogatepass")
    if first is None:
        return f"{text.rstrip()}\n\n{new.rstrip()}\n" if text.strip() else f"{new.rstrip()}\n"
    gap = "\n\n\n" if file.language == "python" else "\n\n"
    return file.text(Span(0, first.lead)) + new.rstrip() + gap + file.text(Span(first.lead, len(file.data)))


def _member_indent(file: Source, owner: Defined | None) -> str:
    if owner is None:
        return ""
    return indent(file.indent(owner.outer.start)) + ("\t" if file.language == "go" else "    ")


def _into_empty(file: Source, owner: Defined | None, new: str) -> str:
    """The text with the definition at its end, or at the end of a class without members."""
    text = file.data.decode("utf-8", "surrogatepass")
    if owner is None:
        above = f"{text.rstrip()}\n\n\n" if text.strip() else ""
        return f"{above}{new.rstrip()}\n"
    body = owner.body
    if body is None:
        raise NotDefined(f"{owner.name} has no body\nUse a SEARCH/REPLACE block for it.")
    if file.language in ("python", "ruby"):
        before = file.text(Span(0, body.end)).rstrip()
        gap = "\n\n"
    else:
        before = file.text(Span(0, body.end - 1)).rstrip()
        gap = "\n"
    rest = file.text(Span(len(before.encode("utf-8", "surrogatepass")), len(file.data)))
    closing = "" if rest.startswith("\n") else f"\n{file.indent(owner.outer.start)}"
    return before + gap + new.rstrip() + closing + rest.lstrip(" ")


def _gap(file: Source, siblings: list[Defined], place: Defined, owner: Defined | None) -> str:
    """The line feeds between two definitions there, as the file has them."""
    gaps = []
    for one, other in itertools.pairwise(siblings):
        between = file.text(Span(one.outer.end, other.lead))
        if not between.strip(" \t\n;,") and one.kind == other.kind == place.kind:
            gaps.append(between.count("\n"))
    usual = 3 if file.language == "python" and owner is None and place.kind != "value" else 2
    return "\n" * (max(set(gaps), key=gaps.count) if gaps else usual)


def defines_by_tree(language: Language | None, text: str) -> bool:
    """Whether the text consists of definitions, with imports and comments beside them."""
    if language is None:
        return False
    source = parsed_part(language, text)
    if source.root.has_error or not source.tops:
        return False
    known = [top.outer for top in source.tops] + imports(source)
    loose = [
        node
        for node in source.root.named_children
        if node.type not in COMMENTS and not any(s.start < node.end_byte and node.start_byte < s.end for s in known)
    ]
    return not loose
