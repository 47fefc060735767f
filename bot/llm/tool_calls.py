"""Tool calls of models that were offered no tools, as the tags of our replies. Pure.

Models trained as agents call the tools that they know, and servers parse such calls out of the reply, or leave them in
it: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, `<function=name><parameter=key>value</parameter>`,
`[TOOL_CALLS][...]`, or the bare object. What a call asks for mostly has a tag: a command, a replaced text, a file.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from bot.patch.formats import of_json

_CALL = re.compile(r"<(tool_call|function_call)>\s*(\{.*?\}|<function=.*?</function>)\s*(?:</\1>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_LISTED = re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])\s*\Z", re.DOTALL)
_BEGINS = re.compile(r"<(?:tool_call|function_call)>|<(?:function|parameter)=|\[TOOL_CALLS\]")
_MOST = (
    200  # calls and parameters that a reply has, if it is no loop: one that has no end takes a look at all behind it
)
_OURS = re.compile(r"^[ \t]*<(?:run|edit|define|file|diff|create|delete|test|done|approve|choose)\b", re.MULTILINE)

_PATH = ("path", "file_path", "filepath", "filePath", "file", "filename", "target_file")
_COMMAND = ("command", "cmd", "script", "bash")
_OLD = ("old_str", "old_string", "oldString", "search", "old", "find")
_NEW = ("new_str", "new_string", "newString", "replace", "new", "replacement")
_TEXT = ("file_text", "content", "contents", "text", "code_edit")
_PATCH = ("patch", "diff", "input", "patchText")
_ENDS = re.compile(r"finish|submit|done|complete|final", re.IGNORECASE)


def calls_as_tags(calls: Iterable[object]) -> str:
    """What the calls of an answer ask for, as tags; "" where none has one. `calls`: as in OpenAI's API."""
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict):
            given = function.get("arguments", function.get("parameters"))
            found.append(_as_tags(str(function.get("name") or ""), given))
    return "\n".join(filter(None, found))


def text_as_tags(text: str) -> str:
    """The reply, with calls that are written in it as tags where it has none of ours."""
    if _OURS.search(text):
        return text
    if len(_BEGINS.findall(text)) > _MOST:
        return text
    whole = re.sub(r"\A```(?:json)?|```\Z", "", text.replace("<|python_tag|>", "").strip()).strip()
    if whole.startswith("{") and (tags := calls_as_tags([_json(whole, dict)])):
        return tags
    listed = _LISTED.search(text)
    if listed and (tags := calls_as_tags(_json(listed[1], list))):
        return text[: listed.start()] + tags
    text = _CALL.sub(lambda m: _written(m[2]) or m[0], text)
    return text if _OURS.search(text) else _FUNCTION.sub(lambda m: _written(m[0]) or m[0], text)


def _written(call: str) -> str:
    function = _FUNCTION.match(call)
    if function:
        return _as_tags(function[1], dict(_PARAMETER.findall(function[2])))
    return calls_as_tags([_json(call, dict)])


def _json(text: str, kind: type) -> Any:
    try:
        found = of_json(text, strict=False)
    except ValueError:
        return kind()
    return found if isinstance(found, kind) else kind()


def _as_tags(name: str, arguments: object) -> str:
    """The tag for one call, or ""."""
    given = _json(arguments, dict) if isinstance(arguments, str) else arguments
    if not isinstance(given, Mapping):
        given = {}
    path, old, new = _first(given, _PATH), _first(given, _OLD), _first(given, _NEW)
    text, patch, command = _first(given, _TEXT), _first(given, _PATCH), _first(given, _COMMAND)
    if path and old is not None and new is not None:
        return f'<edit path="{path}">\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n</edit>'
    if patch and re.search(r"^(?:@@|\*\*\* Begin Patch|--- )", patch, re.MULTILINE):
        return f"```diff\n{patch}\n```"
    if path and text is not None:
        return f'<file path="{path}">\n{text}\n</file>'
    if path and (command in (None, "view", "open", "read")) and re.search(r"view|read|open|cat|show|edit", name):
        return f"<run>cat -n {shlex.quote(path)}</run>"
    if command and not path:
        return f"<run>{command}</run>"
    if pattern := _first(given, ("pattern", "query", "regex")):
        return f"<run>grep -rn -e {shlex.quote(pattern)} {shlex.quote(path or '.')}</run>"
    return "<done/>" if _ENDS.search(name) else ""


def _first(given: Mapping[Any, Any], names: Iterable[str]) -> str | None:
    """The first argument of these names that is a text, or the words of a command."""
    for name in names:
        value = given.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            shell = len(value) == 3 and value[1] in ("-c", "-lc")
            return value[2] if shell else shlex.join(value)
    return None
