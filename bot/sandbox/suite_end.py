"""A file of JavaScript tests that tells at its end whether all its tests came to theirs. Pure.

jest, vitest and mocha run tests in the candidate's process, which may replace `expect` or what it rests on, skip tests,
or read the file. So the file notes what it is judged by before the candidate is loaded, and is gone then; each test is
counted, and what judges is compared at each assertion (`ends/suite.js`). At the end it leaves with the code, where the
runner is one that ends with the process, or a test more fails.
"""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from bot.patch.syntax_tree import COMMENTS, Source, parsed
from bot.sandbox.script_command import PLACE
from bot.sandbox.script_end import filled

if TYPE_CHECKING:
    from tree_sitter import Node

_GROUP = re.compile(r"^(describe|suite|context)\(", re.MULTILINE)
_GROUPS = frozenset(("describe", "suite", "context"))
_ENDING = re.compile(r"\b(?:jest|mocha)\b")  # runners that run a file in their own process
_OTHERWISE = re.compile(
    r"\.(?:only|skip|todo|retry|retries|retryTimes|fails|failing)\b|\b__filename\b|import\.meta|\bargv\b"
)
_EXTENDS = re.compile(r"\bexpect\.(?:extend|add)|\bchai\.use\b|\baddEqualityTesters\b")
_MATCHERS = ["expect", "assert", "chai", "should"]
_REQUIRED = re.compile(r"[\"']((?:node:)?assert(?:/strict)?|(?:node:)?util|chai|expect|should|sinon)[\"']")
_OF_NODE = re.compile(r"[\"']node:test[\"']")
_BY_ITSELF = re.compile(r"\b(?:register|getTestContext)\b")  # what it does to Node's tests itself
_SET = re.compile(r"\.(\w+)\s*=(?!=)|[\"'`](\w+)[\"'`]")
_LONGEST = 100_000  # characters


def with_ends(path: str, text: str, code: int, command: Sequence[str]) -> tuple[tuple[str, int | None], ...]:
    """The file with its end, and the code; None for any but 0. () where it is not understood.

    Where the runner gives no code of a test's, one end fails and another one passes: who can't read which it is does
    neither by chance. `command`: that runs the file.
    """
    source = parsed(path, text) if len(text) <= _LONGEST else None
    if source is None or source.language not in ("javascript", "typescript", "tsx") or source.root.has_error:
        return ()
    called = list(_tests(source.root))
    words = " ".join(command)
    begin = _beginning(source, path, words)
    if not called or begin is None or _OTHERWISE.search(text):
        return ()
    if _ENDING.search(words):
        return ((_with_end(source, path, called, begin, f"leave(well ? {code} : 1);"), code),)
    ends: dict[int | None, str] = {None: "if (well) throw new Error();", 0: "if (!well) throw new Error();"}
    return tuple((_with_end(source, path, called, begin, end), expected) for expected, end in ends.items())


def _with_end(source: Source, path: str, called: Sequence["Node"], begin: str, end: str) -> str:
    """`end`: the statement behind all tests."""
    key, name, text = (
        secrets.token_hex(16),
        f"troop{secrets.token_hex(4)}",
        source.data.decode("utf-8", "surrogatepass"),
    )
    excused = {one for found in _SET.findall(text) for one in found if one}
    if _EXTENDS.search(text):
        excused.update(_MATCHERS)
    load = "process.getBuiltinModule?." if begin == "data" else "require"  # there is no `require` in a module
    required = [f'{load}("{one}")' for one in dict.fromkeys(_REQUIRED.findall(text))]
    of_node = _OF_NODE.search(text) and not _BY_ITSELF.search(text)
    words = {"EXCUSED": json.dumps(sorted(excused)), "TESTS": str(len(called)), "REQUIRED": ", ".join(required)}
    words["OFNODE"] = "true" if of_node else "false"
    preamble = filled("suite.js", name, 0, KEY=key, PLACE=PLACE, END=end, **words)
    return _changed(source, path, called, _placed(begin, preamble, key), f'globalThis.{name}("{key}", ')


def _beginning(source: Source, path: str, words: str) -> str | None:
    """How the file is to begin before its imports: by a statement, by a mock of jest's or by a module of its own."""
    imports = [node for node in source.root.named_children if node.type == "import_statement"]
    if not imports:
        return "statement"
    native = PurePosixPath(path).suffix == ".mjs" or "experimental-vm-modules" in words
    of_node = re.search(r"\bnode\b", words) and any(_OF_NODE.search(_text(node)) for node in imports)
    if native or of_node or "vitest" in words or any("vitest" in _text(node) for node in imports):
        return "data"
    return "mock" if re.search(r"\bjest\b", words) else None


