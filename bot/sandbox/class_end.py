"""A test in Java or PHP, for a program that a config names, which ends with a code where it ended well. Pure.

JUnit and PHPUnit run a class of tests in the candidate's process, which may end it (`System.exit(0)`, `exit`) or skip
what would fail. So the class gets an end of its own: behind all tests it ends the process with the code, where each of
them began and none was left by an exception. A program in Java does so behind its `main`.
"""

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bot.patch.syntax_tree import Defined, parsed
from bot.sandbox.script_command import PLACE
from bot.sandbox.script_end import PHP_HEAD, filled
from bot.sandbox.shell_end import CODES

if TYPE_CHECKING:
    from tree_sitter import Node

_BUILDERS = re.compile(r"\b(?:mvnw?|gradlew?|make|ant|sbt|bazel)\b")  # which give a code of their own
_JAVA_TEST = re.compile(r"@(?:\w+\.)*(?:Test|ParameterizedTest|RepeatedTest)\b")
_JAVA_OTHERWISE = re.compile(r"@(?:\w+\.)*(?:Disabled|Ignore|Enabled)|\bexpected\b")
_JAVA_EXIT = re.compile(rb"\bSystem\.exit(?=\s*\()")
_PHP_CLASS = re.compile(
    r"^[ \t]*(?:(?:final|abstract)\s+)*class\s+\w+\s+extends\s+\\?(?:\w+\\)*TestCase\b[^{]*\{", re.M
)
_PHP_SKIPS = re.compile(r"\bmarkTest(?:Skipped|Incomplete)|\bRequires|@requires|\bDepends|@depends")
_PHP_COMPARES = re.compile(r"\bregisterComparator\b|\bregister\(")
_PHP_ASSERTS = re.compile(r"(?<![\w>:$])assert\((?![\s\S]*assert\.)")
_PHP_EQUALS = re.compile(r"(?<=(?:->|::))assertEquals(?=\s*\()")
_PHP_OTHERWISE = re.compile(r"SeparateProcess|assertP(?:re|ost)Conditions|tearDownAfterClass|AfterClass|__FILE__")


def with_end(path: str, text: str, code: int, command: Sequence[str]) -> tuple[str, int | None] | None:
    """The file with its end, and the code; None for the code where the program gives any but 0 then.

    None where the file is not understood. `command`: that runs it.
    """
    given = None if _BUILDERS.search(" ".join(command)) else code
    if path.endswith(".java"):
        changed = _java(path, text, given)
    elif path.endswith(".php") and given is not None:
        changed = _php(text, code)
    else:
        return None
    return None if changed is None else (changed, given)


def _name() -> str:
    return f"troop{secrets.token_hex(4)}"


def _other(code: int) -> int:
    return secrets.choice([one for one in CODES if one != code])


def _php(text: str, code: int) -> str | None:
    classes, head = list(_PHP_CLASS.finditer(text)), PHP_HEAD.match(text)
    if len(classes) != 1 or head is None or _PHP_OTHERWISE.search(text):
        return None
    at = classes[0].end()
    skips, compares = ("true" if found.search(text) else "false" for found in (_PHP_SKIPS, _PHP_COMPARES))
    name, asserts = _name(), "true" if _PHP_ASSERTS.search(text) else "false"
    counting = filled("end.phpunit.php", name, code, SKIPS=skips, COMPARES=compares, ASSERTS=asserts).rstrip()
    # Its text is not there to be read by what it loads.
    gone = f"@\\unlink(__FILE__); @\\unlink('{PLACE}');"
    body = _PHP_EQUALS.sub(f"{name}Equals", text[at:])
    return f"{head[0]}{gone}{text[head.end() : at]}{counting}{body}"


# -- Java ----------------------------------------------------------------------------------------------------------


def _java(path: str, text: str, code: int | None) -> str | None:
    source = parsed(path, text)
    if source is None or source.root.has_error:
        return None
    methods = [one for one in source.definitions if one.node.type == "method_declaration" and one.body is not None]
    tests = [one for one in methods if _JAVA_TEST.search(_annotations(one.node))]
    if tests:
        return _junit(source.data, tests, text, code)
    main = next((one for one in methods if one.name == "main" and len(one.owners) == 1), None)
    return None if main is None or code is None else _program(source.data, main, code)


def _annotations(method: "Node") -> str:
    first = method.named_children[0]
    return (first.text or b"").decode("utf-8", "replace") if first.type == "modifiers" else ""


def _program(data: bytes, main: Defined, code: int) -> str | None:
    """The program, whose `main` and whose own exits with 0 end it with the code."""
    called, parameters = main.node.child_by_field_name("name"), main.node.child_by_field_name("parameters")
    if called is None or parameters is None or b"static" not in (main.node.named_children[0].text or b""):
        return None
    name, owner = _name(), main.owners[0]
    given = "arguments" if parameters.named_child_count else ""
    leave = (
        f" public static void main(String[] arguments) throws Throwable {{ {name}({given}); {name}Exit(0); }}"
        f" static void {name}Exit(int code) {{ Runtime.getRuntime().halt(code == 0 ? {code} : code); }}"
    )
    text = b"".join(
        [data[: called.start_byte], name.encode(), data[called.end_byte : main.node.end_byte], leave.encode()]
    )
    rest = data[main.node.end_byte :]
    through = f"{owner}.{name}Exit".encode()
    return (_JAVA_EXIT.sub(through, text) + _JAVA_EXIT.sub(through, rest)).decode("utf-8", "surrogatepass")


def _junit(data: bytes, tests: Sequence[Defined], text: str, code: int | None) -> str | None:
    """The class, which notes which tests began and whether an exception left one, and ends behind all of them."""
    owner, *others = {one.owners[0] for one in tests}
    fifth = "org.junit.jupiter" in text
    if others or not (fifth or re.search(r"\borg\.junit\.(?:Test|\*)", text)):
        return None
    name = _name()
    watched = [one for one in tests if not _JAVA_OTHERWISE.search(_annotations(one.node))]
    parts, last = [], 0
    for n, test in enumerate(watched):
        assert test.body is not None
        begin, end = test.body.start + 1, test.body.end - 1
        parts += [data[last:begin].decode(), f" {name}[{n}] = true; try {{", data[begin:end].decode()]
        parts.append(f"}} catch (Throwable {name}1) {{ {name}Left({name}1); throw {name}1; }} ")
        last = end
    changed = "".join([*parts, data[last:].decode()])
    after = "org.junit.jupiter.api.AfterAll" if fifth else "org.junit.AfterClass"
    leave = f'if (well) throw new AssertionError("{name}");'
    if code is not None:
        leave = f"Runtime.getRuntime().halt(well ? {code} : {_other(code)});"
    more = filled("end.junit.java", name, 0, OWNER=owner, TESTS=str(len(watched)), AFTER=after, LEAVE=leave)
    found = re.search(rf"^[^\n/*]*\bclass\s+{re.escape(owner)}\b[^{{]*\{{", changed, re.MULTILINE)
    return None if found is None else f"{changed[: found.end()]}{more}{changed[found.end() :]}"
