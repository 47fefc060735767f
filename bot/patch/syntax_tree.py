"""Definitions of a source file, found in its syntax tree by tree-sitter. Pure.

Python, JavaScript, TypeScript, Go, Rust, Ruby and Java; None for other files. The grammars are loaded when a file of
their language is first parsed. All positions are bytes of the text in UTF-8.
"""

import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Language = Literal["python", "javascript", "typescript", "tsx", "go", "rust", "ruby", "java"]
Kind = Literal["function", "class", "value"]

_ENDINGS: dict[str, Language] = {
    **dict.fromkeys((".py", ".pyi", ".pyw"), "python"),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    **dict.fromkeys((".rb", ".rake", ".gemspec"), "ruby"),
    ".java": "java",
}
_GRAMMARS: dict[Language, tuple[str, str]] = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "ruby": ("tree_sitter_ruby", "language"),
    "java": ("tree_sitter_java", "language"),
}
LARGEST = 2_000_000  # bytes; a longer file is not parsed

_FUNCTIONS = frozenset(
    [
        "function_definition",
        "function_declaration",
        "generator_function_declaration",
        "function_signature",
        "method_definition",
        "method_signature",
        "abstract_method_signature",
        "method_declaration",
        "constructor_declaration",
        "function_item",
        "compact_constructor_declaration",
        "function_signature_item",
        "macro_definition",
        "method",
        "singleton_method",
    ]
)
_CLASSES = frozenset(
    [
        "class_definition",
        "class_declaration",
        "abstract_class_declaration",
        "interface_declaration",
        "enum_declaration",
        "record_declaration",
        "annotation_type_declaration",
        "struct_item",
        "enum_item",
        "union_item",
        "trait_item",
        "impl_item",
        "mod_item",
        "internal_module",
        "module",
        "class",
        "type_alias_declaration",
        "type_item",
        "type_spec",
        "type_alias",
    ]
)
_FUNCTION_VALUES = frozenset(
    ["arrow_function", "function_expression", "generator_function", "class"]
)  # of a JavaScript variable or property
_GROUPS = frozenset(
    [
        "lexical_declaration",
        "variable_declaration",
        "type_declaration",
        "const_declaration",
        "var_declaration",
        "var_spec_list",
        "field_declaration",
        "local_variable_declaration",
    ]
)
_WRAPPERS = frozenset(("decorated_definition", "export_statement", "ambient_declaration"))
_ABOVE = frozenset(("attribute_item", "decorator"))
_MULTILINE = frozenset(
    [
        "string",
        "template_string",
        "raw_string_literal",
        "string_literal",
        "heredoc_body",
        "text_block",
        "interpreted_string_literal",
    ]
)
COMMENTS = frozenset(("comment", "line_comment", "block_comment"))
# A method alone is a definition in these only within a class or the like.
_IN_CLASS, _IN_OBJECT = "class _ {\n%s\n}", "exports._ = function () { return {\n%s\n} }"
_FRAMES: dict[Language, tuple[str, ...]] = {
    "javascript": (_IN_CLASS, _IN_OBJECT),
    "typescript": (_IN_CLASS, _IN_OBJECT),
    "tsx": (_IN_CLASS, _IN_OBJECT),
    "java": (_IN_CLASS,),
    "rust": ("impl _ {\n%s\n}",),
}


@dataclass(frozen=True)
class Span:
    """Bytes [start, end)."""

    start: int
    end: int


@dataclass(frozen=True)
class Defined:
    """One definition.

    `outer` has decorators and `export` with it, `bare` has not; `core` is one name of a group such as `const (...)`.
    `lead` is where the comments and attributes directly above begin, `attributes` where the first of those attributes
    does; `outer.start` if there are none. `line` is that of `bare`, from 1.
    """

    name: str
    owners: tuple[str, ...]
    kind: Kind
    outer: Span
    bare: Span
    core: Span
    body: Span | None
    lead: int
    attributes: int
    line: int
    grouped: bool
    node: "Node" = field(repr=False, compare=False)
    parent: "Defined | None" = field(default=None, repr=False, compare=False)

    @property
    def full_name(self) -> str:
        return ".".join((*self.owners, self.name))


