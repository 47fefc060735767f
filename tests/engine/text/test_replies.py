"""Thoughts and tool calls as families of models write them, however the reply is cut into pieces."""

from typing import get_args

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
from tests.engine.text.written_replies import BROKEN, HERMES, REPLIES, SCHEMAS, call


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


@pytest.mark.parametrize("name", REPLIES)
def test_replies_however_they_are_cut(name: str):
    form, thoughts, text, expected = REPLIES[name]
    assert read(reader(form, thoughts), [text]) == expected
    assert read(reader(form, thoughts), list(text)) == expected
    for at in range(1, len(text)):
        assert read(reader(form, thoughts), [text[:at], text[at:]]) == expected


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


FORMS = [*TOOL_FORMATS.values(), *(THOUGHT_FORMATS[name] for name in ("solar_open", "kimi_k3"))]
MARKS = sorted({mark for form in FORMS for mark in form.all_marks} | set(HARMONY_MARKS))
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
    st.sampled_from([None, "think", "solar_open", "kimi_k3"]),
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
    ("{% if tools %}<tool_call><function=a><parameter=b>{% endif %}<think>", "qwen3_coder", "think"),
    ("{% if tools %}<tool_call>a<arg_key>{% endif %}</think>", "glm45", "think"),
    ("{% if tools %}Environment: ipython{% endif %}", "llama3_json", None),
    ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS][THINK]", "mistral", "mistral"),
    ("{% if tools %}<|tool_call|>{% endif %}", "granite", None),
    ("{{ tools }}<｜tool▁calls▁begin｜>```json", "deepseek_v3", None),
    ("{{ tools }}<｜tool▁calls▁begin｜></think>", "deepseek_v31", "think"),
    ("{{ tools }}<|tool_calls_section_begin|>", "kimi_k2", None),
    ("{{ tools }}<|start|><|channel|>analysis<|message|>", "harmony", "harmony"),
    ("{{ tools }}<seed:tool_call><function=a><seed:think>", "seed_oss", "seed"),
    ("{{ tools }}<minimax:tool_call></think>", "minimax_m2", "think"),
    ("{{ tools }}{% set token = '｜DSML｜' %}<' + token + 'function_calls></think>", "deepseek_v32", "think"),
    ("{{ tools }}{% set token = '｜DSML｜' %}<' + token + 'tool_calls><think>", "deepseek_v4", "think"),
    ("{{ tools }}<|START_THINKING|><|START_ACTION|>", "cohere", "cohere"),
    ("{{ tools }}<|tool_call>call:<|channel>thought", "gemma4", "gemma4"),
    ("{{ tools }}<function_calls></function_calls>", "olmo3", None),
    ("{{ tools }}<|tool_call_start|><think>", "lfm2", "think"),
    ("{{ tools }}<function=a>{}</function>", "functionary", None),
    ("{{ tools }}{% set mark = ']<]minimax[>[' %}<tool_call><mm:think>", "minimax_m3", "minimax_m3"),
    ("{{ tools }}<tool_calls>[{...}]</tool_calls><tool_call>", "hunyuan_a13b", None),
    ("{{ tools }}<tool_calls>\n{...}\n</tool_calls>", "minimax_m1", None),
    ("{{ tools }}<|tools_prefix|><|inner_prefix|>", "apertus", "apertus"),
    ("{{ tools }}<|header_start|>Environment: ipython", "llama4", None),
    ("{{ tools }}{% set s = ':opensource' %}{{ '<tool_sep{}><arg_key{}><think{}>'.format(s) }}", "hy_v3", "hy_v3"),
    ("{{ tools }}<tool_sep><arg_key><think>", "hy_v3", "think"),
    ("{{ tools }}{% set s = ':6124c78e' %}{{ '<arg_key{}><think{}>'.format(s) }}", "hy_v4", "hy_v4"),
    ("{{ tools }}<|tool_call:begin|><|begin|>assistant<|think|><|end|>", "solar_open", "solar_open"),
    ("{{ tools }}<|open|>tools<|sep|>", "kimi_k3", "kimi_k3"),
    ("{{ tools }}function call<|role_sep|>", "gigachat", None),
    ("{{ tools }}<|function_call|>", "gigachat", None),
    ("{{ tools }}>>>all", None, None),
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
    assert types_of(parameter({"properties": {"x": {}}, "$defs": {"y": {}}}, "x")) == {"string"}
    itself = {"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}] * 2}}}
    assert types_of(parameter(itself, "x")) == frozenset()
    round_and_round = {"properties": {"x": {"$ref": "#/properties/x"}}}
    assert isinstance(types_of(parameter(round_and_round, "x")), frozenset)
    assert parameter({"properties": {"x": {"$ref": "#/none/x"}}}, "x") is None
    assert parameter({"properties": 5}, "x") is None
