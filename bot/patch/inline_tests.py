"""Tests that a file of Rust has within it, which a change of that file could rewrite. Pure.

A candidate may add tests there. Each other part of a test module stays as it is: beside `use super::*`, a function of
the module's own would take the place of the one under test.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from bot.patch.syntax_tree import parsed

if TYPE_CHECKING:
    from tree_sitter import Node

_FOR_TESTS = re.compile(r"#\[cfg\((?:all\()?test\b")
_TEST = re.compile(r"#\[(?:\w+::)*(?:test|rstest|test_case|quickcheck|proptest)\b")
_NAMES = r"(?:debug_)?assert\w*|panic|unreachable|unimplemented|todo|matches"
_FIRST_OF_GO = re.compile(r"^func\s+(?:TestMain|init)\s*\(", re.MULTILINE)  # of a new file: it runs before all tests
_MACRO = re.compile(rf"\bmacro_rules!\s*(?:{_NAMES})\b|\bas\s+(?:{_NAMES})\s*[;,}}]")


class _Item(NamedTuple):
    text: str  # with its attributes, without white space
    is_test: bool


def rewrites_tests(path: str, before: str | None, after: str | None) -> bool:
    """Whether a change of the file changes tests within it, or what they judge by."""
    if path.endswith("_test.go") and before is None and _FIRST_OF_GO.search(after or ""):
        return True
    if not path.endswith(".rs") or after is None:
        return False
    if len(_MACRO.findall(after)) > len(_MACRO.findall(before or "")):
        return True
    if before is None or not (_FOR_TESTS.search(before) or _TEST.search(before)):
        return False
    old, new = Counter(_items(path, before)), Counter(_items(path, after))
    return bool(old - new) or any(not item.is_test for item in new - old)


def _items(path: str, text: str) -> Iterator[_Item]:
    source = parsed(path, text)
    if source is not None:
        yield from _within(source.root, inside=False)


def _within(node: "Node", *, inside: bool) -> Iterator[_Item]:
    """What of a file or a module is for tests alone. `inside`: of a module that is."""
    attributes = ""
    for child in node.named_children:
        said = (child.text or b"").decode("utf-8", "replace")
        if child.type in ("line_comment", "block_comment"):
            continue
        if child.type == "attribute_item":
            attributes += said
            continue
        is_test = child.type == "function_item" and _TEST.search(attributes) is not None
        is_module = child.type == "mod_item" and child.child_by_field_name("body") is not None
        for_tests = inside or _FOR_TESTS.search(attributes) is not None
        if is_module:
            body = child.child_by_field_name("body")
            assert body is not None
            yield from _within(body, inside=for_tests)
        elif for_tests or is_test:
            yield _Item("".join(f"{attributes}{said}".split()), is_test)
        attributes = ""
