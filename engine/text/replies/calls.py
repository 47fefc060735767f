"""Reads tool calls as each family of models writes them. Each function takes a section, its marks included, and the
tools' parameters; it raises `ValueError` where the section is broken.
"""

import re
from typing import Any

from engine.text.replies import pythonic
from engine.text.replies.pieces import Schemas, ToolCall, as_call, call_of, parsed, sequence
from engine.text.replies.unquoted import value_of

_ARGUMENTS = ("arguments", "parameters")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n?```", re.DOTALL)
_GLM_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*(?=<arg_key>|\Z)", re.DOTALL)
_DEEPSEEK_CALL = re.compile(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁call▁end｜>", re.DOTALL)
_DEEPSEEK_FENCE = re.compile(r"\A([^\n]+)\n```json\n(.*)\n```\s*\Z", re.DOTALL)
_KIMI_CALL = re.compile(
    r"<\|tool_call_begin\|>\s*(?:functions\.)?([\w.-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>",
    re.DOTALL,
)
_SOLAR_CALL = re.compile(
    r"<\|tool_call:begin\|>[^<]*<\|tool_call:name\|>([^<]+)<\|tool_call:args\|>(.*?)<\|tool_call:end\|>", re.DOTALL
)
_GIGACHAT = re.compile(r"(?:<\|message_sep\|>\s*)?function call<\|role_sep\|>|<\|function_call\|>")
_MISTRAL_CALL = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\](.*)\Z", re.DOTALL)


def hermes(section: str, _: Schemas) -> list[ToolCall]:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`."""
    return [as_call(parsed(_inside(section, "<tool_call>", "</tool_call>")), *_ARGUMENTS)]


def hermes_without_marks(section: str, schemas: Schemas) -> list[ToolCall]:
    """A whole reply that is the object alone, perhaps fenced: Qwen2.5-Coder writes its calls so."""
    fenced = _FENCED.fullmatch(section.strip())
    found = as_call(parsed(fenced[1] if fenced else section), *_ARGUMENTS)
    if found.name not in schemas:
        raise ValueError("no tool of the request")
    return [found]


def glm45(section: str, schemas: Schemas) -> list[ToolCall]:
    """`<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>...</tool_call>`; texts are not quoted."""
    body = _inside(section, "<tool_call>", "</tool_call>").strip()
    name, mark, pairs = body.partition("<arg_key>")
    name, found, at = name.strip(), dict[str, Any](), 0
    text = mark + pairs
    while (pair := _GLM_PAIR.search(text, at)) is not None and pair.start() == at:
        found[pair[1].strip()] = value_of(pair[2], schemas.get(name, {}), pair[1].strip())
        at = pair.end()
    if at != len(text) or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("no arguments")
    return [call_of(name, found)]


def llama3_json(section: str, _: Schemas) -> list[ToolCall]:
    """`{"name": ..., "parameters": {...}}`, several with semicolons between, perhaps behind `<|python_tag|>`."""
    values = sequence(section.replace("<|python_tag|>", "", 1), ";")
    if not all(isinstance(value, dict) and set(_ARGUMENTS) & set(value) for value in values):
        raise ValueError("an object that is no call")
    return [as_call(value, "parameters", "arguments") for value in values]


def llama4(section: str, schemas: Schemas) -> list[ToolCall]:
    """As Llama 3's, or in Python's syntax in a list, perhaps between `<|python_start|>` and `<|python_end|>`."""
    text = _inside(section.strip(), "<|python_start|>", "<|python_end|>").strip()
    calls = pythonic.read(text) if text.startswith("[") else llama3_json(text, schemas)
    if not calls or any(call.name not in schemas for call in calls):
        raise ValueError("no tool of the request")
    return calls


def minimax_m1(section: str, _: Schemas) -> list[ToolCall]:
    """`<tool_calls>`, `{"name": ..., "arguments": {...}}` for each call or all in a list, `</tool_calls>`."""
    values = sequence(_inside(section, "<tool_calls>", "</tool_calls>"))
    calls = [call for value in values for call in (value if isinstance(value, list) else [value])]
    if not calls:
        raise ValueError("no calls")
    return [as_call(call, *_ARGUMENTS) for call in calls]


def solar_open(section: str, _: Schemas) -> list[ToolCall]:
    """`<|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>{...}<|tool_call:end|>` for each call."""
    found = _sections(_SOLAR_CALL, section, "<|tool_calls|>", "<|calls|>")
    return [call_of(part[1].strip(), parsed(part[2])) for part in found]


def apertus(section: str, _: Schemas) -> list[ToolCall]:
    """`<|tools_prefix|>[{NAME: {...}}, ...]<|tools_suffix|>`."""
    values = parsed(_inside(section, "<|tools_prefix|>", "<|tools_suffix|>"))
    if not isinstance(values, list) or not values or not all(isinstance(one, dict) and len(one) == 1 for one in values):
        raise ValueError("no list of calls")
    return [call_of(name, arguments) for one in values for name, arguments in one.items()]


def functionary(section: str, _: Schemas) -> list[ToolCall]:
    """`<function=NAME>{...}</function>`."""
    name, mark, arguments = _inside(section, "<function=", "</function>").partition(">")
    if not mark or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("no name")
    return [call_of(name, parsed(arguments))]


def mistral(section: str, _: Schemas) -> list[ToolCall]:
    """`[TOOL_CALLS]NAME[ARGS]{...}` for each call, or `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`."""
    parts = [part.strip() for part in section.split("[TOOL_CALLS]") if part.strip()]
    calls = []
    for part in parts:
        written = _MISTRAL_CALL.match(part)
        if written is not None:
            calls.append(call_of(written[1], parsed(written[2])))
        else:
            calls += _listed(part)
    return calls


def cohere(section: str, _: Schemas) -> list[ToolCall]:
    """`<|START_ACTION|>[{"tool_call_id": "0", "tool_name": ..., "parameters": {...}}, ...]<|END_ACTION|>`."""
    values = parsed(_inside(section, "<|START_ACTION|>", "<|END_ACTION|>"))
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise ValueError("no list of calls")
    return [as_call({"name": value.get("tool_name"), **value}, "parameters") for value in values]


def gigachat(section: str, _: Schemas) -> list[ToolCall]:
    """`function call<|role_sep|>` or `<|function_call|>`, then `{"name": ..., "arguments": {...}}`, for each call."""
    parts = _GIGACHAT.split(section.strip().removesuffix("<|message_sep|>"))
    return [as_call(parsed(part), *_ARGUMENTS) for part in parts[1:]]


def granite(section: str, _: Schemas) -> list[ToolCall]:
    """`<|tool_call|>[{"name": ..., "arguments": {...}}, ...]`."""
    return _listed(section.removeprefix("<|tool_call|>").strip().removesuffix("<|/tool_call|>"))


def deepseek(section: str, _: Schemas) -> list[ToolCall]:
    """A section of calls: a type, name and fenced arguments (V3, R1), or a name and arguments (V3.1)."""
    calls = []
    for part in _sections(_DEEPSEEK_CALL, section, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"):
        first, mark, rest = part[1].partition("<｜tool▁sep｜>")
        fenced = _DEEPSEEK_FENCE.match(rest)
        if not mark:
            raise ValueError("no name")
        calls.append(call_of(fenced[1].strip(), parsed(fenced[2])) if fenced else call_of(first.strip(), parsed(rest)))
    return calls


def kimi_k2(section: str, _: Schemas) -> list[ToolCall]:
    """A section of calls, each with `functions.NAME:NUMBER` and arguments."""
    found = _sections(_KIMI_CALL, section, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
    return [call_of(part[1], parsed(part[2])) for part in found]


def _sections(pattern: "re.Pattern[str]", section: str, begin: str, end: str) -> "list[re.Match[str]]":
    """All matches in a section, which has nothing else but blanks."""
    body = _inside(section, begin, end)
    if pattern.sub("", body).strip():
        raise ValueError("text between calls")
    found = list(pattern.finditer(body))
    if not found:
        raise ValueError("no calls")
    return found


def _inside(section: str, begin: str, end: str) -> str:
    return section.removeprefix(begin).removesuffix(end)


def _listed(text: str) -> list[ToolCall]:
    values = parsed(text)
    if not isinstance(values, list) or not values:
        raise ValueError("no list of calls")
    return [as_call(value, *_ARGUMENTS) for value in values]