def _placed(begin: str, preamble: str, key: str) -> str:
    """What comes before all else. In strict mode, so that no function is asked who called it."""
    if begin == "data":  # its address is in the stacks of all that it calls
        run = f"vm.runInThisContext({json.dumps(preamble)}, {{ filename: 'tests' }})(fs);"
        module = quote(f"import * as fs from 'node:fs'; import * as vm from 'node:vm'; {run}")
        return f'import "data:text/javascript,{module}";\n'
    run = f'{preamble}(require("fs"));'
    if begin == "mock":  # which jest calls before all imports
        mock = f'jest.mock("troop-{key}", () => {{ {run} return {{}}; }}, {{ virtual: true }});\n'
        return f'{mock}import "troop-{key}";\n'
    return f'"use strict";\n;{run}\n'


def _text(node: "Node | None") -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _tests(block: "Node") -> Iterator["Node"]:
    """The calls that declare a test, once each: of a file, and of the groups in it."""
    for statement in block.named_children:
        call = statement.named_children[0] if statement.type == "expression_statement" else None
        called = call.child_by_field_name("function") if call is not None and call.type == "call_expression" else None
        given = call.child_by_field_name("arguments") if call is not None else None
        if called is None or given is None or called.type != "identifier":
            continue
        run = next((one for one in given.named_children if one.type in ("arrow_function", "function_expression")), None)
        body = run.child_by_field_name("body") if run is not None else None
        if body is None:
            continue
        if call is not None and _text(called) in ("test", "it"):
            yield call
        elif _text(called) in _GROUPS and body.type == "statement_block":
            yield from _tests(body)


def _changed(source: Source, path: str, called: Sequence["Node"], begin: str, through: str) -> str:
    """The file with its beginning, with its tests and assertions led through the function, and with its end."""
    inserted: list[tuple[int, str]] = [(_start(source), begin)]

    def around(node: "Node", what: str) -> None:
        inserted.extend([(node.start_byte, f'{through}"{what}", '), (node.end_byte, ")")])

    for call in called:
        function = call.child_by_field_name("function")
        assert function is not None
        around(function, "test")
    for first, last in _assertions(source.root):
        if first is not None:
            around(first, "value")
        if last is not None and last != first:
            around(last, "expected")
    parts, at = [], 0
    for place, more in sorted(inserted, key=lambda one: one[0]):
        parts += [source.data[at:place].decode("utf-8", "surrogatepass"), more]
        at = place
    parts.append(source.data[at:].decode("utf-8", "surrogatepass").rstrip())
    name = _text(called[0].child_by_field_name("function"))
    unchecked = "// @ts-nocheck\n" if PurePosixPath(path).suffix in (".ts", ".tsx", ".mts", ".cts") else ""
    end = f'{name}("{secrets.token_hex(4)}", () => {{ {through}"end", 0); }});'
    group = _GROUP.search(source.data.decode("utf-8", "surrogatepass"))
    if group is not None:  # mocha runs tests before groups
        end = f'{group[1]}("{secrets.token_hex(4)}", () => {{ {end} }});'
    return f"{unchecked}{''.join(parts)}\n;{end}\n"


def _start(source: Source) -> int:
    """Where the first statement begins, behind comments, which may say in which surroundings the tests are to run."""
    for node in source.root.named_children:
        is_directive = node.type == "expression_statement" and node.named_children[0].type == "string"
        if node.type not in COMMENTS and node.type != "hash_bang_line" and not is_directive:
            return node.start_byte
    return source.root.end_byte


def _assertions(root: "Node") -> Iterator[tuple["Node | None", "Node | None"]]:
    """What is judged by each assertion, and the last that it is compared with."""
    todo = [root]
    while todo:
        node = todo.pop()
        todo += reversed(node.named_children)
        called, given = node.child_by_field_name("function"), node.child_by_field_name("arguments")
        if node.type != "call_expression" or called is None or given is None or given.type != "arguments":
            continue
        values = [one for one in given.named_children if one.type not in COMMENTS]
        if not values or any(one.type == "spread_element" for one in values):
            continue
        if _text(called) in ("expect", "assert"):
            yield values[0], None
        elif called.type == "member_expression" and _text(called).startswith("assert."):
            yield values[0], values[-1]
        elif called.type == "member_expression" and _rooted(called):
            yield None, values[-1]


def _rooted(node: "Node") -> bool:
    """Whether it is a property of what `expect(...)` gave."""
    below: Node | None = node
    while below is not None:
        if below.type == "call_expression" and _text(below.child_by_field_name("function")) == "expect":
            return True
        below = below.child_by_field_name("object") or below.child_by_field_name("function")
    return False
