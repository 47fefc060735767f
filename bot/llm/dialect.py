"""What one endpoint accepts, learned from the calls that it refuses. Pure.

Endpoints differ in their context window, the parameters that they take and what they call them, the longest reply that
they allow, and whether they take a system message.
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from bot.records import Message, ModelCall, Usage

DEFAULT_WINDOW = 131_072  # tokens, where neither the settings nor the endpoint say
REFUSED = (400, 413, 422)  # HTTP statuses of a call that the endpoint would refuse again
_OVERFLOW = re.compile(
    r"context.{0,20}(length|window|size|limit|overflow)|maximum (context|prompt|input|model|sequence)"
    r"|(prompt|input|sequence|messages).{0,40}(too (long|large|big)|(longer|larger|greater|more tokens) than|exceed)"
    r"|exceed(ed|s) (the )?model token limit|token limit exceeded|input length should be|KV cache is full|max_model_len"
    r"|exceeds? .{0,40}(context|token limit)|too many (input |prompt )?tokens|reduce the (length|prompt|input)"
    r"|inputs` (tokens \+|must have less than)|trying to keep the first|expected maxLength"
    r"|(max_(num_tokens|seq_len)|session_len)\W{0,3}\d{3}",
    re.IGNORECASE | re.DOTALL,
)
_STATED_WINDOW = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:n_ctx|num_ctx|max_model_len|max_num_tokens|max_seq_len|session_len)[^\d]{0,40}(\d{3,8})",
        r"\+ \d{1,8} > (\d{3,8})",  # prompt and reply
        r"maximum allowed length[^\d]{0,20}(\d{3,8})|(\d{3,8}) maximum context",
        r"(?:context|model|input) (?:length|window|size|limit)[^\d]{0,40}(\d{3,8})",
        r"maximum number of (?:input )?tokens allowed[^\d]{0,20}(\d{3,8})",
        r"maximum (?:prompt|input|sequence)[^\d]{0,40}(\d{3,8})",
        r"must have less than (\d{3,8})|cannot exceed[^\d]{0,30}(\d{3,8})",
        r"> (\d{3,8}) maximum|must be <= (\d{3,8})|token limit: (\d{3,8})|should be \[\d{1,8}, (\d{3,8})\]",
        r"(?:limit|maximum)(?: of| is)? (\d{3,8})|max context (\d{3,8})|\d{3,8} > (\d{3,8})\b(?! -)",
    )
)
_LEAST_WINDOW = 256  # tokens; no server cuts prompts to fewer
_SYSTEM = re.compile(r"system.{0,20}(role|message|prompt|instruction)|roles must alternate", re.IGNORECASE)
_LENGTH = re.compile(r"max_(completion_|output_|new_)?tokens")
_WAIT = re.compile(
    r"(?:again|retry|wait)\w* (?:in|after|for) (\d{1,5}(?:\.\d{1,9})?) ?(ms\b|s\b|sec|m\b|min)", re.IGNORECASE
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "mi": 60.0}  # seconds
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
# Ways to switch thoughts off, or to shorten them; the first that the endpoint takes is used. Chat templates ignore
# variables that they do not know.
_WITHOUT_THOUGHTS: tuple[tuple[str, Any], ...] = (
    ("chat_template_kwargs", {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}),
    ("reasoning_effort", "low"),
)
_CONTINUING = ("continue_final_message", "add_generation_prompt")


@dataclass(frozen=True)
class Refusal:
    """An error that an endpoint answered with."""

    status: int  # HTTP
    text: str  # the whole body on one line
    message: str  # for people
    parameter: str = ""  # that the endpoint says is at fault
    code: str = ""

    @classmethod
    def of(cls, error: "openai.APIStatusError | AnsweredError") -> "Refusal":
        if isinstance(error, AnsweredError):
            return error.refusal
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


class AnsweredError(ValueError):
    """An error in the body of an answer that claims success (HTTP 200)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.status_code = refusal.status


@dataclass(frozen=True)
class Request:
    """One call as it is sent."""

    body: dict[str, Any]  # without the model's name
    limit: int  # tokens of the reply
    window: int  # tokens, as it was known or assumed when the request was made
    begins: str = ""  # what the reply begins with, which the answer does not repeat

    @property
    def path(self) -> str:
        """Below the API's address."""
        return "/completions" if "prompt" in self.body else "/chat/completions"