class Source:
    """A parsed text."""

    def __init__(self, language: Language, text: str) -> None:
        self.language: Language = language
        self.data = text.encode("utf-8", "surrogatepass")
        self.root = _parser(language).parse(self.data).root_node
        self.definitions = tuple(self._walk(self.root, None))

    @property
    def broken_line(self) -> int:
        """The line of the first syntax error, from 1; 0 if there is none."""
        node = self.root
        while node.has_error and not (node.is_error or node.is_missing):
            within = next((child for child in node.children if child.has_error or child.is_missing), None)
            if within is None:
                break
            node = within
        return node.start_point.row + 1 if node.has_error or node.is_missing else 0

    def text(self, span: Span) -> str:
        return self.data[span.start : span.end].decode("utf-8", "surrogatepass")

    def indent(self, position: int) -> str:
        """The white space before the position on its line; "" if there is something else, too."""
        before = self.data[self.data.rfind(b"\n", 0, position) + 1 : position].decode("utf-8", "replace")
        return before if not before.strip() else before[: len(before) - len(before.lstrip())]

    @property
    def tops(self) -> list[Defined]:
        return [d for d in self.definitions if d.parent is None]

    def members(self, owner: Defined) -> list[Defined]:
        return [d for d in self.definitions if d.parent is not None and d.parent.core == owner.core]

    def within_strings(self, span: Span) -> list["Node"]:
        """String literals of several lines within the span, outermost."""
        found: list[Node] = []
        todo = [self.root]
        while todo:
            node = todo.pop()
            if node.end_byte <= span.start or node.start_byte >= span.end or node.start_point.row == node.end_point.row:
                continue
            if node.type in _MULTILINE:
                found.append(node)
            else:
                todo += node.children
        return found

    def comments(self, span: Span) -> list["Node"]:
        """Comments within the span."""
        found: list[Node] = []
        todo = [self.root]
        while todo:
            node = todo.pop()
            if node.start_byte < span.end and node.end_byte > span.start:
                found += [node] if node.type in COMMENTS else []
                todo += node.children
        return sorted(found, key=lambda node: node.start_byte)

    # -- finding

    def _walk(self, node: "Node", parent: Defined | None) -> Iterator[Defined]:
        todo = [(node, parent)]
        while todo:
            node, parent = todo.pop(0)
            mine = parent
            if node is not self.root and (named := _named(node, parent)):
                name, kind = named
                mine = self._defined(node, name, kind, parent)
                yield mine
            if mine is None or mine.kind != "value" or node.type not in ("assignment", "pair"):
                todo[:0] = [(child, mine) for child in node.named_children]

    def _defined(self, node: "Node", name: str, kind: Kind, parent: Defined | None) -> Defined:
        chain, grouped = [node], False
        above = node.parent
        while above is not None and above.parent is not None:
            if above.type in _GROUPS:
                if len([c for c in above.named_children if c.type == chain[-1].type]) > 1 or _in_parentheses(above):
                    grouped = True
                    break
            elif above.type not in _WRAPPERS and above.type != "expression_statement":
                break
            chain.append(above)
            above = above.parent
        outer = chain[-1]
        bare = next(n for n in reversed(chain) if n.type not in _WRAPPERS)
        lead, attributes = _lead(outer)
        *more, last = re.split(r"\.|::", name)
        owners = parent.owners + ((parent.name,) if parent else ()) if parent else ()
        return Defined(
            name=last,
            owners=(*owners, *_receiver(node), *more),
            kind=kind,
            outer=_span(outer),
            bare=_span(bare),
            core=_span(node),
            body=_body(node),
            lead=lead,
            attributes=attributes,
            line=bare.start_point.row + 1,
            grouped=grouped,
            node=node,
            parent=parent,
        )


def language_of(path: str) -> Language | None:
    """The language whose grammar reads the file; None if there is none."""
    return _ENDINGS.get(PurePosixPath(path).suffix.lower())


def parsed(path: str, text: str) -> Source | None:
    """The parsed file; None for another language, or a file that is too long."""
    language = language_of(path)
    return Source(language, text) if language and len(text) <= LARGEST else None


def parsed_part(language: Language, text: str) -> Source:
    """A part of a file, such as a method alone, parsed as it would be at its place, as far as that is possible."""
    alone = Source(language, text)
    if alone.definitions and not alone.root.has_error:
        return alone
    for frame in _FRAMES.get(language, ()):
        framed = Source(language, frame % text)
        inside = [d for d in framed.definitions if d.parent is not None and d.owners == ("_",)]
        if not framed.root.has_error and inside:
            framed.definitions = tuple(_unframed(d) for d in framed.definitions if d.owners[:1] == ("_",))
            return framed
    return alone


