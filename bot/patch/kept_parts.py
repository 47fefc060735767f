"""Parts of a definition that a model leaves out when it writes it anew, and that stay: docstring, visibility. Pure."""

import ast
import difflib
import re
import textwrap

from bot.patch.syntax import parsed
from bot.patch.syntax_tree import Defined, Language, Source, Span

_LIKE = 0.5  # of `difflib`: a docstring so close to the old one is the old one, changed


def kept_docstring(language: Language, new: str, old: str, *, indent: str) -> str:
    """The new text of a Python definition with the old one's docstring.

    A new docstring counts if it continues the old one, or if nothing else changes: small models invent another beside
    a change of the code.
    """
    if language != "python":
        return new
    was, becomes = _docstring(indent + old), _docstring(indent + new)
    if was is None or becomes is None or was[0] is None:
        return new
    mine, code = becomes
    old_lines, lines = old.split("\n"), new.split("\n")
    kept = old_lines[was[0][0] : was[0][1]]
    if mine is None:
        body = lines[code : code + 1]
        return "\n".join([*lines[:code], *kept, *lines[code:]]) if body else new
    written = lines[mine[0] : mine[1]]
    rest = [line.strip() for line in [*lines[: mine[0]], *lines[mine[1] :]] if line.strip()]
    rest_before = [line.strip() for line in [*old_lines[: was[0][0]], *old_lines[was[0][1] :]] if line.strip()]
    placeholder = re.fullmatch(r"\W*(?:\.{3}|…)?\W*", " ".join(written)) is not None
    if not placeholder and (rest == rest_before or _continues(written, kept)):
        return new
    return "\n".join([*lines[: mine[0]], *kept, *lines[mine[1] :]])


def _continues(new: list[str], old: list[str]) -> bool:
    one, other = ([line.strip(" \t\"'.") for line in lines if line.strip(" \t\"'")] for lines in (old, new))
    same = sum(line in other for line in one)
    if one and same * 2 > len(one):
        return True
    return difflib.SequenceMatcher(None, " ".join(one), " ".join(other), autojunk=False).ratio() >= _LIKE


def _docstring(text: str) -> tuple[tuple[int, int] | None, int] | None:
    """(lines of the docstring, or None; the line of the first statement) from 0; None for what can't be told."""
    try:
        tree = parsed(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    first = tree.body[0].body[0]
    if first.lineno == tree.body[0].lineno:
        return None
    decorators = getattr(first, "decorator_list", [])
    begin = min((d.lineno for d in decorators), default=first.lineno)
    if ast.get_docstring(tree.body[0], clean=False) is None:
        return None, begin - 1
    if len(tree.body[0].body) > 1 and tree.body[0].body[1].lineno == first.end_lineno:
        return None  # another statement on its line
    return (first.lineno - 1, first.end_lineno or first.lineno), begin - 1


def with_kept_head(source: Source, new: Defined, file: Source, old: Defined, text: str) -> str:
    """The new text with the old one's visibility and modifiers, where it has none, and in the form of its place."""
    text = _in_form(new, old, text)
    if file.language == "java":
        return _java(source, new, file, old, text)
    was, has = _visibility(file, old), _visibility(source, new)
    if was and not has:
        at = text.index(_first_word(source, new)) if file.language == "rust" and _first_word(source, new) in text else 0
        return f"{text[:at]}{was} {text[at:]}" if not text[at:].startswith(f"{was} ") else text
    return text


def _in_form(new: Defined, old: Defined, text: str) -> str:
    """A JavaScript method is written without `function`, a function with it."""
    if old.node.type == "method_definition" and new.node.type == "function_declaration":
        return re.sub(r"^((?:async\s+)?)function\s*(\*?)\s*", r"\1\2", text)
    if old.node.type == "function_declaration" and new.node.type == "method_definition":
        return re.sub(r"^((?:async\s+)?)(\*?)\s*", r"\1function\2 ", text)
    return text


def _visibility(source: Source, d: Defined) -> str:
    """`pub` of Rust, `private` and `static` of a method in JavaScript and TypeScript."""
    words = []
    for child in d.node.children:
        if child.type in ("visibility_modifier", "accessibility_modifier", "static", "readonly", "abstract"):
            words.append(source.text(Span(child.start_byte, child.end_byte)))
    return " ".join(words)


def _first_word(source: Source, d: Defined) -> str:
    return source.text(d.core)[:12]


def _java(source: Source, new: Defined, file: Source, old: Defined, text: str) -> str:
    """Java's modifiers and annotations."""
    was, has = _modifiers(file, old), _modifiers(source, new)
    if not was:
        return text
    if not has:
        return f"{was} {text}" if "\n" not in was else f"{was}\n{file.indent(old.outer.start)}{text}"
    annotations = re.match(r"(?:@[\w.]+(?:\([^()]*\))?\s*)+", was)
    if annotations and "@" not in has:
        return annotations[0] + text
    return text


def _modifiers(source: Source, d: Defined) -> str:
    holder = d.node.parent if d.node.type == "variable_declarator" and d.node.parent is not None else d.node
    found = next((child for child in holder.children if child.type == "modifiers"), None)
    return source.text(Span(found.start_byte, found.end_byte)) if found is not None else ""