class Dialect:
    """What one endpoint accepts, as far as it is known."""

    def __init__(self, window: int, user: str | None) -> None:
        """`window`: tokens, 0 where the settings name none. `user` is sent with every call."""
        self.takes_grammars = False  # in the dialect of Troop's own engine
        self.extended = False  # fields of vLLM's API, which Troop's own engine has, too
        self._window = window
        self._window_known = window > 0
        self._user = user
        self._refused: set[str] = set()  # parameters
        self._limit_name = "max_tokens"
        self._longest_reply = 0  # tokens that the endpoint allows; 0: not known
        self._system_refused = False
        self._streams = False
        self._most_seen = 0  # tokens of a prompt that the endpoint reported

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

    def stream(self) -> None:
        """Ask for answers as streams from now on: a proxy on the way gives up a connection that is silent for long."""
        self._streams = True

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
        if call.scored:
            parameters["logprobs"] = 0 if call.continued else True  # in the older API: beside the token's own
        elif self._streams:  # the scores of a stream are not read
            parameters |= {"stream": True, "stream_options": {"include_usage": True}}
        if call.stop:
            parameters["stop"] = list(call.stop)
        if not call.thinks:
            parameters |= [way for way in _WITHOUT_THOUGHTS if way[0] not in self._refused][:1]
        messages = without_system(call.messages) if self._system_refused else call.messages
        if self.extended:
            parameters["repetition_penalty"] = 1.0  # a model's default spoils code, which repeats itself
        begins = call.begins if self.extended and _CONTINUING[0] not in self._refused else ""
        if begins:
            messages = (*messages, Message(role="assistant", content=begins))
            parameters |= dict(zip(_CONTINUING, (True, False), strict=True))
        body: dict[str, Any] = {"messages": [message.model_dump() for message in messages]}
        if call.continued:
            body = {"prompt": call.messages[0].content}
        body |= {k: v for k, v in parameters.items() if v is not None and k not in self._refused}
        return Request(body=body, limit=limit, window=self.window, begins=begins)

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
        if request.begins and any(map(refusal.names, _CONTINUING)):
            self._refused.add(_CONTINUING[0])
            return limit
        quiet = tuple(name for name, _ in _WITHOUT_THOUGHTS)
        named = (
            *quiet,
            "logprobs",
            "structured_outputs",
            "repetition_penalty",
            "seed",
            "temperature",
            self._limit_name,
            "stop",
            "stream_options",
            "stream",
        )
        for parameter in named:
            if refusal.names(parameter) and parameter in sent:
                self._refused.add(parameter)
                return limit
        if _SYSTEM.search(refusal.text) and "messages" in sent:
            self._system_refused = True
            return limit if sent["messages"][0]["role"] == "system" else None
        for parameter in (*quiet, "logprobs", "stop", "user", "seed"):  # strict servers do not always name the field
            if parameter in sent and (refusal.status == 422 or refusal.names(parameter)):
                self._refused.add(parameter)
                return limit
        return None

    def _learn_window(self, refusal: Refusal, request: Request) -> int | None:
        stated = next((m for pattern in _STATED_WINDOW if (m := pattern.search(refusal.text))), None)
        size = int(next(filter(None, stated.groups()))) if stated else 0
        if size and (not self._window or size < self._window):
            self.set_window(size)
        if request.limit >= 512 and "token" in refusal.text:
            return request.limit // 2  # prompt and reply share the window: a shorter reply may fit
        if self.window == request.window and not self._window_known:
            self._window = request.window // 2  # smaller than was assumed, though nobody says how small
        return None

    def learn_full(self, seen: int) -> str:
        """Learn from an answer that ended before its first token, to a prompt of `seen` tokens: what to say of it."""
        if seen < self.window:
            self.set_window(seen)
        return f"the endpoint had no room for a reply: the prompt of {seen:,} tokens is too long for its context window"

    def learn_cut(self, usage: Usage, counted: int, exact: bool) -> str:
        """Learn from an answer to a prompt that the endpoint silently cut: what to say of it, or "" if it did not.

        `counted`: tokens of the messages as counted here; `exact`: by the model's tokenizer, else an estimate. Some
        servers report fewer tokens than a prompt has where a part of it was cached: what they once read, they can read.
        """
        seen = usage.prompt_tokens + usage.cached_tokens
        share = 0.6 if exact else 0.4  # the estimate is up to twice the truth
        if seen < max(_LEAST_WINDOW, self._most_seen) or seen >= share * counted:
            self._most_seen = max(seen, self._most_seen)
            return ""
        self._most_seen = seen
        if seen < self.window:
            self.set_window(seen)
        return f"the endpoint cut the prompt without a word: it read {seen:,} of about {counted:,} tokens"


def check_answer(answer: object) -> None:
    """Raise `AnsweredError` for an answer that is an error, with the status that the body names, else 500."""
    if not isinstance(answer, dict):
        return
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    body = first.get("error") if isinstance(first, dict) else answer.get("error")
    base = answer.get("base_resp")  # MiniMax
    if not first and not body and isinstance(base, dict) and base.get("status_code"):
        body = {"message": base.get("status_msg")}
    if not body and not first and {"message", "detail"} & set(answer):
        body = answer
    if not body:
        return
    fields = body if isinstance(body, dict) else {"message": body}
    named = (str(fields.get(field)) for field in ("code", "status", "status_code"))
    status = next((int(word) for word in named if re.fullmatch(r"[45]\d\d", word)), 0)
    text = " ".join(str(body).split())
    raise AnsweredError(
        Refusal(
            status=status or (400 if "invalid_request" in text else 500),
            text=text,
            message=" ".join(str(fields.get("message") or fields.get("detail") or text).split()),
            parameter=str(fields.get("param") or ""),
            code=str(fields.get("code") or ""),
        )
    )


def asked_to_wait(error: "openai.APIStatusError | AnsweredError") -> float | None:
    """Seconds that a busy endpoint asks for, in a header or in its words; None where it does not say."""
    headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            return max(0.0, float(headers[header]) * unit)
    with contextlib.suppress(KeyError, ValueError, TypeError):
        until = parsedate_to_datetime(headers["retry-after"])
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    said = _WAIT.search(Refusal.of(error).text)
    return float(said[1]) * _UNITS[said[2].lower()[:2].rstrip("e")] if said else None


def without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The system message joined to the first user message, for chat templates without a system role."""
    if not messages or messages[0].role != "system":
        return messages
    first = messages[1].model_copy(update={"content": f"{messages[0].content}\n\n{messages[1].content}"})
    return [first, *messages[2:]]
