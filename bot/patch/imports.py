"""Imports that a model adds beside a definition, merged into a file's own. Pure."""

import re

from bot.patch.syntax_tree import COMMENTS, Source, Span

_IMPORTS = frozenset(
    [
        "import_statement",
        "import_from_statement",
        "future_import_statement",
        "import_declaration",
        "use_declaration",
        "extern_crate_declaration",
    ]
)
_REQUIRES = re.compile(
    r"^(?:(?:const|let|var)\s+[^=]+=\s*require\s*\(|require(?:_relative)?[\s(]|import\s*\()", re.DOTALL
)
_HEAD = frozenset(("package_clause", "package_declaration", "inner_attribute_item", "hash_bang_line"))


def imports(source: Source) -> list[Span]:
    """The imports at the top level."""
    found = []
    for node in source.root.named_children:
        span = Span(node.start_byte, node.end_byte)
        required = node.type in ("lexical_declaration", "variable_declaration", "call", "expression_statement")
        if node.type in _IMPORTS or (required and _REQUIRES.match(source.text(span))):
            found.append(span)
    return found


def with_imports(source: Source, added: list[str]) -> str:
    """The file's text with the imports, as far as they are not there."""
    text = source.data.decode("utf-8", "surrogatepass")
    for one in added:
        text = _with(Source(source.language, text), one.strip())
    return text


def _with(source: Source, one: str) -> str:
    text = source.data.decode("utf-8", "surrogatepass")
    mine = imports(source)
    there = [_plain(source.text(span)) for span in mine]
    if source.language == "go":
        return _go(source, one, mine)
    if _plain(one) in there:
        return text
    if source.language == "python":
        one = _python_missing(one, [source.text(span) for span in mine])
        if not one:
            return text
    first = not mine or one.startswith("from __future__")
    at = _end_of_docs(source) if first else mine[-1].end
    return _line_after(source, at, one, beside_imports=not first)


def _plain(statement: str) -> str:
    return re.sub(r"\s+", " ", statement).strip().rstrip(";").replace("'", '"').replace("( ", "(").replace(", )", ")")


def _python_missing(one: str, there: list[str]) -> str:
    """What of the statement the file does not import in the same way; "" if nothing is left."""
    has = {name for statement in there for name in _python_names(statement)}
    missing = [name for name in _python_names(one) if name not in has]
    if not missing:
        return ""
    module = missing[0][0]
    if not module:
        return f"import {', '.join(name for _, name in missing)}"
    return f"from {module} import {', '.join(name for _, name in missing)}"


def _python_names(statement: str) -> list[tuple[str, str]]:
    """(module, name) of each imported name, `as` included; module "" in an `import`."""
    bare = re.sub(r"#[^\n]*|[()\\]", " ", statement)
    from_ = re.match(r"\s*from\s+(\S+)\s+import\s(.*)", bare, re.DOTALL)
    module, names = (from_[1], from_[2]) if from_ else ("", re.sub(r"^\s*import\s", "", bare))
    return [(module, " ".join(name.split())) for name in names.split(",") if name.strip()]


def _go(source: Source, one: str, mine: list[Span]) -> str:
    text = source.data.decode("utf-8", "surrogatepass")
    specs = re.findall(r'(?:(?<![\w.])(?!import\b)[\w.]+[ \t]+)?"[^"\n]+"', one)
    there = {
        _plain(spec)
        for span in mine
        for spec in re.findall(r'(?:(?<![\w.])(?!import\b)[\w.]+[ \t]+)?"[^"\n]+"', source.text(span))
    }
    missing = [spec for spec in specs if _plain(spec) not in there]
    if not missing:
        return text
    for span in mine:
        block = source.text(span)
        if block.endswith(")"):
            body = block[:-1].rstrip() + "".join(f"\n\t{spec}" for spec in missing) + "\n)"
            return source.text(Span(0, span.start)) + body + source.text(Span(span.end, len(source.data)))
    statement = f"import {missing[0]}" if len(missing) == 1 else "import (\n\t" + "\n\t".join(missing) + "\n)"
    at = mine[-1].end if mine else _end_of_docs(source)
    return _line_after(source, at, statement, beside_imports=bool(mine))


def _end_of_docs(source: Source) -> int:
    """Where a file's first import goes: after its head of comments, docstring, package and the like; 0: at the top."""
    at = 0
    children = source.root.named_children
    for i, node in enumerate(children):
        following = children[i + 1] if i + 1 < len(children) else None
        if node.type in COMMENTS:
            # A comment right above a definition belongs to that.
            if following is not None and following.type not in (*_HEAD, *COMMENTS):
                gap = source.data[node.end_byte : following.start_byte].count(b"\n") + _ends_line(node.text)
                if gap < 2 and node.start_byte > 0 and not (node.text or b"").startswith(b"#!"):
                    break
                if gap < 2 and not re.match(rb"#!|#.*coding|#\s*frozen", node.text or b""):
                    break
            at = node.end_byte
        elif node.type in _HEAD or (
            node.type == "expression_statement"
            and node.named_child_count == 1
            and node.named_children[0].type in ("string", "concatenated_string")
        ):
            at = node.end_byte
        else:
            break
    return at


def _ends_line(text: bytes | None) -> int:
    return int((text or b"").endswith(b"\n"))


def _line_after(source: Source, at: int, statement: str, *, beside_imports: bool) -> str:
    """The text with the statement on a line of its own after the position, which is 0 or the end of a statement."""
    data = source.data
    end = data.find(b"\n", at)
    ends = at if at and data[at - 1 : at] == b"\n" else len(data) if end < 0 else end + 1
    begin = 0 if at == 0 else ends
    before = data[:begin].decode("utf-8", "surrogatepass")
    after = data[begin:].decode("utf-8", "surrogatepass")
    if before and not before.endswith("\n"):
        before += "\n"
    if beside_imports:
        return f"{before}{statement}\n{after}"
    above = "\n" if before else ""
    below = "" if not after or after.startswith("\n") else "\n"
    return f"{before}{above}{statement}\n{below}{after}"
