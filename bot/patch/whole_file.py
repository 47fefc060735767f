"""Guards for a file that a model writes anew as a whole: what it left out by mistake. Pure."""

import re

from bot.patch.definitions import definitions
from bot.patch.placeholders import is_stub, placeholder_line
from bot.patch.syntax_tree import Source, parsed

_FEW = 2  # definitions that may go, as long as nothing uses them
_LEAST = 30  # lines; a shorter file without definitions may be written anew in any way


def left_out(path: str, before: str, after: str) -> str:
    """What the new text of a file leaves out by mistake, in words; "" if nothing is missed."""
    if mark := placeholder_line(after, before):
        return f"leaves lines out: {mark[:80]}\nNothing is filled in: write out every line, or change less with <edit>."
    old, new = _names(path, before), _names(path, after)
    if stubs := _stubs(path, before, after):
        return f"has no body for {', '.join(stubs[:5])}\nNothing is filled in: write out every line."
    lost = [name for name in old if name not in new]
    used = [name for name in lost if re.search(rf"(?<![\w$]){re.escape(name)}\s*\(", after)]
    if used or (len(lost) > _FEW and len(lost) * 3 > len(old)):
        names = ", ".join((used or lost)[:5])
        return f"leaves out {names}\nWrite the whole file, or change a part of it with <edit>."
    lines = [line for line in before.split("\n") if line.strip()]
    kept = sum(line.strip() != "" for line in after.split("\n"))
    if not old and len(lines) >= _LEAST and kept * 2 < len(lines):
        return f"has {kept} lines of {len(lines)}\nWrite the whole file, or change a part of it with <edit>."
    return ""


def _names(path: str, text: str) -> list[str]:
    source = parsed(path, text)
    if source is not None and not source.root.has_error:
        return list(dict.fromkeys(d.name for d in source.definitions if d.kind != "value"))
    return list(dict.fromkeys(d.name for d in definitions(text.split("\n")) if d.name))


def _stubs(path: str, before: str, after: str) -> list[str]:
    """Definitions whose body the new text has not, though the old one had."""
    old, new = parsed(path, before), parsed(path, after)
    if old is None or new is None:
        return []
    bodies = _with_bodies(old)
    return [d.full_name for d in new.definitions if d.full_name in bodies and is_stub(new, d)]


def _with_bodies(source: Source) -> set[str]:
    stubs = {d.full_name for d in source.definitions if is_stub(source, d)}
    return {d.full_name for d in source.definitions if d.body is not None} - stubs
