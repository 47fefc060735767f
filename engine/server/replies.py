"""How replies of the served model are read and constrained: its forms of tool calls and thoughts."""

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from engine.errors import LoadError, RequestError
from engine.server.protocol import ChatRequest
from engine.text.chat_template import Prompt
from engine.text.grammar import Grammar
from engine.text.replies import call_grammar
from engine.text.replies.call_grammar import CallGrammar
from engine.text.replies.formats import (
    HARMONY_MARKS,
    THOUGHT_FORMATS,
    TOOL_FORMATS,
    ThoughtFormat,
    ThoughtFormatName,
    ToolFormatName,
    thought_format_of,
    tool_format_of,
)
from engine.text.replies.harmony import HarmonyReader
from engine.text.replies.lark import quoted
from engine.text.replies.marked import MarkedReader
from engine.text.replies.pieces import ReplyReader, Schemas
from engine.text.tokenizer import Tokenizer

_HARMONY_ENDS = ("<|call|>", "<|return|>")


@dataclass(frozen=True)
class ReplyPlan:
    """How the replies to one request are read."""

    harmony: bool = False
    thoughts: ThoughtFormat | None = None
    tools: ToolFormatName | None = None  # where there are tools that may be called
    schemas: Schemas = field(default_factory=dict)
    thinking: bool = False  # the prompt opens a thought
    head: str = ""  # see `HarmonyReader`
    named_tokens: Mapping[int, str] = field(default_factory=dict)  # special tokens that are part of the text
    ends: frozenset[int] = frozenset()  # tokens that end a reply as well

    def reader(self) -> ReplyReader | None:
        """A reader for one reply; `None`: all of it is content."""
        if self.harmony:
            return HarmonyReader(self.tools is not None, self.head)
        if self.thoughts is None and self.tools is None:
            return None
        form = TOOL_FORMATS[self.tools] if self.tools else None
        return MarkedReader(self.thoughts, form, self.schemas, self.thinking)

    def call_id(self) -> str:
        """An identifier for a call: nine letters and digits where the chat template wants that."""
        if self.tools == "mistral":
            return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
        return f"call_{secrets.token_hex(12)}"


class ReplyForms:
    """The forms of one model: as its chat template says, or as the operator does."""

    def __init__(self, tokenizer: Tokenizer, tools: str = "auto", thoughts: str = "auto") -> None:
        """
        Args:
            tokenizer: of the model.
            tools: a `ToolFormatName`, `none` or `auto`.
            thoughts: a `ThoughtFormatName`, `none` or `auto`.

        Raises:
            LoadError: one is not known.
        """
        for option, given, known in (("tool", tools, ToolFormatName), ("reasoning", thoughts, ThoughtFormatName)):
            if given not in ("auto", "none", *get_args(known)):
                raise LoadError(f"--{option}-parser {given!r} is none of auto, none, {', '.join(get_args(known))}")
        self._tokenizer = tokenizer
        self._given: tuple[Any, Any] = (tools, thoughts)

    @cached_property
    def tools(self) -> ToolFormatName | None:
        """The form of tool calls."""
        given = self._given[0]
        found = tool_format_of(self._tokenizer.template.source) if given == "auto" else given
        return None if found == "none" else found

    @cached_property
    def thoughts(self) -> ThoughtFormatName | None:
        """The form of thoughts."""
        given = self._given[1]
        found = thought_format_of(self._tokenizer.template.source) if given == "auto" else given
        return None if found == "none" else found

    def plan(self, body: ChatRequest, prompt: Prompt) -> ReplyPlan:
        """How the replies to a request are read.

        Raises:
            RequestError: it has tools, and how this model calls tools is not known; or it forbids thoughts that the
                prompt opens.
        """
        tools = self.tools if body.offered else None
        if body.offered and tools is None:
            raise RequestError(
                "how this model writes tool calls is not known: start the engine with --tool-parser, or leave"
                " tools out",
                "tools",
            )
        harmony = self.thoughts == "harmony" or tools == "harmony"
        thoughts = None if harmony or self.thoughts is None else THOUGHT_FORMATS[self.thoughts]
        thinking = thoughts is not None and _opens(thoughts, body, prompt.text)
        if thinking and body.reasoning_effort == "none":
            raise RequestError("this model always thinks: leave reasoning_effort out", "reasoning_effort")
        begins = body.prefill is not None or body.add_generation_prompt is not False
        marks: tuple[str, ...] = HARMONY_MARKS if harmony else thoughts.all_marks if thoughts else ()
        marks += TOOL_FORMATS[tools].all_marks if tools and not harmony else ()
        special = self._tokenizer.special_tokens
        return ReplyPlan(
            harmony,
            thoughts,
            tools,
            body.schemas,
            thinking,
            prompt.text.rpartition("<|start|>")[2] if harmony and begins else "",
            {special[mark]: mark for mark in marks if mark in special},
            frozenset(special[mark] for mark in _HARMONY_ENDS if harmony and mark in special),
        )

    def grammar(self, body: ChatRequest, plan: ReplyPlan, prompt: Prompt) -> Grammar | None:
        """The grammar of the replies to a request: calls where one is demanded, else what its content must follow;
        either behind thoughts. `None`: any text.

        Raises:
            RequestError: it is incomplete or ambiguous.
        """
        content, demanded = body.grammar(), body.must_call
        if content is None and not demanded:
            return None
        calls = None
        if plan.tools is not None:
            schemas = {name: plan.schemas[name] for name in demanded or plan.schemas}
            lists = "[ARGS]" not in self._tokenizer.template.source
            calls = CallGrammar(plan.tools, self._mark, schemas, not body.calls_once, lists)
        content = None if demanded else content
        if plan.harmony:
            if "<|message|>" in plan.head:  # the prompt has the beginning of an answer
                return content
            thoughts, around = call_grammar.harmony_thoughts(self._mark), call_grammar.harmony_content(self._mark)
            return call_grammar.reply_grammar(calls, content, thoughts, around)
        closed = plan.thoughts is not None and prompt.text.rstrip().endswith(plan.thoughts.close)
        before, around = "", ("", "")
        if plan.thoughts is not None and (plan.thinking or body.prefill is None):
            before = "" if closed else call_grammar.thoughts_before(plan.thoughts, self._mark, plan.thinking)
            around = call_grammar.content_in(plan.thoughts, self._mark, prompt.text)
        if calls is None and not before and not any(around):
            return content
        return call_grammar.reply_grammar(calls, content, before, around)

    def _mark(self, text: str) -> str:
        return self._tokenizer.in_tokens(text, quoted)


def _opens(form: ThoughtFormat, body: ChatRequest, prompt: str) -> bool:
    """Whether the prompt ends within a thought."""
    prefill = body.prefill
    if prefill is None:
        return prompt.rstrip().endswith(form.open)
    if form.open in prefill or form.close in prefill:
        return prefill.rfind(form.open) > prefill.rfind(form.close)
    return prompt[: prompt.rfind(prefill.strip()[:64])].rstrip().endswith(form.open)