def _unframed(d: Defined) -> Defined:
    parent = None if d.parent is None or d.parent.name == "_" else _unframed(d.parent)
    return Defined(**{**vars(d), "owners": d.owners[1:], "parent": parent})


@functools.cache
def _parser(language: Language) -> "Parser":
    from tree_sitter import Language as Grammar
    from tree_sitter import Parser

    module, function = _GRAMMARS[language]
    return Parser(Grammar(getattr(importlib.import_module(module), function)()))


def _span(node: "Node") -> Span:
    return Span(node.start_byte, node.end_byte)


def _word(node: "Node | None") -> str:
    return node.text.decode("utf-8", "replace") if node is not None and node.text is not None else ""


def _named(node: "Node", parent: Defined | None) -> tuple[str, Kind] | None:
    """The name that the node defines, and what; None for other nodes."""
    if node.type in _FUNCTIONS:
        name = _word(node.child_by_field_name("name"))
        return (name, "function") if name else None
    if node.type == "impl_item":
        return re.sub(r"<.*", "", _word(node.child_by_field_name("type")), flags=re.DOTALL).strip() or "_", "class"
    if node.type in _CLASSES:
        name = _word(node.child_by_field_name("name"))
        return (re.sub(r"\s", "", name), "class") if name else None
    return _value(node, parent)


def _value(node: "Node", parent: Defined | None) -> tuple[str, Kind] | None:
    """The variable, constant or property that the node gives a value to."""
    local = parent is not None and parent.kind == "function"
    holds = node.child_by_field_name("value") or node.child_by_field_name("right")
    function = holds is not None and holds.type in _FUNCTION_VALUES
    match node.type:
        case "variable_declarator" | "const_spec" | "var_spec" | "const_item" | "static_item":
            name = node.child_by_field_name("name")
            if local and not function:
                return None
        case "field_definition" | "public_field_definition":
            name = node.child_by_field_name("property") or node.child_by_field_name("name")
        case "assignment":
            name = node.child_by_field_name("left")
            if local or name is None or name.type not in ("identifier", "constant"):
                return None
        case "assignment_expression":
            name = node.child_by_field_name("left")
            if not function or name is None or name.type != "member_expression":
                return None
            plain = re.sub(r"^(?:module\.)?exports\.|\.prototype(?=\.)", "", _word(name))
            return (plain, "function") if re.fullmatch(r"[\w$.]+", plain) else None
        case "pair":
            name = node.child_by_field_name("key")
            if not function:
                return None
        case _:
            return None
    word = _word(name)
    return (word, "function" if function else "value") if re.fullmatch(r"[#\w$]+", word) else None


def _receiver(node: "Node") -> tuple[str, ...]:
    """The type of a Go method's receiver, or the class of a Ruby method on an object."""
    receiver = node.child_by_field_name("receiver")
    if receiver is None or node.type != "method_declaration":
        return ()
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r"\[.*", "", _word(receiver)))
    return (words[-1],) if words else ()


def _body(node: "Node") -> Span | None:
    body = node.child_by_field_name("body")
    if body is None:
        holds = node.child_by_field_name("value") or node.child_by_field_name("right")
        body = holds.child_by_field_name("body") if holds is not None else None
    if body is None:
        body = next((c for c in node.named_children if c.type in ("declaration_list", "body_statement")), None)
    return _span(body) if body is not None else None


def _in_parentheses(group: "Node") -> bool:
    return group.type == "var_spec_list" or any(child.type == "(" for child in group.children)


def _lead(node: "Node") -> tuple[int, int]:
    """Where the comments and attributes directly above the node begin, and the first of the attributes."""
    lead = attributes = node.start_byte
    below, above = node, node.prev_sibling
    while above is not None and (above.type in COMMENTS or above.type in _ABOVE):
        ends = above.end_point.row - (above.end_point.column == 0)  # Rust's doc comments hold their line feed
        if below.start_point.row - ends > 1:
            break
        before = above.prev_sibling
        beside = before is not None and before.end_point.row == above.start_point.row
        if above.type in COMMENTS and before is not None and beside and before.end_point.column > 0:
            break  # it ends a line of code
        lead = above.start_byte
        attributes = above.start_byte if above.type in _ABOVE else attributes
        below, above = above, before
    return lead, attributes
