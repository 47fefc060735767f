"""The chat template of a model: conversations in OpenAI's form to the text that the model was trained on."""

import inspect
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jinja2
import jinja2.meta

from engine.errors import RequestError

Message = dict[str, Any]
_REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Chat:
    """A conversation, and what else its prompt depends on."""

    messages: Sequence[Message]  # in OpenAI's form, their contents as texts
    tools: Sequence[dict[str, Any]] = ()  # in OpenAI's form
    options: Mapping[str, Any] = field(default_factory=dict)  # variables of the template
    answers: bool = True  # the prompt ends where a reply of the assistant begins
    continues: bool = False  # the reply continues the last message


class Prompt(NamedTuple):
    """A rendered conversation."""

    tokens: list[int]
    text: str  # with marks that cannot be guessed in place of special tokens that the conversation spells


class CallForm(NamedTuple):
    """How a template takes tool calls of earlier replies."""

    objects: bool  # their arguments as objects, not as texts
    absent: bool  # no content at all beside them, rather than an empty text


class ChatTemplate:
    """The template of one tokenizer, which has one."""

    def __init__(self, inner: Any) -> None:
        """`inner`: a tokenizer of `transformers`."""
        self._inner = inner

    @cached_property
    def source(self) -> str:
        """The template for conversations with tools, where there are several; empty where there is none."""
        found = self._inner.chat_template
        if isinstance(found, dict):
            found = found.get("tool_use") or found.get("default") or next(iter(found.values()), "")
        return str(found or "")

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names of what the template can be given."""
        try:
            tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(self.source)
            return frozenset(jinja2.meta.find_undeclared_variables(tree))
        except jinja2.TemplateError:  # it has statements that only `transformers` knows
            return frozenset(re.findall(r"[A-Za-z_]\w*", self.source))

    @cached_property
    def _reserved(self) -> frozenset[str]:
        """Names that mean something else where a template is rendered."""
        known = inspect.signature(self._inner.apply_chat_template).parameters
        return frozenset(known) | {"messages", "self", "bos_token", "eos_token"}

    def render(self, chat: Chat, spelled: "re.Pattern[str]") -> tuple[str, dict[str, str]]:
        """The text of a conversation, and what its marks stand for.

        Args:
            chat: the conversation.
            spelled: what must not be in its texts: a mark stands for it.

        Raises:
            RequestError: the template refuses the conversation, or has no form for a part of it.
        """
        for name in chat.options:
            if name in self._reserved or name.startswith("_"):
                raise RequestError(f"chat_template_kwargs can't set {name!r}", "chat_template_kwargs")
        hidden: dict[str, str] = {}
        try:
            messages = [self._message(message) for message in chat.messages]
            shown = [
                {key: value if key == "role" else _hide(value, spelled, hidden) for key, value in message.items()}
                for message in messages
            ]
            tools, options = _hide(list(chat.tools), spelled, hidden), _hide(dict(chat.options), spelled, hidden)
            return self._render(shown, tools, options, chat.answers, chat.continues), hidden
        except RequestError:
            raise
        except RecursionError as error:
            raise RequestError("a message is nested too deeply", "messages") from error
        except _REFUSALS as error:
            raise RequestError(f"the chat template refuses these messages: {error}", "messages") from error

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]],
        options: Mapping[str, Any],
        answers: bool = True,
        continues: bool = False,
    ) -> str:
        if tools and "tools" not in self.variables:
            raise RequestError("the chat template of this model has no place for tools: leave them out", "tools")
        return str(
            self._inner.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=answers,
                continue_final_message=continues,
                **options,
            )
        )

    def _message(self, message: Message) -> Message:
        """A message in the form that this template expects."""
        found = {key: value for key, value in message.items() if value is not None}
        if found.get("role") == "developer" and "developer" not in self.source:
            found["role"] = "system"
        thoughts = found.pop("reasoning", None)
        if thoughts is not None:
            found.setdefault("reasoning_content", thoughts)
        absent = False
        if not found.get("tool_calls"):
            found.pop("tool_calls", None)
        else:
            form = self._call_form
            if form is None:
                raise RequestError(
                    "the chat template of this model has no place for tool calls: say in texts what was called",
                    "messages",
                )
            found["tool_calls"] = [_call(call, form.objects) for call in found["tool_calls"]]
            absent = form.absent and not found.get("content")
        if "reasoning_content" in found and ".thinking" in self.source and "reasoning_content" not in self.source:
            thoughts = found.pop("reasoning_content")
            if not (found.get("tool_calls") and found.get("content")):  # with calls, this template takes one of them
                found["thinking"] = thoughts
        found["content"] = found.get("content", "")
        return {key: value for key, value in found.items() if not (absent and key == "content")}

    @cached_property
    def _call_form(self) -> CallForm | None:
        """Found by trial: templates raise errors, double the quotes, or leave calls out where the form is wrong."""
        for form in (CallForm(objects, absent) for objects in (True, False) for absent in (False, True)):
            try:
                text = self._render(_trial(form), [_TRIAL_TOOL] if "tools" in self.variables else [], {})
            except (RequestError, *_REFUSALS):
                continue
            wrong = ("'trial_key'", '\\"trial_key\\"')
            if "trial value" in text and "trial result" in text and not any(sign in text for sign in wrong):
                return form
        return None


_TRIAL_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "trial",
        "description": "a trial",
        "parameters": {
            "type": "object",
            "properties": {"trial_key": {"type": "string", "description": "a key"}},
            "required": ["trial_key"],
        },
    },
}


def _trial(form: CallForm) -> list[Message]:
    arguments = {"trial_key": "trial value"}
    call = {
        "id": "trial0000",  # some templates want nine characters
        "type": "function",
        "function": {"name": "trial", "arguments": arguments if form.objects else json.dumps(arguments)},
    }
    return [
        {"role": "user", "content": "a question"},
        {"role": "assistant", "tool_calls": [call]} | ({} if form.absent else {"content": ""}),
        {"role": "tool", "content": "trial result", "tool_call_id": "trial0000", "name": "trial"},
    ]


def _call(call: dict[str, Any], objects: bool) -> dict[str, Any]:
    """A call of an earlier reply, its arguments as objects or as text.

    Raises:
        RequestError: its arguments are no JSON object.
    """
    function = dict(call["function"])
    arguments = function.get("arguments") or {}
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        name = function.get("name")
        raise RequestError(f"the arguments of a call of {name!r} are not JSON", "messages") from error
    if not isinstance(arguments, dict):
        raise RequestError(f"the arguments of a call of {function.get('name')!r} are not an object", "messages")
    function["arguments"] = arguments if objects else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function"} | {k: v for k, v in call.items() if v is not None} | {"function": function}


def _hide(value: Any, spelled: "re.Pattern[str]", hidden: dict[str, str]) -> Any:
    """The value with a unique mark for all that is `spelled` in its texts, recorded in `hidden`."""
    if isinstance(value, str):
        return spelled.sub(lambda match: _mark(match[0], hidden), value)
    if isinstance(value, dict):
        return {_hide(key, spelled, hidden): _hide(item, spelled, hidden) for key, item in value.items()}
    return [_hide(item, spelled, hidden) for item in value] if isinstance(value, list | tuple) else value


def _mark(text: str, hidden: dict[str, str]) -> str:
    mark = f"x{secrets.token_hex(16)}x"  # it cannot be guessed; templates leave letters and digits unchanged
    hidden[mark] = text
    return mark
