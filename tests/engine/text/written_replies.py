"""Replies of each family of models, and what is in them."""

import json
from typing import Any

from engine.text.replies.formats import ThoughtFormatName, ToolFormatName
from engine.text.replies.pieces import Content, Piece, Thought, ToolCall

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
    "mixed": {
        "type": "object",
        "properties": {"all": {"type": "boolean"}, "opts": {"type": "object"}, "text": {"type": "string"}},
    },
    "write": {"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}},
    "deep": {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"$ref": "#/$defs/number"}},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"on": {"type": "boolean"}}}},
            "none": {"type": "array"},
            "more": {"type": "object"},
        },
        "$defs": {"number": {"type": "integer"}},
    },
}


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments))


HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n\nif a < b:\n    pass\n"
    "</parameter>\n</function>\n</tool_call>"
)


def m3(*tags: str) -> str:
    """Tags as MiniMax M3 writes them."""
    return "".join(f"]<]minimax[>[{tag}" for tag in tags)


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
    "qwen3-coder-as-python-prints-it": (  # templates show models earlier calls so
        "qwen3_coder",
        None,
        "<tool_call>\n<function=mixed>\n<parameter=all>\nTrue\n</parameter>\n<parameter=opts>\n{'k': [1, None]}\n"
        "</parameter>\n<parameter=text>\nTrue\n</parameter>\n</function>\n</tool_call>",
        [call("mixed", all=True, opts={"k": [1, None]}, text="True")],
    ),
    "qwen3-coder-a-call-within-a-text": (
        "qwen3_coder",
        None,
        "<tool_call>\n<function=write>\n<parameter=text>\n</parameter>\n</function> x\n</parameter>\n</function>\n"
        "</tool_call>",
        [call("write", text="</parameter>\n</function> x")],
    ),
    "seed-oss": (
        "seed_oss",
        "seed",
        "<seed:think>x</seed:think><seed:tool_call>\n<function=write>\n<parameter=path>a.py</parameter>\n"
        "<parameter=text>\n  a\n</parameter>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=add>\n"
        "</function>\n</seed:tool_call>",
        [Thought("x"), call("write", path="a.py", text="\n  a\n"), call("add")],
    ),
    "minimax": (
        "minimax_m2",
        "think",
        '<think>x</think>\n\n<minimax:tool_call>\n<invoke name="write">\n<parameter name="path">a b</parameter>\n'
        '<parameter name="text"></parameter> </invoke>\n</parameter>\n</invoke>\n<invoke name="add">\n'
        '<parameter name="a">5</parameter>\n</invoke>\n</minimax:tool_call>',
        [Thought("x"), call("write", path="a b", text="</parameter> </invoke>\n"), call("add", a=5)],
    ),
    "deepseek-v32": (
        "deepseek_v32",
        "think",
        '</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="mixed">\n'
        '<｜DSML｜parameter name="text" string="true">5</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="opts" string="false">{"k": [1]}</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        [Content("</think>"), call("mixed", text="5", opts={"k": [1]})],
    ),
    "deepseek-v4": (
        "deepseek_v4",
        "think",
        '<think>x</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="mixed">\n'
        '<｜DSML｜parameter name="text" string="true">5</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="opts" string="false">{"k": [1]}</｜DSML｜parameter>\n'
        '</｜DSML｜invoke>\n<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
        [Thought("x"), call("mixed", text="5", opts={"k": [1]}), call("now")],
    ),
    "cohere": (
        "cohere",
        "cohere",
        '<|START_THINKING|>I add.<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "add", '
        '"parameters": {"a": 1}},\n    {"tool_call_id": "1", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>',
        [Thought("I add."), call("add", a=1), call("now")],
    ),
    "olmo3": (
        "olmo3",
        None,
        "Now:\n<function_calls>\nfs.write(path='a b', text=\"x\\n</function_calls> it's\")\nadd(a=-1, b=None)\n"
        "</function_calls>",
        [Content("Now:"), call("fs.write", path="a b", text="x\n</function_calls> it's"), call("add", a=-1, b=None)],
    ),
    "lfm2": (
        "lfm2",
        "think",
        '<think>x</think><|tool_call_start|>[mixed(all=true, opts={"k": [1, null]}, text="\\d"), '
        "now()]<|tool_call_end|>",
        [Thought("x"), call("mixed", all=True, opts={"k": [1, None]}, text="\\d"), call("now")],
    ),
    "gemma4": (
        "gemma4",
        "gemma4",
        '<|channel>thought\nSo.\n<channel|><|tool_call>call:mixed{all:true,opts:{k:[1,{z:null}],<|"|>s t<|"|>:-2.5},'
        'text:<|"|>if a{b}: "x",\n<|"|>}<tool_call|><|tool_call>call:now{}<tool_call|>',
        [
            Thought("So."),
            call("mixed", all=True, opts={"k": [1, {"z": None}], "s t": -2.5}, text='if a{b}: "x",\n'),
            call("now"),
        ],
    ),
    "harmony": (
        "harmony",
        None,
        "<|channel|>analysis<|message|>Let me\nthink.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
        '<|constrain|>json<|message|>{"a": 1}',
        [Thought("Let me\nthink."), call("add", a=1)],
    ),
    "llama4-json": (
        "llama4",
        None,
        '<|python_start|>{"name": "add", "parameters": {"a": 1}}<|python_end|>',
        [call("add", a=1)],
    ),
    "llama4-in-python": (
        "llama4",
        None,
        '[add(a=1, b=None), write(path="a.py", text="x]")]',
        [call("add", a=1, b=None), call("write", path="a.py", text="x]")],
    ),
    "llama4-a-list-that-is-none": ("llama4", None, "[1] is [one](b=2)", [Content("[1] is [one](b=2)")]),
    "llama4-no-tool": ("llama4", None, "[other(a=1)]", [Content("[other(a=1)]")]),
    "apertus": (
        "apertus",
        "apertus",
        '<|inner_prefix|>hm<|inner_suffix|>Ok. <|tools_prefix|>[{"add": {"a": 1}}, {"mixed": {}}]<|tools_suffix|>',
        [Thought("hm"), Content("Ok."), call("add", a=1), call("mixed")],
    ),
    "functionary": (
        "functionary",
        None,
        'So:\n<function=write>{"text": "</function> <function=add>"}</function><function=add>{"a": 1}</function>',
        [Content("So:"), call("write", text="</function> <function=add>"), call("add", a=1)],
    ),
    "minimax-m1": (
        "minimax_m1",
        "think",
        '<think>x</think>\n<tool_calls>\n{"name": "add", "arguments": {"a": 1}}\n{"name": "mixed", "arguments": {}}\n'
        "</tool_calls>",
        [Thought("x"), call("add", a=1), call("mixed")],
    ),
    "hunyuan-a13b": (
        "hunyuan_a13b",
        None,
        '<tool_calls>[{"name": "add", "arguments": {"a": 1}}, {"name": "write", "arguments": {"text": "</tool_calls>"}}'
        "]</tool_calls>",
        [call("add", a=1), call("write", text="</tool_calls>")],
    ),
    "hy3": (
        "hy_v3",
        "hy_v3",
        "<think:opensource>x</think:opensource><tool_calls:opensource>\n<tool_call:opensource>write<tool_sep:opensource>"
        "\n<arg_key:opensource>path</arg_key:opensource>\n<arg_value:opensource>a <b>\n</arg_value:opensource>\n"
        "</tool_call:opensource>\n<tool_call:opensource>add<tool_sep:opensource>\n<arg_key:opensource>a"
        "</arg_key:opensource>\n<arg_value:opensource>1</arg_value:opensource>\n</tool_call:opensource>\n"
        "</tool_calls:opensource> done",
        [Thought("x"), call("write", path="a <b>\n"), call("add", a=1), Content("done")],
    ),
    "hy3-preview-without-arguments": (
        "hy_v3",
        None,
        "<tool_calls>\n<tool_call>mixed<tool_sep>\n</tool_call>\n</tool_calls>",
        [call("mixed")],
    ),
    "hy4": (
        "hy_v4",
        "hy_v4",
        "<think:6124c78e>x</think:6124c78e><tool_calls:6124c78e><tool_call:6124c78e>add<arg_key:6124c78e>a"
        "</arg_key:6124c78e><arg_value:6124c78e>1</arg_value:6124c78e></tool_call:6124c78e></tool_calls:6124c78e>",
        [Thought("x"), call("add", a=1)],
    ),
    "minimax-m3": (
        "minimax_m3",
        "minimax_m3",
        "<mm:think>x</mm:think>"
        + m3("<tool_call>\n", '<invoke name="write">', "<path>a.py", "</path>", "<text>\n</invoke> ", "</text>")
        + m3("</invoke>\n", '<invoke name="deep">', "<list>", "<item>1", "</item>", "<item>2", "</item>", "</list>")
        + m3("<rows>", "<item>", "<on>true", "</on>", "</item>", "</rows>", "<none>", "</none>", "<text>", "</text>")
        + m3("<more>", "<x>a", "</x>", "</more>", "</invoke>\n", "</tool_call>"),
        [
            Thought("x"),
            call("write", path="a.py", text="\n</invoke> "),
            call("deep", list=[1, 2], rows=[{"on": True}], none=[], text="", more={"x": "a"}),
        ],
    ),
    "solar-open": (
        "solar_open",
        "solar_open",
        "<|think|>hm<|end|><|begin|>assistant<|content|>So:<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1"
        '<|tool_call:name|>add<|tool_call:args|>{"a": 1}<|tool_call:end|><|tool_call:begin|>a2<|tool_call:name|>write'
        '<|tool_call:args|>{"text": "<|end|>"}<|tool_call:end|><|calls|>',
        [Thought("hm"), Content("So:"), call("add", a=1), call("write", text="<|end|>")],
    ),
    "solar-open-words": (
        None,
        "solar_open",
        "<|begin|>assistant<|think|>a<|end|><|begin|>assistant<|content|>b <|b|>\n<|end|>",
        [Thought("a"), Content("b <|b|>\n")],
    ),
    "kimi-k3": (
        "kimi_k3",
        "kimi_k3",
        "<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>So.<|close|>response<|sep|><|open|>tools<|sep|>"
        '<|open|>call tool="write" index="1"<|sep|><|open|>argument key="text" type="string"<|sep|>5 <|close|>'
        '<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool="add" index="2"<|sep|><|open|>argument key="a" '
        'type="number"<|sep|>1<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>',
        [Thought("hm"), Content("So."), call("write", text="5 <|close|>"), call("add", a=1)],
    ),
    "kimi-k3-all-arguments-at-once": (
        "kimi_k3",
        None,
        '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|><|open|>json type="object"<|sep|>{"a": {"b": [1]}}'
        '<|close|>json<|sep|><|close|>call<|sep|><|open|>call tool="add" index="2"<|sep|><|open|>argument '
        'key="a&quot;&amp;" type="string"<|sep|>&amp;<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
        [call("add", a={"b": [1]}), call("add", **{'a"&': "&amp;"})],
    ),
    "gigachat": (
        "gigachat",
        None,
        'So.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "add", "arguments": {"a": 1}}<|message_sep|>\n\n'
        'function call<|role_sep|>\n{"name": "write", "arguments": {"text": "x"}}',
        [Content("So."), call("add", a=1), call("write", text="x")],
    ),
    "gigachat-3.1": (
        "gigachat",
        None,
        'So.<|function_call|>{"name": "add", "arguments": {"a": 1}}<|message_sep|>',
        [Content("So."), call("add", a=1)],
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
    "minimax-cut": ("minimax_m2", '<minimax:tool_call>\n<invoke name="add">\n<parameter name="a">5'),
    "minimax-no-call": ("minimax_m2", "<minimax:tool_call>\n</minimax:tool_call>"),
    "minimax-words-between": ("minimax_m2", '<minimax:tool_call><invoke name="now"></invoke>so</minimax:tool_call>'),
    "dsml-no-json": (
        "deepseek_v32",
        '<｜DSML｜function_calls><｜DSML｜invoke name="add"><｜DSML｜parameter name="a" string="false">x'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
    ),
    "seed-no-function": ("seed_oss", "<seed:tool_call>add</seed:tool_call>"),
    "cohere-object": ("cohere", '<|START_ACTION|>{"tool_name": "add"}<|END_ACTION|>'),
    "cohere-no-name": ("cohere", '<|START_ACTION|>[{"parameters": {}}]<|END_ACTION|>'),
    "python-code": ("olmo3", "<function_calls>\nx = add(a=1)\n</function_calls>"),
    "python-nothing": ("olmo3", "<function_calls>\n</function_calls>"),
    "python-by-place": ("lfm2", "<|tool_call_start|>[add(1)]<|tool_call_end|>"),
    "python-computed": ("lfm2", "<|tool_call_start|>[add(a=add(b=1))]<|tool_call_end|>"),
    "python-no-json": ("lfm2", "<|tool_call_start|>[add(a={1, 2})]<|tool_call_end|>"),
    "python-not-finite": ("lfm2", "<|tool_call_start|>[add(a=1e999)]<|tool_call_end|>"),
    "python-spread": ("lfm2", "<|tool_call_start|>[add(**{'a': 1})]<|tool_call_end|>"),
    "python-deep": ("lfm2", "<|tool_call_start|>[add(a=" + "[" * 100_000 + ")]<|tool_call_end|>"),
    "python-long": ("lfm2", "<|tool_call_start|>[add(a=" + "-" * 100_000 + "1)]<|tool_call_end|>"),
    "gemma-cut": ("gemma4", "<|tool_call>call:add{a:1"),
    "gemma-no-comma": ("gemma4", '<|tool_call>call:add{a:<|"|>x<|"|>b:2}<tool_call|>'),
    "gemma-no-key": ("gemma4", "<|tool_call>call:add{:2}<tool_call|>"),
    "gemma-words-behind": ("gemma4", "<|tool_call>call:add{}x<tool_call|>"),
    "gemma-no-end-of-text": ("gemma4", '<|tool_call>call:add{a:<|"|>x}<tool_call|>'),
    "gemma-deep": ("gemma4", "<|tool_call>call:add{a:" + "[" * 100_000 + "<tool_call|>"),
    "llama4-code": ("llama4", "<|python_start|>print(1)<|python_end|>"),
    "llama4-by-place": ("llama4", "[add(1)]"),
    "llama-not-finite": ("llama3_json", '{"name": "add", "parameters": {"a": NaN}}'),
    "apertus-object": ("apertus", '<|tools_prefix|>{"add": {}}<|tools_suffix|>'),
    "apertus-two-names": ("apertus", '<|tools_prefix|>[{"add": {}, "write": {}}]<|tools_suffix|>'),
    "apertus-no-object": ("apertus", '<|tools_prefix|>[{"add": 1}]<|tools_suffix|>'),
    "functionary-cut": ("functionary", '<function=add>{"a": 1'),
    "functionary-no-name": ("functionary", "<function=a b>{}</function>"),
    "minimax-m1-nothing": ("minimax_m1", "<tool_calls>\n</tool_calls>"),
    "minimax-m1-words": ("minimax_m1", '<tool_calls>{"name": "add", "arguments": {}} so</tool_calls>'),
    "minimax-m1-deep": ("minimax_m1", "<tool_calls>" + "[" * 100_000 + "</tool_calls>"),
    "hy3-cut": ("hy_v3", "<tool_calls>\n<tool_call>add<tool_sep>\n<arg_key>a</arg_key>\n<arg_value>1"),
    "hy3-other-suffix": (
        "hy_v3",
        "<tool_calls:opensource><tool_call>add<tool_sep></tool_call></tool_calls:opensource>",
    ),
    "solar-open-cut": (
        "solar_open",
        '<|tool_calls|><|tool_call:begin|>a<|tool_call:name|>add<|tool_call:args|>{"a": 1',
    ),
    "solar-open-words": ("solar_open", "<|tool_calls|>add"),
    "kimi-k3-no-json": (
        "kimi_k3",
        '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|><|open|>argument key="a" type="number"<|sep|>x'
        "<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    "kimi-k3-no-object": (
        "kimi_k3",
        '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|><|open|>json type="array"<|sep|>[["a", 1]]'
        "<|close|>json<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    "kimi-k3-nothing": ("kimi_k3", "<|open|>tools<|sep|><|close|>tools<|sep|>"),
    "gigachat-cut": ("gigachat", '<|function_call|>{"name": "add", "arguments": {'),
    "gigachat-words": ("gigachat", "function call<|role_sep|>\nadd(1)"),
    "m3-cut": ("minimax_m3", m3("<tool_call>", '<invoke name="add">', "<a>1")),
    "m3-crossed": ("minimax_m3", m3("<tool_call>", '<invoke name="add">', "<a>1", "</b>", "</invoke>", "</tool_call>")),
    "m3-words": ("minimax_m3", m3("<tool_call>", '<invoke name="add">so', "</invoke>", "</tool_call>")),
    "m3-nothing": ("minimax_m3", m3("<tool_call>", "</tool_call>")),
    "m3-deep": ("minimax_m3", m3("<tool_call>", '<invoke name="add">', *["<a>"] * 10_000, "</tool_call>")),
    "harmony-no-json": ("harmony", "<|channel|>commentary to=functions.add<|message|>{"),
}
