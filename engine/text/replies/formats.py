"""The forms in which families of models write tool calls and thoughts, and which of them a chat template asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.text.replies import calls, gemma, markup, pythonic
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
    "kimi_k2",
    "seed_oss",
    "minimax_m2",
    "cohere",
    "gemma4",
    "olmo3",
    "lfm2",
    "harmony",
]
ThoughtFormatName = Literal["think", "seed", "mistral", "cohere", "gemma4", "harmony"]


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

    @property
    def all_marks(self) -> tuple[str, ...]:
        """Texts of which some are special tokens in some vocabularies."""
        return (*self.opens, *self.marks, *([self.close] if self.close else []))


@dataclass(frozen=True)
class ThoughtFormat:
    """The marks around thoughts, which come before everything else in a reply."""

    name: ThoughtFormatName
    open: str
    close: str


def _marked_up(name: ToolFormatName, form: markup.Markup) -> ToolFormat:
    return ToolFormat(name, markup.reader(form), (form.begin,), form.end)


def _in_python(name: ToolFormatName, begin: str, end: str) -> ToolFormat:
    return ToolFormat(name, pythonic.reader(begin, end), (begin,), end)


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
        ToolFormat("cohere", calls.cohere, ("<|START_ACTION|>",), "<|END_ACTION|>"),
        _in_python("olmo3", "<function_calls>", "</function_calls>"),
        _in_python("lfm2", "<|tool_call_start|>", "<|tool_call_end|>"),
        ToolFormat("gemma4", gemma.gemma4, (gemma.BEGIN,), gemma.END, marks=(gemma.QUOTE,)),
        ToolFormat(
            "glm45", calls.glm45, ("<tool_call>",), "</tool_call>",
            marks=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        ),
        ToolFormat("llama3_json", calls.llama3_json, ("<|python_tag|>",), "", ("{",), calls.llama3_json),
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
}


def tool_format_of(template: str) -> ToolFormatName | None:
    """The form that a chat template asks for; `None`: it has no tools, or a form that is not known here."""
    if "tools" not in template:
        return None
    if _harmony(template):
        return "harmony"
    if "<｜tool▁calls▁begin｜>" in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    if "｜DSML｜" in template:
        return "deepseek_v32" if "function_calls>" in template else None
    signs: tuple[tuple[str, ToolFormatName | None], ...] = (
        ("<|tool_calls_section_begin|>", "kimi_k2"),
        ("[TOOL_CALLS]", "mistral"),
        ("<arg_key>", "glm45"),
        ("<seed:tool_call>", "seed_oss"),
        ("<minimax:tool_call>", "minimax_m2"),
        ("]<]minimax[>[", None),
        ("<|START_ACTION|>", "cohere"),
        ("<|tool_call>call:", "gemma4"),
        ("<function_calls>", "olmo3"),
        ("<|tool_call_start|>", "lfm2"),
        ("<tool_calls>", None),
        ("<parameter=", "qwen3_coder"),
        ("<function=", None),
        ("<|tool_call|>", "granite"),
        ("<tool_call>", "hermes"),
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
    )
    found = next((name for sign, name in signs if sign in template), None)
    return found or ("think" if "<think>" in template or "</think>" in template else None)


def _harmony(template: str) -> bool:
    return "<|channel|>" in template and "<|message|>" in template
