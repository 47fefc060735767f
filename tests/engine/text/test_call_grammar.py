"""Grammars of demanded calls accept what each family writes, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken

from engine.errors import RequestError
from engine.text.grammar import Grammar, Grammars
from engine.text.replies import call_grammar
from engine.text.replies.call_grammar import CallGrammar
from engine.text.replies.formats import THOUGHT_FORMATS, TOOL_FORMATS, ToolFormatName
from engine.text.replies.lark import quoted
from engine.text.replies.nested import SPACE_MARK
from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import make_tokenizer
from tests.engine.server.parrot import HERMES, tokenizer_of

KIMI = ("<|open|>", "<|close|>", "<|sep|>")
TOKENIZER = tokenizer_of(HERMES)
TOOLS: dict[str, Any] = {
    "move": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/small"}, "note": {"type": "string"}},
        "required": ["a"],
        "$defs": {"small": {"type": "integer", "minimum": 0, "maximum": 9}},
    },
    "rest": {},
}
ARGUMENTS = '{"a": 5, "note": "x\\"y"}'


def mark(text: str) -> str:
    token = TOKENIZER.special_tokens.get(text)
    return quoted(text) if token is None else f"<[{token}]>"


@pytest.fixture(scope="module")
def accepts() -> Callable[[Grammar, str], bool]:
    """Whether a text follows a grammar to its end."""
    return checking(TOKENIZER)


def checking(tokenizer: Tokenizer) -> Callable[[Grammar, str], bool]:
    end = tokenizer.special_tokens["<|return|>"]  # in Harmony, <|end|> ends a message
    grammars = Grammars(tokenizer, len(tokenizer.inner), [end])

    def check(grammar: Grammar, text: str) -> bool:
        matcher = grammars.compile(grammar).matcher
        tokens = tokenizer.encode(text, special=False)
        if matcher.validate_tokens(tokens) < len(tokens):
            return False
        for token in tokens:
            matcher.consume_token(token)
        return bool(matcher.is_accepting())

    return check


def hermes(arguments: str, name: str = "move") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def coder(note: str) -> str:
    return (
        f"<tool_call>\n<function=move>\n<parameter=a>\n5\n</parameter>\n<parameter=note>\n{note}\n</parameter>\n"
        "</function>\n</tool_call>"
    )


def invoked(arguments: str, begin: str, end: str, prefix: str = "", said: bool = False) -> str:
    def one(key: str, value: object) -> str:
        texts = f' string="{json.dumps(isinstance(value, str))}"' if said else ""
        return f'<{prefix}parameter name="{key}"{texts}>{value}</{prefix}parameter>\n'

    pairs = "".join(one(*pair) for pair in json.loads(arguments).items())
    return f'{begin}\n<{prefix}invoke name="move">\n{pairs}</{prefix}invoke>\n{end}'


def tagged(*tags: str) -> str:
    return "".join(f"]<]minimax[>[{tag}" for tag in tags)


WRITTEN: dict[ToolFormatName, Callable[[str], str]] = {
    "hermes": hermes,
    "qwen3_coder": lambda arguments: coder('x"y <b>\n</p>') if arguments == ARGUMENTS else coder("").replace("5", "50"),
    "glm45": lambda arguments: (
        f"<tool_call>move\n<arg_key>a</arg_key>\n<arg_value>{json.loads(arguments)['a']}</arg_value>\n</tool_call>"
    ),
    "llama3_json": lambda arguments: f'{{"name": "move", "parameters": {arguments}}}',
    "mistral": lambda arguments: f"[TOOL_CALLS]move[ARGS]{arguments}",
    "granite": lambda arguments: f'<|tool_call|>[{{"name": "move", "arguments": {arguments}}}]',
    "deepseek_v3": lambda arguments: (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>move\n```json\n"
        f"{arguments}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek_v31": lambda arguments: (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>move<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "kimi_k2": lambda arguments: (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.move:0<|tool_call_argument_begin|>"
        f"{arguments}<|tool_call_end|><|tool_calls_section_end|>"
    ),
    "deepseek_v32": lambda arguments: invoked(
        arguments, "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "｜DSML｜", True
    ),
    "deepseek_v4": lambda arguments: invoked(
        arguments, "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "｜DSML｜", True
    ),
    "minimax_m2": lambda arguments: invoked(arguments, "<minimax:tool_call>", "</minimax:tool_call>"),
    "seed_oss": lambda arguments: (
        "<seed:tool_call>\n<function=move>\n<parameter=a>"
        f"{json.loads(arguments)['a']}</parameter>\n</function>\n</seed:tool_call>"
    ),
    "cohere": lambda arguments: (
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "move", "parameters": '
        f"{arguments}}}\n]<|END_ACTION|>"
    ),
    "gemma4": lambda arguments: (
        "<|tool_call>call:move{a:" + str(json.loads(arguments)["a"]) + ',note:<|"|>x"y <b>\n<|"|>}<tool_call|>'
    ),
    "solar_open": lambda arguments: (
        f"<|tool_calls|><|tool_call:begin|>a1<|tool_call:name|>move<|tool_call:args|>{arguments}<|tool_call:end|>"
    ),
    "llama4": lambda arguments: f'{{"name": "move", "parameters": {arguments}}}',
    "apertus": lambda arguments: f'<|tools_prefix|>[{{"move": {arguments}}}]<|tools_suffix|>',
    "functionary": lambda arguments: f"<function=move>{arguments}</function>",
    "minimax_m1": lambda arguments: f'<tool_calls>\n{{"name": "move", "arguments": {arguments}}}\n</tool_calls>',
    "hunyuan_a13b": lambda arguments: f'<tool_calls>[{{"name": "move", "arguments": {arguments}}}]</tool_calls>',
    "hy_v3": lambda arguments: (
        "<tool_calls>\n<tool_call>move<tool_sep>\n<arg_key>a</arg_key>\n"
        f"<arg_value>{json.loads(arguments)['a']}</arg_value>\n</tool_call>\n</tool_calls>"
    ),
    "hy_v4": lambda arguments: (
        "<tool_calls><tool_call>move<arg_key>a</arg_key>"
        f"<arg_value>{json.loads(arguments)['a']}</arg_value></tool_call></tool_calls>"
    ),
    "minimax_m3": lambda arguments: tagged(
        "<tool_call>\n",
        '<invoke name="move">',
        f"<a>{json.loads(arguments)['a']}",
        "</a>",
        '<note>x"y <b>\n</note>',
        "</note>",
        "</invoke>\n",
        "</tool_call>",
    ),
    "kimi_k3": lambda arguments: (
        '<|open|>tools<|sep|><|open|>call tool="move" index="1"<|sep|><|open|>argument key="a" type="number"<|sep|>'
        f'{json.loads(arguments)["a"]}<|close|>argument<|sep|><|open|>argument key="note" type="string"<|sep|>x"y\n'
        "<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>"
    ),
    "gigachat": lambda arguments: (
        f'<|message_sep|>\n\nfunction call<|role_sep|>\n{{"name": "move", "arguments": {arguments}}}'
    ),
    "harmony": lambda arguments: f"<|channel|>commentary to=functions.move <|constrain|>json<|message|>{arguments}",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_calls_of_each_family(accepts: Callable[[Grammar, str], bool], form: ToolFormatName):
    grammar = call_grammar.reply_grammar(CallGrammar(form, mark, TOOLS, several=False), None, "")
    right = WRITTEN[form](ARGUMENTS)
    assert accepts(grammar, right)
    assert not accepts(grammar, WRITTEN[form]('{"a": 50}'))  # more than the schema allows
    assert not accepts(grammar, right.replace("move", "other"))
    assert not accepts(grammar, f"Sure. {right}")
    assert not accepts(grammar, right + right)


@pytest.mark.parametrize("form", ["olmo3", "lfm2"])
def test_calls_that_cannot_be_demanded_are_refused(form: ToolFormatName):
    with pytest.raises(RequestError, match="leave tool_choice at auto"):
        CallGrammar(form, mark, TOOLS, several=False).rules("calls")


GEMMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["up", 5]},
        "path": {"type": "array", "items": {"type": "number"}},
        "more": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
        "any": {"type": "object"},
    },
    "required": ["path"],
}


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ("{path:[]}", True),
        ("{path:[1,2.5]}", True),
        ('{kind:<|"|>up<|"|>,path:[1]}', True),
        ("{kind:5,path:[1],more:{on:true}}", True),
        ('{path:[1],any:{x_1:<|"|>a,b<|"|>,y:[1,null]}}', True),
        ("{path:[1],any:{}}", True),
        ("{}", False),  # what is required is missing
        ("{kind:5}", False),
        ("{path:[true]}", False),
        ("{path:[1],}", False),
        ("{,path:[1]}", False),
        ("{path:[1],more:{}}", False),
        ('{"path":[1]}', False),
    ],
)
def test_arguments_as_gemma_writes_them(accepts: Callable[[Grammar, str], bool], arguments: str, right: bool):
    grammar = call_grammar.reply_grammar(CallGrammar("gemma4", mark, {"go": GEMMA}, several=False), None, "")
    assert accepts(grammar, f"<|tool_call>call:go{arguments}<tool_call|>") == right


ELEMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["up", 5]},
        "path": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "more": {"type": "object", "properties": {"on": {"type": "boolean"}, "why": {}}, "required": ["on"]},
        "any": {"type": "object"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        'a"&': {"type": "integer"},
    },
    "required": ["path"],
    "$defs": {"step": {"type": "number", "maximum": 9}},
}


def argument(key: str, kind: str, value: str) -> str:
    return f'<|open|>argument key="{key}" type="{kind}"<|sep|>{value}<|close|>argument<|sep|>'


CALLED: list[tuple[ToolFormatName, str, dict[str, Any] | None]] = [  # as written, and what is read; `None`: not allowed
    ("minimax_m3", tagged("<path>", "<item>1", "</item>", "<item>2.5", "</item>", "</path>"), {"path": [1, 2.5]}),
    ("minimax_m3", tagged("<path>", "</path>"), {"path": []}),
    (
        "minimax_m3",
        tagged("<kind>up", "</kind>", "<path>", "</path>", "<more>", "<on>true", "</on>", "<why>\n</why>", "</why>")
        + tagged("</more>"),
        {"kind": "up", "path": [], "more": {"on": True, "why": "\n</why>"}},
    ),
    (
        "minimax_m3",
        tagged("<path>", "</path>", '<any>{"x": [1]}', "</any>", "<note>so", "</note>"),
        {"path": [], "any": {"x": [1]}, "note": "so"},
    ),
    ("minimax_m3", "", None),
    ("minimax_m3", tagged("<path>", "<item>10", "</item>", "</path>"), None),
    ("minimax_m3", tagged("<path>", "<step>1", "</step>", "</path>"), None),
    ("minimax_m3", tagged("<path>", "</path>", "<more>", "</more>"), None),
    ("minimax_m3", tagged("<path>", "</path>", "<other>", "</other>"), None),
    ("minimax_m3", tagged("<kind>5", "</kind>"), None),
    ("kimi_k3", argument("path", "array", "[1, 2.5]"), {"path": [1, 2.5]}),
    (
        "kimi_k3",
        argument("kind", "number", "5") + argument("path", "array", "[]") + argument("note", "null", "null"),
        {"kind": 5, "path": [], "note": None},
    ),
    (
        "kimi_k3",
        argument("kind", "string", "up") + argument("path", "array", "[]") + argument("note", "string", 'a "b" &amp;'),
        {"kind": "up", "path": [], "note": 'a "b" &amp;'},
    ),
    (
        "kimi_k3",
        argument("path", "array", "[]")
        + argument("more", "object", '{"on": true}')
        + argument("a&quot;&amp;", "number", "1"),
        {"path": [], "more": {"on": True}, 'a"&': 1},
    ),
    ("kimi_k3", "", None),
    ("kimi_k3", argument("path", "array", "[10]"), None),
    ("kimi_k3", argument("path", "string", "[]"), None),
    ("kimi_k3", argument("kind", "string", "down") + argument("path", "array", "[]"), None),
    ("kimi_k3", argument("path", "array", "[]") + argument("more", "object", "{}"), None),
]


@pytest.mark.parametrize("special", [False, True])
def test_arguments_in_elements_are_read_as_they_are_demanded(special: bool):
    tokenizer = tokenizer_of(HERMES)
    if special:
        inner = make_tokenizer()
        inner.add_tokens([AddedToken(text, special=True) for text in ("<|return|>", *KIMI, SPACE_MARK)])
        tokenizer = Tokenizer(inner)
    accepts = checking(tokenizer)
    for form, arguments, expected in CALLED:
        calls = CallGrammar(form, lambda text: tokenizer.in_tokens(text, quoted), {"go": ELEMENTS}, several=False)
        if form == "kimi_k3":
            written = f'<|open|>call tool="go" index="1"<|sep|>{arguments}<|close|>call<|sep|>'
            written = f"<|open|>tools<|sep|>{written}<|close|>tools<|sep|>"
        else:
            written = tagged("<tool_call>\n", f'<invoke name="go">{arguments}', "</invoke>\n", "</tool_call>")
        assert accepts(call_grammar.reply_grammar(calls, None, ""), written) == (expected is not None), written
        if expected is not None:
            (call,) = TOOL_FORMATS[form].read(written, {"go": ELEMENTS})
            assert json.loads(call.arguments) == expected


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("solar_open", ["<|content|>5", "<|think|>a<|end|><|content|>5<|end|>"], ["5", "<|content|>6"]),
        (
            "kimi_k3",
            [
                "<|open|>response<|sep|>5",
                "<|open|>think<|sep|>a<|close|>think<|sep|><|open|>response<|sep|>5<|close|>response<|sep|>",
                "<|open|>response<|sep|>5<|close|>response<|sep|><|close|>message<|sep|>",
            ],
            ["5", "<|open|>response<|sep|>6", "<|open|>response<|sep|>5<|close|>message<|sep|>"],
        ),
    ],
)
def test_content_stands_between_marks(
    accepts: Callable[[Grammar, str], bool], name: Any, right: list[str], wrong: list[str]
):
    form = THOUGHT_FORMATS[name]
    thoughts, around = call_grammar.thoughts_before(form, mark, False), call_grammar.content_in(form, mark)
    grammar = call_grammar.reply_grammar(None, Grammar("regex", "5", "response_format"), thoughts, around)
    assert [accepts(grammar, text) for text in right] == [True] * len(right)
    assert [accepts(grammar, text) for text in wrong] == [False] * len(wrong)
    opened = call_grammar.content_in(form, mark, "".join(form.content[0]))
    grammar = call_grammar.reply_grammar(None, Grammar("regex", "5", "response_format"), "", opened)
    assert accepts(grammar, "5" + form.content[1][0])


def test_several_calls_or_one(accepts: Callable[[Grammar, str], bool]):
    two = f"{hermes(ARGUMENTS)}\n{hermes('{}', 'rest')}"
    assert accepts(call_grammar.reply_grammar(CallGrammar("hermes", mark, TOOLS, True), None, ""), two)
    assert not accepts(call_grammar.reply_grammar(CallGrammar("hermes", mark, TOOLS, False), None, ""), two)
    listed = '[TOOL_CALLS][{"name": "rest", "arguments": {}}, {"name": "rest", "arguments": {}}]'
    assert accepts(call_grammar.reply_grammar(CallGrammar("mistral", mark, TOOLS, True, True), None, ""), listed)


@pytest.mark.parametrize("kind", ["json", "regex", "choice", "lark"])
def test_content_or_calls_behind_thoughts(accepts: Callable[[Grammar, str], bool], kind: Any):
    texts = {
        "json": '{"enum": ["up", 5]}',
        "regex": '"up"|5',
        "choice": '["\\"up\\"", "5"]',
        "lark": 'start: "\\"up\\"" | "5"',
    }
    content = Grammar(kind, texts[kind], "response_format")
    calls = CallGrammar("hermes", mark, TOOLS, False)
    form = THOUGHT_FORMATS["think"]
    free = call_grammar.reply_grammar(calls, content, call_grammar.thoughts_before(form, mark, opened=False))
    for text in (
        '"up"',
        "5",
        hermes(ARGUMENTS),
        '<think>hm <b>\n\n</think>\n\n"up"',
        f"<think></think>{hermes(ARGUMENTS)}",
    ):
        assert accepts(free, text), text
    for text in ("down", "<think>5", "hm</think>5", ""):
        assert not accepts(free, text), text
    opened = call_grammar.reply_grammar(None, content, call_grammar.thoughts_before(form, mark, opened=True))
    assert accepts(opened, "hm</think>\n\n5")
    assert not accepts(opened, "5")
    special = call_grammar.thoughts_before(THOUGHT_FORMATS["mistral"], mark, opened=False)
    assert accepts(call_grammar.reply_grammar(None, content, special), "[THINK]hm[/THINK]5")
    channels = call_grammar.harmony_thoughts(mark), call_grammar.harmony_content(mark)
    harmony = call_grammar.reply_grammar(None, content, *channels)
    assert accepts(harmony, "<|channel|>final<|message|>5")
    assert accepts(harmony, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>5")
    assert not accepts(harmony, "5")
