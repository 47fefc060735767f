"""The forms in which families of models write tool calls and thoughts, and which of them a chat template asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.text.replies import calls, gemma, markup, nested, pythonic
from engine.text.replies.pieces import Schemas, ToolCall

ToolFormatName = Literal[
    "hermes",
    "qwen3_coder",
    "glm45",
    "llama3_json",
    "mistral",
    "granite",
    "deepseek_v3",
    "deepseek_v31",
    "deepseek_v32",
    "deepseek_v4",
    "kimi_k2",
    "seed_oss",
    "minimax_m2",
    "cohere",
    "gemma4",
    "olmo3",
    "lfm2",
    "llama4",
    "apertus",
    "functionary",
    "minimax_m1",
    "minimax_m3",
    "hunyuan_a13b",
    "hy_v3",
    "hy_v4",
    "solar_open",
    "kimi_k3",
    "gigachat",
    "harmony",
]
ThoughtFormatName = Literal[
    "think",
    "seed",
    "mistral",
    "cohere",
    "gemma4",
    "apertus",
    "minimax_m3",
    "hy_v3",
    "hy_v4",
    "solar_open",
    "kimi_k3",
    "harmony",
]


@dataclass(frozen=True)
class ToolFormat:
    """How one family writes calls; Harmony has a reader of its own (`engine.text.replies.harmony`)."""

    name: ToolFormatName
    read: Callable[[str, Schemas], list[ToolCall]]
    opens: tuple[str, ...]  # what a section of calls begins with
    close: str = ""  # what it ends with; empty: the reply's end
    begins: tuple[str, ...] = ()  # a reply that begins so may be calls as a whole
    read_whole: Callable[[str, Schemas], list[ToolCall]] | None = None  # then
    marks: tuple[str, ...] = ()  # others that it is written with
    closes: Mapping[str, str] = field(default_factory=dict)  # in place of `close`, of sections that begin so

    def close_of(self, opened: str) -> str:
        """What ends a section that begins with `opened`."""
        return self.closes.get(opened, self.close)

    @property
    def all_marks(self) -> tuple[str, ...]:
        """Texts of which some are special tokens in some vocabularies."""
        return (*self.opens, *self.marks, *filter(None, (self.close, *self.closes.values())))


@dataclass(frozen=True)
class ThoughtFormat:
    """The marks around thoughts, which come before everything else in a reply."""

    name: ThoughtFormatName
    open: str
    close: str
    around: tuple[str, ...] = ()  # marks around content, which are no text
    content: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # those that content begins and ends with
    tokens: tuple[str, ...] = ()  # special tokens that the marks are made of

    @property
    def all_marks(self) -> tuple[str, ...]:
        """Texts of which some are special tokens in some vocabularies."""
        return (self.open, self.close, *self.around, *self.tokens)


def _marked_up(name: ToolFormatName, form: markup.Markup) -> ToolFormat:
    return ToolFormat(name, markup.reader(form), (form.begin,), form.end)


def _in_python(name: ToolFormatName, begin: str, end: str) -> ToolFormat:
    return ToolFormat(name, pythonic.reader(begin, end), (begin,), end)


def _hunyuan(name: ToolFormatName) -> ToolFormat:
    forms, names = markup.HUNYUAN, ("tool_call", "tool_sep", "arg_key", "arg_value")
    marks = [f"<{slash}{mark}{end}>" for end in markup.HUNYUAN_SUFFIXES for mark in names for slash in ("", "/")]
    closes = {form.begin: form.end for form in forms}
    return ToolFormat(name, markup.hunyuan, tuple(closes), marks=tuple(marks), closes=closes)


_KIMI_TOKENS = ("<|open|>", "<|close|>", "<|sep|>")
_DEEPSEEK_MARKS = ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>")
_DEEPSEEK = ("<｜tool▁calls▁begin｜>",), "<｜tool▁calls▁end｜>"
HARMONY_MARKS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|return|>")
TOOL_FORMATS: dict[ToolFormatName, ToolFormat] = {
    found.name: found
    for found in (
        ToolFormat(
            "hermes", calls.hermes, ("<tool_call>",), "</tool_call>", ("{", "```json"), calls.hermes_without_marks
        ),
        _marked_up("qwen3_coder", markup.QWEN3_CODER),
        _marked_up("seed_oss", markup.SEED_OSS),
        _marked_up("minimax_m2", markup.MINIMAX_M2),
        _marked_up("deepseek_v32", markup.DEEPSEEK_V32),
        _marked_up("deepseek_v4", markup.DEEPSEEK_V4),
        ToolFormat("cohere", calls.cohere, ("<|START_ACTION|>",), "<|END_ACTION|>"),
        _in_python("olmo3", "<function_calls>", "</function_calls>"),
        _in_python("lfm2", "<|tool_call_start|>", "<|tool_call_end|>"),
        ToolFormat("gemma4", gemma.gemma4, (gemma.BEGIN,), gemma.END, marks=(gemma.QUOTE,)),
        ToolFormat(
            "glm45", calls.glm45, ("<tool_call>",), "</tool_call>",
            marks=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        ),
        ToolFormat("llama3_json", calls.llama3_json, ("<|python_tag|>",), "", ("{",), calls.llama3_json),
        ToolFormat("llama4", calls.llama4, ("<|python_start|>",), "<|python_end|>", ("{", "["), calls.llama4),
        ToolFormat("apertus", calls.apertus, ("<|tools_prefix|>",), "<|tools_suffix|>"),
        ToolFormat("functionary", calls.functionary, ("<function=",), "</function>"),
        ToolFormat("minimax_m1", calls.minimax_m1, ("<tool_calls>",), "</tool_calls>"),
        ToolFormat("hunyuan_a13b", calls.minimax_m1, ("<tool_calls>",), "</tool_calls>"),
        ToolFormat("minimax_m3", nested.minimax_m3, (nested.BEGIN,), nested.END, marks=(nested.SPACE_MARK,)),
        _hunyuan("hy_v3"),
        _hunyuan("hy_v4"),
        ToolFormat(
            "solar_open", calls.solar_open, ("<|tool_calls|>",),
            marks=tuple(f"<|tool_call:{part}|>" for part in ("begin", "name", "args", "end")),
        ),
        ToolFormat(
            "kimi_k3", markup.reader(markup.KIMI_K3), (markup.KIMI_K3.begin,), markup.KIMI_K3.end, marks=_KIMI_TOKENS
        ),
        ToolFormat(
            "gigachat", calls.gigachat,
            ("<|message_sep|>\n\nfunction call<|role_sep|>", "function call<|role_sep|>", "<|function_call|>"),
            marks=("<|message_sep|>", "<|role_sep|>"),
        ),
        ToolFormat("mistral", calls.mistral, ("[TOOL_CALLS]",), marks=("[ARGS]", "[CALL_ID]")),
        ToolFormat("granite", calls.granite, ("<|tool_call|>",), marks=("<|/tool_call|>",)),
        ToolFormat("deepseek_v3", calls.deepseek, *_DEEPSEEK, marks=_DEEPSEEK_MARKS),
        ToolFormat("deepseek_v31", calls.deepseek, *_DEEPSEEK, marks=_DEEPSEEK_MARKS),
        ToolFormat(
            "kimi_k2", calls.kimi_k2, ("<|tool_calls_section_begin|>",), "<|tool_calls_section_end|>",
            marks=("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        ),
    )
}  # fmt: skip
THOUGHT_FORMATS: dict[ThoughtFormatName, ThoughtFormat] = {
    "think": ThoughtFormat("think", "<think>", "</think>"),
    "seed": ThoughtFormat("seed", "<seed:think>", "</seed:think>"),
    "mistral": ThoughtFormat("mistral", "[THINK]", "[/THINK]"),
    "cohere": ThoughtFormat("cohere", "<|START_THINKING|>", "<|END_THINKING|>"),
    "gemma4": ThoughtFormat("gemma4", "<|channel>thought", "<channel|>"),
    "apertus": ThoughtFormat("apertus", "<|inner_prefix|>", "<|inner_suffix|>"),
    "minimax_m3": ThoughtFormat("minimax_m3", "<mm:think>", "</mm:think>"),
    "hy_v3": ThoughtFormat("hy_v3", "<think:opensource>", "</think:opensource>"),
    "hy_v4": ThoughtFormat("hy_v4", "<think:6124c78e>", "</think:6124c78e>"),
    "solar_open": ThoughtFormat(
        "solar_open", "<|think|>", "<|end|>",
        ("<|begin|>assistant", "<|content|>", "<|end|>", "<|flush|>", "<|calls|>"), (("<|content|>",), ("<|end|>",)),
        ("<|begin|>",),
    ),
    "kimi_k3": ThoughtFormat(
        "kimi_k3", "<|open|>think<|sep|>", "<|close|>think<|sep|>",
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
        (("<|open|>response<|sep|>",), ("<|close|>response<|sep|>", "<|close|>message<|sep|>")), _KIMI_TOKENS,
    ),
}  # fmt: skip


def tool_format_of(template: str) -> ToolFormatName | None:
    """The form that a chat template asks for; `None`: it has no tools, or a form that is not known here."""
    if "tools" not in template:
        return None
    if _harmony(template):
        return "harmony"
    if "<｜tool▁calls▁begin｜>" in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    if "｜DSML｜" in template:
        if "function_calls>" in template:
            return "deepseek_v32"
        return "deepseek_v4" if "tool_calls>" in template else None
    signs: tuple[tuple[str, ToolFormatName | None], ...] = (
        ("<|tool_calls_section_begin|>", "kimi_k2"),
        ("[TOOL_CALLS]", "mistral"),
        ("<tool_sep", "hy_v3"),  # written as `<tool_sep{}>` where a suffix is put in
        ("<arg_key{}>", "hy_v4"),
        ("<arg_key>", "glm45"),
        ("<seed:tool_call>", "seed_oss"),
        ("<minimax:tool_call>", "minimax_m2"),
        (nested.SPACE_MARK, "minimax_m3"),
        ("<|START_ACTION|>", "cohere"),
        ("<|tool_call>call:", "gemma4"),
        ("<function_calls>", "olmo3"),
        ("<|tool_call_start|>", "lfm2"),
        ("<|tools_prefix|>", "apertus"),
        ("<|tool_call:begin|>", "solar_open"),
        ("<|open|>", "kimi_k3"),
        ("<|function_call|>", "gigachat"),
        ("function call<|role_sep|>", "gigachat"),
        ("<tool_calls>[", "hunyuan_a13b"),
        ("<tool_calls>", "minimax_m1"),
        ("<parameter=", "qwen3_coder"),
        ("<function=", "functionary"),
        ("<|tool_call|>", "granite"),
        ("<tool_call>", "hermes"),
        ("<|header_start|>", "llama4"),
        ("<|python_tag|>", "llama3_json"),
        ("Environment: ipython", "llama3_json"),
    )
    return next((name for sign, name in signs if sign in template), None)


def thought_format_of(template: str) -> ThoughtFormatName | None:
    """The marks that a chat template knows thoughts by; `None`: it knows none."""
    if _harmony(template):
        return "harmony"
    signs: tuple[tuple[str, ThoughtFormatName], ...] = (
        ("<seed:think>", "seed"),
        ("[THINK]", "mistral"),
        ("<|START_THINKING|>", "cohere"),
        ("<|channel>", "gemma4"),
        ("<|inner_prefix|>", "apertus"),
        ("<|begin|>assistant<|think|>", "solar_open"),
        ("<|open|>", "kimi_k3"),
        ("<mm:think>", "minimax_m3"),
        (":opensource", "hy_v3"),
        (":6124c78e", "hy_v4"),
    )
    found = next((name for sign, name in signs if sign in template), None)
    return found or ("think" if "<think>" in template or "</think>" in template else None)


def _harmony(template: str) -> bool:
    return "<|channel|>" in template and "<|message|>" in template
