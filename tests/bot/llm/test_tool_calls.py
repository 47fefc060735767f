"""Calls of tools that were not offered mean what their tags mean."""

import json
from typing import Any

import pytest

from bot.llm.completion import read_completion
from bot.llm.looks import parse_looks
from bot.llm.replies import parse_edit_turn
from bot.patch.edits import Block, Problem, Replace, Rewrite
from bot.records import Reply

REPLACED = {"path": "a.py", "old_str": "x = 1", "new_str": "x = 2"}
EDIT = Replace(path="a.py", blocks=(Block(search="x = 1", replace="x = 2", line=2),))


def answered(name: str, arguments: object, **message: Any) -> Reply:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    message = message or {"content": None, "tool_calls": [call]}
    return read_completion({"choices": [{"finish_reason": "tool_calls", "message": message}]}, 0.0)


def edited(reply: Reply) -> object:
    turn = parse_edit_turn(reply)
    assert not isinstance(turn, Problem), turn.text
    return turn.edits[0]


@pytest.mark.parametrize(
    "content",
    [
        f"Let me.\n<tool_call>\n{json.dumps({'name': 'edit', 'arguments': REPLACED})}\n</tool_call>",
        json.dumps({"name": "str_replace_editor", "parameters": REPLACED}),
        f"```json\n{json.dumps({'name': 'edit', 'arguments': REPLACED}, indent=1)}\n```",
        f"[TOOL_CALLS]{json.dumps([{'name': 'edit', 'arguments': REPLACED}])}",
        "<tool_call>\n<function=edit>\n<parameter=path>\na.py\n</parameter>\n<parameter=old_str>\nx = 1\n</parameter>"
        "\n<parameter=new_str>\nx = 2\n</parameter>\n</function>\n</tool_call>",
    ],
)
def test_calls_that_the_server_left_in_the_reply(content: str) -> None:
    edit = edited(answered("", "", content=content))
    assert isinstance(edit, Replace)
    assert (edit.path, edit.blocks[0].search, edit.blocks[0].replace) == ("a.py", "x = 1", "x = 2")


def test_calls_that_the_server_parsed() -> None:
    assert edited(answered("edit", json.dumps(REPLACED))) == EDIT
    assert edited(answered("edit", REPLACED)) == EDIT
    assert edited(answered("write_file", {"file_path": "a.py", "content": "x = 2\n"})) == Rewrite(
        path="a.py", text="x = 2"
    )
    patch = {"input": "*** Begin Patch\n*** Update File: a.py\n@@\n-x = 1\n+x = 2\n*** End Patch"}
    found = edited(answered("apply_patch", patch))
    assert isinstance(found, Replace)
    assert found.path == "a.py"
    old = {"content": None, "function_call": {"name": "edit", "arguments": json.dumps(REPLACED)}}
    assert edited(answered("", "", **old)) == EDIT


@pytest.mark.parametrize(
    ("name", "arguments", "command"),
    [
        ("bash", {"command": "grep -rn x ."}, "grep -rn x ."),
        ("shell", {"command": ["bash", "-lc", "ls | head"]}, "ls | head"),
        ("shell", {"command": ["ls", "a b"]}, "ls 'a b'"),
        ("str_replace_editor", {"command": "view", "path": "a.py"}, "cat -n a.py"),
        ("read_file", {"path": "a.py"}, "cat -n a.py"),
        ("grep", {"pattern": "x y"}, "grep -rn -e 'x y' ."),
    ],
)
def test_commands(name: str, arguments: dict[str, object], command: str) -> None:
    assert parse_looks(answered(name, arguments)).commands == (command,)


def test_others_are_told_that_there_are_none() -> None:
    assert edited_text("finish", {}) == "<done/>"
    for name, arguments in (("think", {}), ("bash", "not JSON"), ("bash", [1])):
        assert "there are none here" in edited_text(name, arguments)
    talk = 'I call <tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>\n<done/>'
    assert answered("", "", content=talk).text == talk, "the reply has tags of its own"


def edited_text(name: str, arguments: object) -> str:
    return answered(name, arguments).text
