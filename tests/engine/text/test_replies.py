"""Thoughts and tool calls as families of models write them, however the reply is cut into pieces."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.settings import REASONING_PARSERS, TOOL_PARSERS
from engine.text.replies.formats import (
    HARMONY_MARKS,
    THOUGHT_FORMATS,
    TOOL_FORMATS,
    ThoughtFormatName,
    ToolFormatName,
    thought_format_of,
    tool_format_of,
)
from engine.text.replies.harmony import HarmonyReader
from engine.text.replies.marked import MarkedReader
from engine.text.replies.pieces import Content, Piece, ReplyReader, Thought, ToolCall
from engine.text.replies.unquoted import parameter, types_of

SCHEMAS: dict[str, Any] = {
    "add": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": ["integer", "null"]}}},
    "set": {
        "type": "object",
        "properties": {
            "mode": {"$ref": "#/$defs/mode"},
            "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "share": {"type": "number"},
        },
        "$defs": {"mode": {"enum": ["5", "off"]}},
    },
    "write": {"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}},
}


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments))


def reader(
    form: ToolFormatName | None, thoughts: ThoughtFormatName | None = None, thinking: bool = False
) -> ReplyReader:
    if form == "harmony":
        return HarmonyReader(True, "assistant")
    known = None if thoughts is None else THOUGHT_FORMATS[thoughts]
    return MarkedReader(known, None if form is None else TOOL_FORMATS[form], SCHEMAS, thinking)


def read(found: ReplyReader, parts: list[str]) -> list[Piece]:
    """What the parts of a reply hold, neighbours of a kind joined."""
    pieces: list[Piece] = []
    for piece in [*(piece for part in parts for piece in found.push(part)), *found.end()]:
        last = pieces[-1] if pieces else None
        if isinstance(piece, Content) and isinstance(last, Content):
            pieces[-1] = Content(last.text + piece.text)
        elif isinstance(piece, Thought) and isinstance(last, Thought):
            pieces[-1] = Thought(last.text + piece.text)
        else:
            pieces.append(piece)
    return pieces


HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n\nif a < b:\n    pass\n"
    "</parameter>\n</function>\n</tool_call>"
)
V3 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
    '{"a": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{"path": "```"}\n```'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
REPLIES: dict[str, tuple[ToolFormatName | None, ThoughtFormatName | None, str, list[Piece]]] = {
    "hermes": ("hermes", None, HERMES, [call("add", a=1, b=2)]),
    "hermes-with-words-and-two-calls": (
        "hermes",
        "think",
        f"<think>\nhm\n\n so\n</think>\n\nI add.\n\n{HERMES}\n{HERMES}\n",
        [Thought("hm\n\n so"), Content("I add."), call("add", a=1, b=2), call("add", a=1, b=2)],
    ),
    "hermes-arguments-as-text": (
        "hermes",
        None,
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        [call("add", a=1)],
    ),
    "hermes-a-mark-within-an-argument": (
        "hermes",
        None,
        '<tool_call>{"name": "write", "arguments": {"text": "</tool_call> <tool_call>"}}</tool_call> done',
        [call("write", text="</tool_call> <tool_call>"), Content("done")],
    ),
    "hermes-without-arguments": ("hermes", None, '<tool_call>{"name": "now"}</tool_call>', [call("now")]),
    "hermes-without-its-end": ("hermes", None, HERMES.removesuffix("</tool_call>"), [call("add", a=1, b=2)]),
    "hermes-without-marks": (
        "hermes",
        None,
        '```json\n{"name": "add", "arguments": {"a": 1}}\n```\n',
        [call("add", a=1)],
    ),
    "hermes-bare": (
        "hermes",
        "think",
        '<think>x</think>\n{"name": "add", "arguments": {}}',
        [Thought("x"), call("add")],
    ),
    "hermes-bare-of-another-tool": ("hermes", None, '{"name": "Ann"} and', [Content('{"name": "Ann"} and')]),
    "hermes-code-that-is-no-call": ("hermes", None, " ```json\n{}\n```", [Content(" ```json\n{}\n```")]),
    "hermes-code-and-then-a-call": (
        "hermes",
        None,
        "```json\n{}\n```\n" + HERMES,
        [Content("```json\n{}\n```"), call("add", a=1, b=2)],
    ),
    "qwen3-coder": ("qwen3_coder", None, CODER, [call("write", path="a.py", text="\nif a < b:\n    pass")]),
    "qwen3-coder-typed": (
        "qwen3_coder",
        None,
        "<tool_call>\n<function=add>\n<parameter=a>\n5\n</parameter>\n<parameter=b>\nnull\n</parameter>\n</function>\n"
        "</tool_call>\n<tool_call>\n<function=add>\n</function>\n</tool_call>",
        [call("add", a=5, b=None), call("add")],
    ),
    "qwen3-coder-types-by-reference": (
        "qwen3_coder",
        None,
        "<tool_call>\n<function=set>\n<parameter=mode>\n5\n</parameter>\n<parameter=name>\n12\n</parameter>\n"
        "<parameter=share>\n1\n</parameter>\n</function>\n</tool_call>",
        [ToolCall("set", '{"mode": "5", "name": "12", "share": 1}')],
    ),
    "qwen3-coder-a-mark-within-a-text": (
        "qwen3_coder",
        None,
        "<tool_call>\n<function=write>\n<parameter=text>\na</parameter>b</tool_call>c\n</parameter>\n</function>\n</tool_call>",
        [call("write", text="a</parameter>b</tool_call>c")],
    ),
    "glm": (
        "glm45",
        "think",
        "<think>x</think>\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>7</arg_value>\n</tool_call>",
        [Thought("x"), call("add", a=7)],
    ),
    "llama": ("llama3_json", None, '{"name": "add", "parameters": {"a": 1}}', [call("add", a=1)]),
    "llama-two-with-a-tag": (
        "llama3_json",
        None,
        '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "add", "parameters": {}}',
        [call("add", a=1), call("add")],
    ),
    "llama-json-that-is-no-call": (
        "llama3_json",
        None,
        '{"name": "Ann", "age": 5}',
        [Content('{"name": "Ann", "age": 5}')],
    ),
    "mistral": (
        "mistral",
        "mistral",
        '[THINK]a\nb[/THINK]Sure.[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]write[CALL_ID]abcdefghi[ARGS]{"path": "x"}',
        [Thought("a\nb"), Content("Sure."), call("add", a=1), call("write", path="x")],
    ),
    "mistral-list": (
        "mistral",
        None,
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}, {"name": "now", "arguments": {}}]',
        [call("add", a=1), call("now")],
    ),
    "granite": ("granite", None, '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}]', [call("add", a=1)]),
    "deepseek-v3": ("deepseek_v3", None, f"Now:\n{V3}", [Content("Now:"), call("add", a=1), call("write", path="```")]),
    "deepseek-v31": (
        "deepseek_v31",
        None,
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [call("add", a=1)],
    ),
    "kimi": (
        "kimi_k2",
        None,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_calls_section_end|>',
        [call("add", a=1)],
    ),
    "harmony": (
        "harmony",
        None,
        "<|channel|>analysis<|message|>Let me\nthink.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
        '<|constrain|>json<|message|>{"a": 1}',
        [Thought("Let me\nthink."), call("add", a=1)],
    ),
    "harmony-recipient-before-the-channel": (
        "harmony",
        None,
        ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}<|call|>',
        [call("add", a=1)],
    ),
    "harmony-words": (
        "harmony",
        None,
        "<|channel|>commentary<|message|>First.<|end|><|start|>assistant<|channel|>final<|message|>Done <b>.<|return|>",
        [Content("First.Done <b>.")],
    ),
    "harmony-without-marks": ("harmony", None, "as it is", [Content("as it is")]),
    "thoughts-alone": (None, "think", "<think>never ends\n", [Thought("never ends\n")]),
    "no-thoughts": (None, "think", "  <thin air>\n", [Content("  <thin air>\n")]),
    "seed": (None, "seed", "<seed:think>a</seed:think>b", [Thought("a"), Content("b")]),
    "nothing": ("hermes", "think", "", []),
    "blanks-are-kept-in-words": ("hermes", None, "a \n <b>\n\n", [Content("a \n <b>\n\n")]),
}


@pytest.mark.parametrize("name", REPLIES)
def test_replies_however_they_are_cut(name: str):
    form, thoughts, text, expected = REPLIES[name]
    assert read(reader(form, thoughts), [text]) == expected
    assert read(reader(form, thoughts), list(text)) == expected
    for at in range(1, len(text)):
        assert read(reader(form, thoughts), [text[:at], text[at:]]) == expected


BROKEN: dict[str, tuple[ToolFormatName, str]] = {
    "hermes-cut": ("hermes", '<tool_call>{"name": "add", "argu'),
    "hermes-not-json": ("hermes", "<tool_call>add(1, 2)</tool_call> and more"),
    "hermes-no-object": ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
    "hermes-no-name": ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    "hermes-not-finite": ("hermes", '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
    "hermes-deep": ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>"),
    "qwen3-coder-cut": ("qwen3_coder", "<tool_call>\n<function=write>\n<parameter=text>\nabc"),
    "qwen3-coder-unended": (
        "qwen3_coder",
        "<tool_call>\n<function=write>\n<parameter=text>\nabc\n</function>\n</tool_call>",
    ),
    "qwen3-coder-no-function": ("qwen3_coder", "<tool_call>\n<parameter=text>\nabc\n</parameter>\n</tool_call>"),
    "glm-words": ("glm45", "<tool_call>I would add\n</tool_call>"),
    "llama-code": ("llama3_json", '<|python_tag|>add.call(a="1")'),
    "llama-cut": ("llama3_json", '{"name": "add", "parameters": {'),
    "mistral-no-json": ("mistral", "[TOOL_CALLS]add[ARGS]{"),
    "mistral-empty-list": ("mistral", "[TOOL_CALLS][]"),
    "granite-object": ("granite", '<|tool_call|>{"name": "add"}'),
    "deepseek-words": ("deepseek_v31", "<｜tool▁calls▁begin｜>add<｜tool▁calls▁end｜>"),
    "kimi-words": ("kimi_k2", "<|tool_calls_section_begin|>add<|tool_calls_section_end|>"),
    "harmony-no-json": ("harmony", "<|channel|>commentary to=functions.add<|message|>{"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_calls_are_content(name: str):
    form, text = BROKEN[name]
    assert read(reader(form), [text]) == [Content(text)]
    if len(text) < 1000:
        assert read(reader(form), list(text)) == [Content(text)]


def test_a_whole_call_behind_a_broken_one():
    text = f"<tool_call>?</tool_call>\n{HERMES}"
    assert read(reader("hermes"), [text]) == read(reader("hermes"), list(text))
    assert read(reader("hermes"), [text]) == [Content("<tool_call>?</tool_call>"), call("add", a=1, b=2)]


def test_a_thought_that_the_prompt_opened():
    assert read(reader(None, "think", True), ["a</th", "ink>b"]) == [Thought("a"), Content("b")]
    harmony = HarmonyReader(False, "assistant<|channel|>final<|message|>I say")
    assert read(harmony, [" yes"]) == [Content(" yes")]
    assert read(HarmonyReader(False, "assistant<|channel|>analysis<|message|>"), ["hm"]) == [Thought("hm")]


def test_content_is_not_held_back():
    found = reader("hermes", "think")
    assert found.push("<think>a b") == [Thought("a b")]
    assert found.push("</think>\n\nHello") == [Content("Hello")]
    assert found.push(" there <tool") == [Content(" there")]
    assert found.push("box>") == [Content(" <toolbox>")]


MARKS = sorted({mark for form in TOOL_FORMATS.values() for mark in form.all_marks} | set(HARMONY_MARKS))
WORDS = [
    *MARKS,
    "<think>",
    "</think>",
    "{",
    "}",
    '"name": "a"',
    "[",
    "]",
    "\n",
    " ",
    "x",
    "assistant",
    "to=functions.a",
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(get_args(ToolFormatName)),
    st.sampled_from([None, "think"]),
    st.lists(st.sampled_from(WORDS), max_size=14),
)
def test_any_text_is_read_to_its_end(form: ToolFormatName, thoughts: ThoughtFormatName | None, words: list[str]):
    text = "".join(words)
    whole = read(reader(form, thoughts), [text])
    assert read(reader(form, thoughts), words) == whole
    assert read(reader(form, thoughts), list(text)) == whole
    if form != "harmony" and thoughts is None and not any(isinstance(piece, ToolCall) for piece in whole):
        assert "".join(piece.text for piece in whole if isinstance(piece, Content)) == text


TEMPLATES: list[tuple[str, ToolFormatName | None, ThoughtFormatName | None]] = [
    ('{% if tools %}<tool_call>{"name": ...}{% endif %}', "hermes", None),
    ("{% if tools %}<tool_call><function=a>{% endif %}<think>", "qwen3_coder", "think"),
    ("{% if tools %}<tool_call>a<arg_key>{% endif %}</think>", "glm45", "think"),
    ("{% if tools %}Environment: ipython{% endif %}", "llama3_json", None),
    ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS][THINK]", "mistral", "mistral"),
    ("{% if tools %}<|tool_call|>{% endif %}", "granite", None),
    ("{{ tools }}<｜tool▁calls▁begin｜>```json", "deepseek_v3", None),
    ("{{ tools }}<｜tool▁calls▁begin｜></think>", "deepseek_v31", "think"),
    ("{{ tools }}<|tool_calls_section_begin|>", "kimi_k2", None),
    ("{{ tools }}<|start|><|channel|>analysis<|message|>", "harmony", "harmony"),
    ("{{ tools }}<seed:tool_call><function=a><seed:think>", None, "seed"),
    ("<tool_call>", None, None),
    ("{{ messages }}", None, None),
]


@pytest.mark.parametrize(("template", "tools", "thoughts"), TEMPLATES)
def test_the_template_says_which_form(template: str, tools: ToolFormatName | None, thoughts: ThoughtFormatName | None):
    assert (tool_format_of(template), thought_format_of(template)) == (tools, thoughts)


def test_the_options_name_the_forms():
    assert get_args(ToolFormatName) == TOOL_PARSERS
    assert get_args(ThoughtFormatName) == REASONING_PARSERS
    assert {*TOOL_FORMATS, "harmony"} == set(TOOL_PARSERS)


def test_types_that_a_schema_names():
    within = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert types_of(within) == {"integer", "null"}
    assert types_of({"type": ["string", "number"]}) == {"string", "number"}
    assert types_of({"enum": [True, 1, 1.5, "a", None, [], {}]}) == {
        "boolean", "integer", "number", "string", "null", "array", "object",
    }  # fmt: skip
    assert types_of({"const": 5}) == {"integer"}
    assert types_of({}) == types_of(None) == {"string"}
    itself = {"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}] * 2}}}
    assert types_of(parameter(itself, "x")) == frozenset()
    round_and_round = {"properties": {"x": {"$ref": "#/properties/x"}}}
    assert isinstance(types_of(parameter(round_and_round, "x")), frozenset)
    assert parameter({"properties": {"x": {"$ref": "#/none/x"}}}, "x") is None
    assert parameter({"properties": 5}, "x") is None
