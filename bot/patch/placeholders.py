"""Places where a model left lines out of a text that should be whole. Pure."""

import re

from bot.patch.syntax_tree import Defined, Language, Source, Span, parsed_part

_COMMENT = re.compile(
    r"^\W*(?:\.{3}|…)|(?:\.{3}|…)\W*$|"
    r"\b(?:rest|remainder|remaining|other)\b.{0,40}"
    r"\b(?:unchanged|the same|as (?:it )?(?:is|was|before)|here|omitted|"
    r"of the (?:code|file|class|function|method|module|implementation))\b|"
    r"\b(?:existing|previous|original|same) (?:code|implementation|logic|methods?|functions?|content)\b.{0,30}$|"
    r"\b(?:unchanged|omitted for brevity|remains? (?:the same|unchanged)|same as (?:before|above))\W*$",
    re.IGNORECASE,
)
_MARK = re.compile(r"^\s*(?:#|//|--|/\*|<!--|;|%|\*)")
_ELLIPSIS = re.compile(r"^\s*(?:\.{3}|…)\s*$")


def placeholder(source: Source, before: str) -> str:
    """The first comment that stands for lines that are left out, and is not in the text before; "" if there is none."""
    if not source.root.named_children:
        return ""
    for node in source.comments(Span(0, len(source.data))):
        said = (node.text or b"").decode("utf-8", "replace").strip()
        if _stands_for_lines(said) and said not in before:
            return said
    return ""


def without_placeholders(language: Language, text: str, before: str) -> str:
    """The text without such comments outside of functions: what a class or a file does not show stays there anyway."""
    source = parsed_part(language, text)
    functions = [d.outer for d in source.definitions if d.kind == "function"]
    known = {line.strip() for line in before.split("\n")}
    gone = set()
    for node in source.comments(Span(0, len(source.data))):
        said = (node.text or b"").decode("utf-8", "replace").strip()
        inside = any(span.start <= node.start_byte < span.end for span in functions)
        if not inside and "\n" not in said and said not in known and _stands_for_lines(said):
            gone.add(said)
    return "\n".join(line for line in text.split("\n") if line.strip() not in gone)


def placeholder_line(text: str, before: str) -> str:
    """The same for a text in any language: comments that fill a line, and lines of three dots."""
    known = {line.strip() for line in before.split("\n")}
    above = ""
    for line in text.split("\n"):
        plain = line.strip()
        body = above.endswith((":", '"""', "'''"))  # of a function that has no other: `is_stub` knows it
        above = plain or above
        comment = _MARK.match(plain) is not None and _stands_for_lines(plain)
        if plain not in known and (comment or (_ELLIPSIS.match(plain) and not body)):
            return plain
    return ""


def _stands_for_lines(comment: str) -> bool:
    words = re.sub(r"^\s*(?:#+|//+|/\*+|--|<!--|;+|%+|\*)\s*|(?<!\s)\s*(?:\*/|-->)\s*$", "", comment)
    if re.match(r"^(?:\.{3}|…)", words):
        return True
    return len(words) < 100 and "\n" not in words and _COMMENT.search(words) is not None and _is_remark(words)


def _is_remark(words: str) -> bool:
    """Whether the words speak of code that is left out, and not of what the code does."""
    return (
        "..." in words
        or "…" in words
        or re.search(
            r"\b(?:unchanged|omitted|the same|as before|as (?:it )?(?:is|was)|existing code|"
            r"rest of the (?:code|file|class|function|method|module|implementation))\b",
            words,
            re.IGNORECASE,
        )
        is not None
    )


def is_stub(source: Source, d: Defined) -> bool:
    """Whether the definition's body is `...`, or a comment that stands for its lines, alone."""
    if d.body is None or d.kind == "class":
        return False
    body = source.text(d.body).strip()
    inner = body[1:-1].strip() if body.startswith("{") and body.endswith("}") else body
    inner = re.sub(r"^(?:\"\"\".*?\"\"\"|'''.*?''')\s*", "", inner, flags=re.DOTALL)
    if _ELLIPSIS.match(inner):
        return True
    lines = [line.strip() for line in inner.split("\n") if line.strip()]
    comments = [line for line in lines if _MARK.match(line)]
    rest = [line for line in lines if line not in comments]
    return bool(comments) and all(map(_stands_for_lines, comments)) and all(line in ("pass", "...") for line in rest)
