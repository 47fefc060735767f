"""Tool calls in markup, each argument in an element of its own, its value without quotes."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.text.replies.pieces import Schemas, ToolCall, call_of, parsed
from engine.text.replies.unquoted import value_of


class Markup(NamedTuple):
    """One family's marks. A text may spell them: a value ends where a parameter or the call's end follows."""

    begin: str  # of a section
    end: str
    call: "re.Pattern[str]"  # begins a call; group 1: the tool's name
    parameter: "re.Pattern[str]"  # groups: `name`, `value`, perhaps `text`: whether it is a text
    call_end: "re.Pattern[str]"


def read_markup(markup: Markup, section: str, schemas: Schemas) -> list[ToolCall]:
    """The calls of a section.

    Raises:
        ValueError: it is broken.
    """
    body = section.removeprefix(markup.begin).removesuffix(markup.end).strip()
    calls: list[ToolCall] = []
    at = 0
    while not calls or at < len(body):
        named = markup.call.match(body, at)
        if named is None:
            raise ValueError("no function")
        name, found, at = named[1].strip(), dict[str, Any](), named.end()
        while (pair := markup.parameter.match(body, at)) is not None:
            found[pair["name"].strip()] = _value(pair, schemas.get(name, {}))
            at = pair.end()
        end = markup.call_end.match(body, at)
        if end is None:
            raise ValueError("a parameter does not end")
        calls.append(call_of(name, found))
        at = end.end()
    return calls


def _value(pair: "re.Match[str]", schema: dict[str, Any]) -> Any:
    said = pair.groupdict().get("text")
    if said is None:
        return value_of(pair["value"], schema, pair["name"].strip())
    return pair["value"] if said in ("true", "string") else parsed(pair["value"])


def _functions(begin: str, end: str, blank: str) -> Markup:
    """`<function=NAME><parameter=KEY>VALUE</parameter>...</function>`. `blank`: what is around a value beside it."""
    follows = r"(?=<parameter=|</function>\s*(?:<function=|\Z))"
    value = rf"<parameter=(?P<name>[^>\n]+)>{blank}(?P<value>.*?){blank}</parameter>\s*{follows}"
    return Markup(
        begin,
        end,
        re.compile(r"<function=([^>\n]+)>\s*"),
        re.compile(value, re.DOTALL),
        re.compile(r"</function>\s*"),
    )


def _invocations(begin: str, end: str, prefix: str = "", said: str = "") -> Markup:
    """`<invoke name="NAME"><parameter name="KEY">VALUE</parameter>...</invoke>`. `said`: what tells texts apart."""
    follows = rf'(?=<{prefix}parameter name="|</{prefix}invoke>\s*(?:<{prefix}invoke name="|\Z))'
    value = rf'<{prefix}parameter name="(?P<name>[^"\n]+)"{said}>(?P<value>.*?)</{prefix}parameter>\s*{follows}'
    return Markup(
        begin,
        end,
        re.compile(rf'<{prefix}invoke name="([^"\n]+)">\s*'),
        re.compile(value, re.DOTALL),
        re.compile(rf"</{prefix}invoke>\s*"),
    )


def reader(markup: Markup) -> Callable[[str, Schemas], list[ToolCall]]:
    """As `engine.text.replies.formats.ToolFormat` has it."""
    return lambda section, schemas: read_markup(markup, section, schemas)


QWEN3_CODER = _functions("<tool_call>", "</tool_call>", r"\n?")
SEED_OSS = _functions("<seed:tool_call>", "</seed:tool_call>", "")
MINIMAX_M2 = _invocations("<minimax:tool_call>", "</minimax:tool_call>")
DEEPSEEK_V32 = _invocations(
    "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "｜DSML｜", ' string="(?P<text>true|false)"'
)


KIMI_K3 = Markup(  # attributes and values as they are: what they quote is left so
    "<|open|>tools<|sep|>",
    "<|close|>tools<|sep|>",
    re.compile(r'<\|open\|>call tool="([^"]+)"[^<]*<\|sep\|>\s*'),
    re.compile(
        r'<\|open\|>argument key="(?P<name>[^"]+)" type="(?P<text>\w+)"<\|sep\|>(?P<value>.*?)'
        r"<\|close\|>argument<\|sep\|>\s*(?=<\|open\|>argument |<\|close\|>call<\|sep\|>\s*(?:<\|open\|>call |\Z))",
        re.DOTALL,
    ),
    re.compile(r"<\|close\|>call<\|sep\|>\s*"),
)


def _hunyuan(suffix: str) -> Markup:
    """`<tool_call>NAME<tool_sep><arg_key>KEY</arg_key><arg_value>VALUE</arg_value>...</tool_call>`; Hy4 has no
    `<tool_sep>`. `suffix`: what a checkpoint's marks end with.
    """

    def mark(name: str) -> str:
        return re.escape(f"<{name}{suffix}>")

    follows = rf"(?={mark('arg_key')}|{mark('/tool_call')}\s*(?:{mark('tool_call')}|\Z))"
    key = rf"{mark('arg_key')}(?P<name>[^<>]+){mark('/arg_key')}\s*"
    return Markup(
        f"<tool_calls{suffix}>",
        f"</tool_calls{suffix}>",
        re.compile(rf"{mark('tool_call')}\s*([\w.-]+)\s*(?:{mark('tool_sep')}\s*)?"),
        re.compile(rf"{key}{mark('arg_value')}(?P<value>.*?){mark('/arg_value')}\s*{follows}", re.DOTALL),
        re.compile(rf"{mark('/tool_call')}\s*"),
    )


HUNYUAN_SUFFIXES = ("", ":opensource", ":6124c78e")  # of Hy3's preview, of Hy3 and of Hy4
HUNYUAN = tuple(_hunyuan(suffix) for suffix in HUNYUAN_SUFFIXES)


def hunyuan(section: str, schemas: Schemas) -> list[ToolCall]:
    """The calls of a section of Hy3 or Hy4.

    Raises:
        ValueError: it is broken.
    """
    return read_markup(next(form for form in HUNYUAN if section.startswith(form.begin)), section, schemas)
