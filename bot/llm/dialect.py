"""What one endpoint accepts, learned from the calls that it refuses. Pure.

Endpoints differ in their context window, the parameters that they take and what they call them, the longest reply that
they allow, and whether they take a system message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from bot.records import Message, ModelCall

DEFAULT_WINDOW = 131_072  # tokens, where neither the settings nor the endpoint say
REFUSED = (400, 413, 422)  # HTTP statuses of a call that the endpoint would refuse again
_OVERFLOW = re.compile(
    r"context.{0,20}(length|window|size)|maximum (context|prompt|input)|(prompt|input).{0,30}too (long|large)"
    r"|exceeds? .{0,40}(context|token limit)|too many (input )?tokens|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
_STATED_WINDOW = re.compile(r"(?:context (?:length|window|size)|n_ctx)[^\d]{0,40}(\d{3,8})", re.IGNORECASE)
_SYSTEM = re.compile(r"system.{0,20}(role|message|prompt|instruction)|roles must alternate", re.IGNORECASE)
_LENGTH = re.compile(r"max_(completion_|output_|new_)?tokens")
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Refusal:
    """An error that an endpoint answered with."""

    status: int  # HTTP
    text: str  # the whole body on one line
    message: str  # for people
    parameter: str = ""  # that the endpoint says is at fault
    code: str = ""

    @classmethod
    def of(cls, error: openai.APIStatusError) -> "Refusal":
        body = error.body
        text = " ".join(str(body if body is not None else error.message).split())
        message = body.get("message") if isinstance(body, dict) else None
        return cls(
            status=error.status_code,
            text=text,
            message=" ".join(message.split()) if isinstance(message, str) else text,
            parameter=error.param or "",
            code=error.code or "",
        )

    @property
    def overflow(self) -> bool:
        """Whether the prompt, or prompt and reply together, are too long."""
        return self.status == 413 or self.names_overflow

    @property
    def names_overflow(self) -> bool:
        return _OVERFLOW.search(self.text) is not None

    def names(self, parameter: str) -> bool:
        """Whether the error names the parameter."""
        return re.search(rf"\b{parameter}\b", f"{self.parameter} {self.text}") is not None


@dataclass(frozen=True)
class Request:
    """One call as it is sent."""

    body: dict[str, Any]  # without the model's name
    limit: int  # tokens of the reply
    window: int  # tokens, as it was known or assumed when the request was made


class Dialect:
    """What one endpoint accepts, as far as it is known."""

    def __init__(self, window: int, user: str | None) -> None:
        """`window`: tokens, 0 where the settings name none. `user` is sent with every call."""
        self.takes_grammars = False  # in the dialect of Troop's own engine
        self._window = window
        self._window_known = window > 0
        self._user = user
        self._refused: set[str] = set()  # parameters
        self._limit_name = "max_tokens"
        self._longest_reply = 0  # tokens that the endpoint allows; 0: not known
        self._system_refused = False

    @property
    def window(self) -> int:
        """Tokens that prompt and reply may have together."""
        return self._window or DEFAULT_WINDOW

    @property
    def window_known(self) -> bool:
        """Whether the settings or the endpoint stated the window."""
        return self._window_known

    def set_window(self, tokens: int) -> None:
        """Take over a window that the endpoint stated."""
        self._window, self._window_known = tokens, True

    def request(self, call: ModelCall, limit: int) -> Request:
        """The call in the form that the endpoint accepts, for a reply of at most `limit` tokens."""
        parameters: dict[str, Any] = {
            self._limit_name: min(limit, self._longest_reply or limit),
            "temperature": call.temperature,
            "seed": call.seed,
            "user": self._user,
        }
        if call.grammar and self.takes_grammars:
            parameters["structured_outputs"] = {"grammar": call.grammar}
        messages = without_system(call.messages) if self._system_refused else call.messages
        body = {"messages": [message.model_dump() for message in messages]}
        body |= {k: v for k, v in parameters.items() if v is not None and k not in self._refused}
        return Request(body=body, limit=limit, window=self.window)

    def learn(self, refusal: Refusal, request: Request) -> int | None:
        """Learn from a refusal: the reply's limit to try again with, or None where nothing is left to try.

        Calls run concurrently: another may have learned the same since this request was made.
        """
        if refusal.names_overflow:
            return self._learn_window(refusal, request)
        sent, limit = request.body, request.limit
        if "max_tokens" in sent and refusal.names("max_completion_tokens"):
            self._limit_name = "max_completion_tokens"
            return limit
        asked = next((sent[name] for name in _LIMIT_NAMES if name in sent), 0)
        if _LENGTH.search(f"{refusal.parameter} {refusal.text}") and asked >= 256:
            if not self._longest_reply or asked <= self._longest_reply:
                self._longest_reply = asked // 2
            return limit
        for parameter in ("structured_outputs", "seed", "temperature", self._limit_name):
            if refusal.names(parameter) and parameter in sent:
                self._refused.add(parameter)
                return limit
        if _SYSTEM.search(refusal.text):
            self._system_refused = True
            return limit if sent["messages"][0]["role"] == "system" else None
        for parameter in ("user", "seed"):  # strict servers do not always name the field
            if parameter in sent and (refusal.status == 422 or refusal.names(parameter)):
                self._refused.add(parameter)
                return limit
        return None

    def _learn_window(self, refusal: Refusal, request: Request) -> int | None:
        stated = _STATED_WINDOW.search(refusal.text)
        if stated and (not self._window or int(stated[1]) < self._window):
            self.set_window(int(stated[1]))
        if request.limit >= 512 and "token" in refusal.text:
            return request.limit // 2  # prompt and reply share the window: a shorter reply may fit
        if self.window == request.window and not self._window_known:
            self._window = request.window // 2  # smaller than was assumed, though nobody says how small
        return None


def without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The system message joined to the first user message, for chat templates without a system role."""
    if not messages or messages[0].role != "system":
        return messages
    first = messages[1].model_copy(update={"content": f"{messages[0].content}\n\n{messages[1].content}"})
    return [first, *messages[2:]]
