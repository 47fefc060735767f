"""Grammars for replies with tool calls or thoughts, in llguidance's dialect of Lark."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import RequestError
from engine.text.grammar import Grammar
from engine.text.replies import gemma, nested
from engine.text.replies.formats import ThoughtFormat, ToolFormatName
from engine.text.replies.gemma_grammar import GemmaValues
from engine.text.replies.lark import ANY, Mark, quoted, spaced
from engine.text.replies.markup import (
    DEEPSEEK_V4,
    DEEPSEEK_V32,
    DSML_INVOKE,
    DSML_PARAMETER,
    FUNCTION,
    HUNYUAN_SUFFIXES,
    INVOKE,
    KIMI_K3,
    Markup,
    Tag,
)
from engine.text.replies.pieces import Schemas
from engine.text.replies.tag_grammar import TaggedValues, TypedValues
from engine.text.replies.unquoted import parameter, types_of

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class CallGrammar:
    """Calls of certain tools, in the form of one family."""

    def __init__(self, form: ToolFormatName, mark: Mark, tools: Schemas, several: bool, lists: bool = False) -> None:
        """
        Args:
            form: of the family.
            mark: writes a mark in Lark.
            tools: that may be called, with their parameters.
            several: whether there may be more than one call.
            lists: whether a Mistral model writes calls as a list.
        """
        self._form = form
        self._mark = mark
        self._several = several
        self._tools = {name: _object(schema) for name, schema in tools.items()}
        self._rules: list[str] = []
        self._lists = lists

    def rules(self, name: str) -> str:
        """Lark rules of which `name` is the one for all calls.

        Raises:
            RequestError: there are none for this family, or the tools' parameters are no schemas.
        """
        start = getattr(self, f"_{self._form}")()
        return "\n".join([f"{name}: {start}", *self._rules]) + "\n"

    def _each(self, before: Callable[[str], str], after: str) -> str:
        """One call of any tool: its arguments as JSON, between what `before` gives for its name, and `after`."""
        ways = []
        for tool, schema in self._tools.items():
            rule = self._rule(f"%json {json.dumps(schema)}")
            ways.append(" ".join(part for part in (before(tool), rule, after) if part))
        return self._rule(" | ".join(ways))

    def _rule(self, body: str, suffix: str = "") -> str:
        """A rule of its own; `suffix`: what ends it and can't be in it."""
        name = f"part{len(self._rules)}"
        self._rules.append(f"{name}[suffix={json.dumps(suffix)}]: {body}" if suffix else f"{name}: {body}")
        return name

    def _repeated(self, call: str, between: str = "") -> str:
        if not self._several:
            return call
        return f"{call} ({between} {call})*" if between else f"{call}+"

    @staticmethod
    def _head(key: str = "arguments") -> Callable[[str], str]:
        return lambda name: quoted(f'{{"name": {json.dumps(name)}, "{key}": ')

    def _hermes(self) -> str:
        call = self._each(self._head(), quoted("}"))
        begin, end = self._mark("<tool_call>"), self._mark("</tool_call>")
        return self._repeated(f"{begin} {quoted(chr(10))} {call} {quoted(chr(10))} {end}", quoted("\n"))

    def _qwen3_coder(self) -> str:
        call = f"{quoted(chr(10))} {self._elements(*FUNCTION, blank=chr(10))}"
        return self._repeated(f"{self._mark('<tool_call>')} {call} {self._mark('</tool_call>')}", quoted("\n"))

    def _seed_oss(self) -> str:
        begin, end = self._mark("<seed:tool_call>"), self._mark("</seed:tool_call>")
        return self._repeated(f"{begin} {quoted(chr(10))} {self._elements(*FUNCTION)} {end}", quoted("\n"))

    def _minimax_m2(self) -> str:
        calls = f"{quoted(chr(10))} {self._repeated(self._elements(*INVOKE))}"
        return f"{self._mark('<minimax:tool_call>')} {calls} {self._mark('</minimax:tool_call>')}"

    def _deepseek_v32(self) -> str:
        return self._dsml(DEEPSEEK_V32)

    def _deepseek_v4(self) -> str:
        return self._dsml(DEEPSEEK_V4)

    def _dsml(self, form: Markup) -> str:
        call = self._elements(DSML_INVOKE, DSML_PARAMETER, said=lambda texts: f'" string="{json.dumps(texts)}"')
        return f"{self._mark(form.begin)} {quoted(chr(10))} {self._repeated(call)} {self._mark(form.end)}"

    def _elements(self, call: Tag, parameter_: Tag, blank: str = "", said: Callable[[bool], str] = lambda _: "") -> str:
        """One call of any tool. `said`: what a parameter says of its value, by whether that may be a text."""
        end, ways = f"{blank}{parameter_.end}\n", []
        for tool, schema in self._tools.items():
            parts = [quoted(f"{call.begin}{tool}{call.named}\n")]
            for key in _properties(schema):
                own = parameter(schema, key)
                begin = f"{parameter_.begin}{key}{said('string' in types_of(own))}{parameter_.named}{blank}"
                written = self._rule(f"{quoted(begin)} {self._unquoted(own, end)}")
                parts.append(written if key in _required(schema) else f"{written}?")
            ways.append(" ".join([*parts, quoted(f"{call.end}\n")]))
        return self._rule(" | ".join(ways))

    def _minimax_m3(self) -> str:
        begin, end = self._mark(nested.BEGIN), self._mark(nested.END)
        call = self._rule(" | ".join(TaggedValues(self._mark, self._rule).call(*tool) for tool in self._tools.items()))
        return f"{begin} {quoted(chr(10))} {self._repeated(call)} {end}"

    def _kimi_k3(self) -> str:
        begin, end = self._mark(KIMI_K3.begin), self._mark(KIMI_K3.end)
        call = self._rule(" | ".join(TypedValues(self._mark, self._rule).call(*tool) for tool in self._tools.items()))
        return f"{begin} {self._repeated(call)} {end}"

    def _unquoted(self, schema: Any, end: str) -> str:
        """A value and what ends it. Texts are written as they are."""
        if isinstance(schema, dict) and isinstance(schema.get("enum"), list) and schema["enum"]:
            texts = [value if isinstance(value, str) else json.dumps(value) for value in schema["enum"]]
            return f"({' | '.join(map(quoted, texts))}) {quoted(end)}"
        if "string" not in types_of(schema):
            return f"{self._rule(f'%json {json.dumps(spaced(schema))}')} {quoted(end)}"
        return self._rule(ANY, end)

    def _glm45(self) -> str:
        return self._repeated(self._pairs("", quoted("\n")), quoted("\n"))

    def _hy_v3(self) -> str:
        return self._hunyuan(quoted("\n"))

    def _hy_v4(self) -> str:
        return self._hunyuan("")

    def _hunyuan(self, blank: str) -> str:
        suffix = next((end for end in HUNYUAN_SUFFIXES if self._mark(f"<tool_calls{end}>").startswith("<[")), "")
        call = self._pairs(suffix, blank, self._mark(f"<tool_sep{suffix}>") if blank else "")
        first, last = self._mark(f"<tool_calls{suffix}>"), self._mark(f"</tool_calls{suffix}>")
        return f"{first} {blank} {self._repeated(call, blank)} {blank} {last}"

    def _pairs(self, suffix: str, blank: str, behind: str = "") -> str:
        """One call of any tool, each argument a key and a value between marks.

        Args:
            suffix: what the marks end with.
            blank: between the parts, in Lark.
            behind: of the tool's name.
        """
        ways = []
        for tool, schema in self._tools.items():
            parts = [f"{quoted(tool)} {behind} {blank}"]
            for key in _properties(schema):
                key_end, value_begin = self._mark(f"</arg_key{suffix}>"), self._mark(f"<arg_value{suffix}>")
                written = self._value_between(parameter(schema, key), suffix)
                key_begin = f"{self._mark(f'<arg_key{suffix}>')} {quoted(key)} {key_end}"
                pair = self._rule(f"{key_begin} {blank} {value_begin} {written} {blank}")
                parts.append(pair if key in _required(schema) else f"{pair}?")
            ways.append(" ".join(parts))
        first, last = self._mark(f"<tool_call{suffix}>"), self._mark(f"</tool_call{suffix}>")
        return f"{first} {self._rule(' | '.join(ways))} {last}"

    def _value_between(self, schema: Any, suffix: str) -> str:
        end = self._mark(f"</arg_value{suffix}>")
        if end.startswith("<["):  # a token ends it
            texts = "string" in types_of(schema)
            value = self._rule(ANY) if texts else self._rule(f"%json {json.dumps(spaced(schema))}")
            return f"{value} {end}"
        return self._unquoted(schema, f"</arg_value{suffix}>")

    def _llama3_json(self) -> str:
        return self._each(self._head("parameters"), quoted("}"))

    _llama4 = _llama3_json

    def _minimax_m1(self) -> str:
        calls = self._repeated(self._each(self._head(), quoted("}\n")))
        return f"{self._mark('<tool_calls>')} {quoted(chr(10))} {calls} {self._mark('</tool_calls>')}"

    def _hunyuan_a13b(self) -> str:
        calls = self._repeated(self._each(self._head(), quoted("}")), quoted(", "))
        return f"{self._mark('<tool_calls>')} {quoted('[')} {calls} {quoted(']')} {self._mark('</tool_calls>')}"

    def _solar_open(self) -> str:
        begin, name, arguments, end = (self._mark(f"<|tool_call:{part}|>") for part in ("begin", "name", "args", "end"))
        call = self._each(lambda tool: f"{begin} /[a-z0-9]+/ {name} {quoted(tool)} {arguments}", end)
        return f"({self._mark('<|begin|>assistant')})? {self._mark('<|tool_calls|>')} {self._repeated(call)}"

    def _apertus(self) -> str:
        calls = self._repeated(self._each(lambda name: quoted(f"{{{json.dumps(name)}: "), quoted("}")), quoted(", "))
        return f"{self._mark('<|tools_prefix|>')} {quoted('[')} {calls} {quoted(']')} {self._mark('<|tools_suffix|>')}"

    def _functionary(self) -> str:
        return self._repeated(self._each(lambda name: quoted(f"<function={name}>"), quoted("</function>")))

    def _mistral(self) -> str:
        begin = self._mark("[TOOL_CALLS]")
        if self._lists:
            call = self._each(self._head(), quoted("}"))
            return f"{begin} {quoted('[')} {self._repeated(call, quoted(', '))} {quoted(']')}"
        return self._repeated(self._each(lambda name: f"{begin} {quoted(name)} {self._mark('[ARGS]')}", ""))

    def _granite(self) -> str:
        call = self._each(self._head(), quoted("}"))
        return f"{self._mark('<|tool_call|>')} {quoted('[')} {self._repeated(call, quoted(', '))} {quoted(']')}"

    def _gigachat(self) -> str:
        begin = self._mark("<|function_call|>")
        if not begin.startswith("<["):  # 3.0, whose vocabulary has no token for it
            begin = (
                f"{self._mark('<|message_sep|>')} {quoted(chr(10) * 2 + 'function call')} {self._mark('<|role_sep|>')}"
            )
            begin = f"{begin} {quoted(chr(10))}"
        return self._repeated(self._each(lambda name: f"{begin} {self._head()(name)}", quoted("}")))

    def _cohere(self) -> str:
        begin, between = quoted('{"tool_call_id": "'), '", "tool_name": {}, "parameters": '
        call = self._each(
            lambda name: f"{begin} /[0-9]+/ {quoted(between.replace('{}', json.dumps(name)))}",
            quoted("}"),
        )
        calls = self._repeated(call, quoted(",\n    "))
        first, last = self._mark("<|START_ACTION|>"), self._mark("<|END_ACTION|>")
        return f"{first} {quoted('[' + chr(10) + '    ')} {calls} {quoted(chr(10) + ']')} {last}"

    def _gemma4(self) -> str:
        values = GemmaValues(self._mark, self._rule)
        ways = [f"{quoted(f'call:{tool}')} {values.of(schema)}" for tool, schema in self._tools.items()]
        return self._repeated(f"{self._mark(gemma.BEGIN)} {self._rule(' | '.join(ways))} {self._mark(gemma.END)}")

    def _olmo3(self) -> str:
        raise RequestError(
            "this model writes calls in a form that can't be demanded or combined with a form of content: leave"
            " tool_choice at auto, and response_format and structured_outputs out",
            "tool_choice",
        )

    _lfm2 = _olmo3

    def _deepseek_v3(self) -> str:
        return self._deepseek("function", "\n```json\n", "\n```", quoted("\n"))

    def _deepseek_v31(self) -> str:
        return self._deepseek("", "", "", "")

    def _deepseek(self, kind: str, before: str, after: str, between: str) -> str:
        begin, middle, end = map(self._mark, ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"))
        if kind:
            call = self._each(
                lambda name: f"{begin} {quoted(kind)} {middle} {quoted(name + before)}", f"{quoted(after)} {end}"
            )
        else:
            call = self._each(lambda name: f"{begin} {quoted(name)} {middle}", end)
        first, last = self._mark("<｜tool▁calls▁begin｜>"), self._mark("<｜tool▁calls▁end｜>")
        return f"{first} {self._repeated(call, between)} {last}"

    def _kimi_k2(self) -> str:
        marks = ("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>")
        begin, middle, end = map(self._mark, marks)
        call = self._each(lambda name: f"{begin} {quoted(f'functions.{name}:')} /[0-9]+/ {middle}", end)
        first, last = self._mark("<|tool_calls_section_begin|>"), self._mark("<|tool_calls_section_end|>")
        return f"{first} {self._repeated(call)} {last}"

    def _harmony(self) -> str:
        channel, constrain, message = map(self._mark, ("<|channel|>", "<|constrain|>", "<|message|>"))
        return self._each(
            lambda name: (
                f"{channel} {quoted(f'commentary to=functions.{name} ')} {constrain} {quoted('json')} {message}"
            ),
            "",
        )


def reply_grammar(
    calls: CallGrammar | None, content: Grammar | None, thoughts: str, around: tuple[str, str] = ("", "")
) -> Grammar:
    """A grammar for a whole reply: thoughts, then calls or content.

    Args:
        calls: those that are allowed, or demanded if there is no `content`.
        content: what content must follow.
        thoughts: a Lark expression for what may come before, with its rules after a line break; empty: nothing.
        around: Lark expressions for what stands before and behind content.
    """
    before, _, more = thoughts.partition("\n")
    ways, rules = [], [more] if more else []
    if calls is not None:
        ways.append("calls")
        rules.append(calls.rules("calls"))
    if content is not None:
        ways.append(f"{around[0]} @content {around[1]}")
    start = f"start: {before} ({' | '.join(ways)})\n" + "\n".join(rules)
    field = "tools" if content is None else content.field
    if content is None:
        return Grammar("lark", start, field)
    return Grammar("parts", json.dumps([start, content.kind, content.text]), field)


def thoughts_before(form: ThoughtFormat, mark: Mark, opened: bool) -> str:
    """Thoughts as `reply_grammar` takes them. `opened`: the prompt opened one, else there may be one or not."""
    close = mark(form.close)
    if close.startswith("<["):  # a token
        thought, rules = f"thought {close} BLANKS", f"thought: {ANY}\n"
    else:
        thought, rules = "thought BLANKS", f"thought[suffix={json.dumps(form.close)}]: {ANY}\n"
    rules += r"BLANKS: /\n{0,2}/" + "\n"
    return f"{thought}\n{rules}" if opened else f"({mark(form.open)} {thought})?\n{rules}"


def content_in(form: ThoughtFormat, mark: Mark, prompt: str = "") -> tuple[str, str]:
    """What stands around content, as `reply_grammar` takes it: the model may end its text without the last marks, and
    the prompt may end with the first.
    """
    first, last = form.content
    begun = bool(first) and prompt.rstrip().endswith("".join(first))
    behind = ""
    for text in reversed(last):
        behind = f"({mark(text)} {behind})?"
    return "" if begun else " ".join(map(mark, first)), behind


def harmony_content(mark: Mark) -> tuple[str, str]:
    """The final channel; see `content_in`."""
    return f'{mark("<|channel|>")} "final" {mark("<|message|>")}', ""


def harmony_thoughts(mark: Mark) -> str:
    """Messages in the analysis channel as `reply_grammar` takes them."""
    end, message = mark("<|end|>"), mark("<|message|>")
    if end.startswith("<["):
        thought, rule = f"thought {end}", f"thought: {ANY}"
    else:
        thought, rule = "thought", f"thought[suffix={json.dumps('<|end|>')}]: {ANY}"
    return f'({mark("<|channel|>")} "analysis" {message} {thought} {mark("<|start|>")} "assistant")*\n{rule}\n'


def _object(schema: Any) -> dict[str, Any]:
    """Parameters as a schema of an object."""
    if not schema:
        return dict(NO_PARAMETERS)
    found: dict[str, Any] = spaced(schema)
    return {"type": "object"} | found


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """The parameters by their names.

    Raises:
        RequestError: the schema has something else in their place.
    """
    found = schema.get("properties", {})
    if not isinstance(found, dict):
        raise RequestError("the parameters of a tool need their properties by name", "tools")
    return found


def _required(schema: dict[str, Any]) -> list[Any]:
    found = schema.get("required")
    return found if isinstance(found, list) else []
