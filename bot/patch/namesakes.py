"""Which definition of a file a rewritten one takes the place of. Pure."""

import re
from collections.abc import Callable, Sequence

from bot.patch.syntax_tree import Defined, Source, Span

_FILLER = re.compile(r"^(?:(?:async|def|class|function|func|fn|pub|public|private|static|struct|impl|type|method)\s+)+")


class Ambiguous(Exception):
    """Several definitions have the name. The message is for the model."""


def normalised_name(name: str) -> tuple[str, ...]:
    """The parts of a name as models write it: `Box.put`, `Box::put`, `Box#put`, `(b *Box) Put`, `def put(self)`."""
    plain = _FILLER.sub("", name.strip().strip("`\"'"))
    if receiver := re.match(r"\(\s*+(?:\w+\s++)?\*?\s*+(\w+)(?:\[[^\]]*\])?\s*+\)\s*+\.?\s*", plain):
        plain = f"{receiver[1]}.{plain[receiver.end() :]}"
    plain = re.sub(r"<locals>\.?|<[^<>]*>|\(.*", "", plain, flags=re.DOTALL).strip(" :{")
    parts = re.split(r"::|[.#/]", plain)
    return tuple(part.strip().lstrip("*&") for part in parts if part.strip() and part not in ("prototype", "self"))


def names_in(file: Source) -> list[str]:
    """The names of the file's definitions, in its order, each once."""
    return list(dict.fromkeys(d.name for d in file.definitions if d.name))


def namesake(
    file: Source, source: Source, new: Defined, name: Sequence[str], line: int, within: Defined | None = None
) -> Defined | None:
    """The definition of the file that `new`, which the model calls `name`, takes the place of; None if there is none.

    `within`: the class that it is a member of. Raises `Ambiguous`.
    """
    if within is not None:
        found = [d for d in file.members(within) if d.name == new.name]
    else:
        found = _named(file, name) or _named(file, (*name, new.name))
        # The owner may be missing from the name, but in the text.
        found = found or (_named(file, (*new.owners, new.name)) if name[-1] != new.name else [])
    if line and len(found) > 1:
        found = [d for d in found if d.line == line or _first_line(file, d) <= line <= d.line] or found
    for narrower in _narrowings(file, source, new):
        if len(found) > 1:
            found = [d for d in found if narrower(d)] or found
    if len(found) > 1:
        fewest = min(len(d.owners) for d in found)
        top = [d for d in found if len(d.owners) == fewest]
        found = top if len(top) == 1 and fewest == 0 else found
    if len(found) > 1:
        places = ", ".join(str(d.line) for d in found[:10])
        names = list(dict.fromkeys(d.full_name for d in found if d.owners))
        hint = f"Name the class, too: {' or '.join(names[:4])}" if len(names) > 1 else f'Add line="{found[0].line}"'
        raise Ambiguous(f"{new.name} is defined {len(found)} times\nOn lines {places}. {hint} to the tag.")
    return found[0] if found else None


def _named(file: Source, name: Sequence[str]) -> list[Defined]:
    wanted = tuple(name)
    ends = [d for d in file.definitions if (*d.owners, d.name)[-len(wanted) :] == wanted]
    if not ends and len(wanted) > 1:  # with the module's name before it
        ends = [d for d in file.definitions if wanted[-len(d.owners) - 1 :] == (*d.owners, d.name)]
        longest = max((len(d.owners) for d in ends), default=0)
        known = {part for d in file.definitions for part in (*d.owners, d.name)}
        ends = [d for d in ends if len(d.owners) == longest and wanted[-longest - 2] not in known]
        ends = [d for d in ends if wanted[-longest - 2][:1].islower()]
    functions = [d for d in ends if d.kind != "value"]
    return functions or ends


def _first_line(file: Source, d: Defined) -> int:
    return file.data.count(b"\n", 0, d.outer.start) + 1


def _narrowings(file: Source, source: Source, new: Defined) -> list[Callable[[Defined], bool]]:
    """What tells namesakes apart, the surest first."""
    head, decorators = _head(source, new), _decorators(source, new)
    parameters, self_ = _parameters(source, new), _takes_self(source, new)
    return [
        lambda d: d.kind == new.kind,
        lambda d: d.node.type == new.node.type,
        lambda d: (d.body is None) == (new.body is None),
        lambda d: _accessor(file, d) == _accessor(source, new),
        lambda d: _decorators(file, d) == decorators,
        lambda d: _head(file, d) == head,
        lambda d: _types(file, d) == _types(source, new),
        lambda d: _parameters(file, d) == parameters,
        lambda d: _takes_self(file, d) == self_,
    ]


def _head(source: Source, d: Defined) -> str:
    end = d.body.start if d.body else d.core.end
    return re.sub(r"\s+", "", source.text(Span(d.core.start, end)))


def _decorators(source: Source, d: Defined) -> str:
    if d.outer == d.bare and d.attributes == d.outer.start:
        return ""
    return re.sub(r"\s+", "", source.text(Span(d.attributes, d.bare.start)))


def _accessor(source: Source, d: Defined) -> str:
    """`get` or `set` of a JavaScript property, `static` of a method."""
    words = re.match(r"(?:(?:static|async|get|set|public|private|protected)\s+)*", source.text(d.core))
    return " ".join(w for w in (words[0].split() if words else ()) if w in ("get", "set", "static"))


def _parameter_text(source: Source, d: Defined) -> str:
    node = d.node.child_by_field_name("parameters")
    return source.text(Span(node.start_byte, node.end_byte)) if node is not None else ""


def _parameters(source: Source, d: Defined) -> int:
    node = d.node.child_by_field_name("parameters")
    return node.named_child_count if node is not None else -1


def _types(source: Source, d: Defined) -> list[str]:
    node = d.node.child_by_field_name("parameters")
    types = [child.child_by_field_name("type") for child in (node.named_children if node is not None else ())]
    return [source.text(Span(t.start_byte, t.end_byte)) for t in types if t is not None]


def _takes_self(source: Source, d: Defined) -> bool:
    return re.match(r"\(\s*(?:&\s*(?:mut\s+)?)?(?:self|cls)\b", _parameter_text(source, d)) is not None
