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
    escapes: bool = False  # names are written with `escaped`


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
            found |= _given(pair, schemas.get(name, {}), markup.escapes)
            at = pair.end()
        end = markup.call_end.match(body, at)
        if end is None:
            raise ValueError("a parameter does not end")
        calls.append(call_of(name, found))
        at = end.end()
    return calls


def _given(pair: "re.Match[str]", schema: dict[str, Any], escapes: bool) -> dict[str, Any]:
    """The argument of a pair, or all arguments of one without a name."""
    if pair["name"] is None:
        found = parsed(pair["value"])
        if not isinstance(found, dict):
            raise ValueError("the arguments are not an object")
        return found
    name = unescaped(pair["name"]) if escapes else pair["name"].strip()
    said = pair.groupdict().get("text")
    if said is None:
        return {name: value_of(pair["value"], schema, name)}
    return {name: pair["value"] if said in ("true", "string") else parsed(pair["value"])}


def escaped(name: str) -> str:
    """A name as Kimi K3 writes it in quotes."""
    return name.replace("&", "&amp;").replace('"', "&quot;")


def unescaped(name: str) -> str:
    """See `escaped`."""
    return name.replace("&quot;", '"').replace("&amp;", "&")


class Tag(NamedTuple):
    """An element: what is before its name and behind it, and what ends it."""

    begin: str
    named: str
    end: str


def _elements(begin: str, end: str, call: Tag, parameter: Tag, blank: str = "", said: str = "") -> Markup:
    """Parameters within calls within a section.

    Args:
        begin: of a section.
        end: of a section.
        call: its name is the tool's.
        parameter: its name is the argument's.
        blank: a pattern of what is around a value beside it.
        said: a pattern of what tells texts apart, between a parameter's name and what is behind it.
    """
    opens, shuts = re.escape(parameter.begin), re.escape(call.end)
    follows = rf"(?={opens}|{shuts}\s*(?:{re.escape(call.begin)}|\Z))"
    name = rf'{opens}(?P<name>[^>"\n]+){said}{re.escape(parameter.named)}'
    value = rf"{blank}(?P<value>.*?){blank}{re.escape(parameter.end)}\s*{follows}"
    return Markup(
        begin,
        end,
        re.compile(rf'{re.escape(call.begin)}([^>"\n]+){re.escape(call.named)}\s*'),
        re.compile(name + value, re.DOTALL),
        re.compile(rf"{shuts}\s*"),
    )


def reader(markup: Markup) -> Callable[[str, Schemas], list[ToolCall]]:
    """As `engine.text.replies.formats.ToolFormat` has it."""
    return lambda section, schemas: read_markup(markup, section, schemas)


FUNCTION = Tag("<function=", ">", "</function>"), Tag("<parameter=", ">", "</parameter>")
INVOKE = Tag('<invoke name="', '">', "</invoke>"), Tag('<parameter name="', '">', "</parameter>")
DSML = "｜DSML｜"
DSML_INVOKE = Tag(f'<{DSML}invoke name="', '">', f"</{DSML}invoke>")
DSML_PARAMETER = Tag(f'<{DSML}parameter name="', ">", f"</{DSML}parameter>")
QWEN3_CODER = _elements("<tool_call>", "</tool_call>", *FUNCTION, r"\n?")
SEED_OSS = _elements("<seed:tool_call>", "</seed:tool_call>", *FUNCTION)
MINIMAX_M2 = _elements("<minimax:tool_call>", "</minimax:tool_call>", *INVOKE)
DEEPSEEK_V32, DEEPSEEK_V4 = (
    _elements(
        f"<{DSML}{name}>", f"</{DSML}{name}>", DSML_INVOKE, DSML_PARAMETER, said='" string="(?P<text>true|false)"'
    )
    for name in ("function_calls", "tool_calls")
)
KIMI_K3 = Markup(  # values as they are: what they quote is left so; `json` holds all arguments of a call
    "<|open|>tools<|sep|>",
    "<|close|>tools<|sep|>",
    re.compile(r'<\|open\|>call tool="([^"]+)"[^<]*<\|sep\|>\s*'),
    re.compile(
        r'<\|open\|>(?:argument key="(?P<name>[^"]+)"|json) type="(?P<text>\w+)"<\|sep\|>(?P<value>.*?)'
        r"<\|close\|>(?:argument|json)<\|sep\|>\s*"
        r"(?=<\|open\|>argument |<\|close\|>call<\|sep\|>\s*(?:<\|open\|>call |\Z))",
        re.DOTALL,
    ),
    re.compile(r"<\|close\|>call<\|sep\|>\s*"),
    escapes=True,
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
