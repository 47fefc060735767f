"""Answers as OpenAI's API defines them, from the engine's outputs: whole objects and stream chunks, for chat and for
completions.
"""

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from engine.schedule.sequence import Output, Request, TokenLogprob
from engine.text.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI reports for minus infinity, which JSON cannot express


def usage(requests: Sequence[Request]) -> dict[str, Any]:
    """Token counts of one HTTP request. A prompt counts once however many choices it has."""
    prompt = sum(len(request.prompt) for request in requests)
    completion = sum(request.completion_tokens for request in requests)
    cached = sum(request.cached_tokens or 0 for request in requests)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def installed_version() -> str:
    """Of the installed package; 0 where the code runs from a folder."""
    try:
        return metadata.version("troop-bot")
    except metadata.PackageNotFoundError:
        return "0"


class Choice:
    """One choice as it grows."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: str | None = None

    def add(self, output: Output) -> None:
        """Add a step's output."""
        self.text += output.text
        self.logprobs.extend(output.logprobs)
        self.finish_reason = output.finish_reason or self.finish_reason


@dataclass(frozen=True)
class Echo:
    """Prompts that are returned before their completions, with log-probabilities where `logprobs` is set."""

    requests: Sequence[Request]
    texts: Sequence[str]  # of their prompts
    n: int  # choices per request
    logprobs: bool
    only: bool  # no completion is wanted: the one token that was sampled is left out

    def lead(self, choice: Choice) -> None:
        """Put the prompt before a choice's text. Call it once the choice has its first token."""
        request = self.requests[choice.index // self.n]
        choice.text = self.texts[choice.index // self.n] + ("" if self.only else choice.text)
        if self.logprobs:
            first = TokenLogprob(request.prompt[0], math.nan)  # nothing comes before it
            choice.logprobs = [first, *request.prompt_logprobs, *([] if self.only else choice.logprobs)]


class Answer:
    """Form of the answer to one HTTP request: `chat` or plain completion."""

    def __init__(self, tokenizer: Tokenizer, model: str, chat: bool, logprobs: bool, echo: Echo | None = None) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._logprobs = logprobs
        self._echo = echo
        self._begun: set[int] = set()  # choices whose prompt was echoed
        self._offsets: dict[int, int] = {}  # characters already reported, by choice
        kind = "chat.completion" if chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: Iterable[Choice], requests: Sequence[Request]) -> dict[str, Any]:
        """The complete object."""
        return {**self._head, "choices": [self._choice(choice) for choice in choices], "usage": self._usage(requests)}

    def chunk(self, choice: Choice, first: bool = False) -> dict[str, Any]:
        """A chunk of a stream; `choice` holds only what is new. `first` opens a chat choice."""
        if not self._chat:
            return {**self._head, "choices": [self._choice(choice)]}
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if choice.text:
            delta["content"] = choice.text
        body = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": choice.finish_reason}
        if self._logprobs and not first:
            body["logprobs"] = {"content": [self._entry(entry) for entry in choice.logprobs]}
        return {**self._head, "object": "chat.completion.chunk", "choices": [body]}

    def last_chunk(self, requests: Sequence[Request]) -> dict[str, Any]:
        """The chunk without choices that carries the usage."""
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": [], "usage": self._usage(requests)}

    def _usage(self, requests: Sequence[Request]) -> dict[str, Any]:
        found = usage(requests)
        if self._echo and self._echo.only:
            found |= {"completion_tokens": 0, "total_tokens": found["prompt_tokens"]}
        return found

    def _choice(self, choice: Choice) -> dict[str, Any]:
        if self._echo and choice.index not in self._begun:
            self._begun.add(choice.index)
            self._echo.lead(choice)
        body: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish_reason, "logprobs": None}
        if self._chat:
            body["message"] = {"role": "assistant", "content": choice.text, "refusal": None}
            if self._logprobs:
                body["logprobs"] = {"content": [self._entry(entry) for entry in choice.logprobs], "refusal": None}
        else:
            body["text"] = choice.text
            if self._logprobs:
                body["logprobs"] = self._legacy(choice)
        return body

    def _entry(self, entry: TokenLogprob) -> dict[str, Any]:
        top = [self._token(token, logprob) for token, logprob in entry.top]
        return {**self._token(entry.token, entry.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._tokenizer.token_bytes(token)
        return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(raw)}

    def _legacy(self, choice: Choice) -> dict[str, Any]:
        """The parallel lists of `/v1/completions`. Offsets count characters of the tokens' own texts."""
        tokens = [self._name(entry.token) for entry in choice.logprobs]
        offset = self._offsets.get(choice.index, 0)
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        self._offsets[choice.index] = offset
        tops = []
        for entry in choice.logprobs:
            top = {self._name(token): max(value, LEAST_LOGPROB) for token, value in entry.top}
            own = {self._name(entry.token): max(entry.logprob, LEAST_LOGPROB)}
            tops.append(None if math.isnan(entry.logprob) else top | own)
        return {
            "tokens": tokens,
            "token_logprobs": [
                None if math.isnan(entry.logprob) else max(entry.logprob, LEAST_LOGPROB) for entry in choice.logprobs
            ],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _name(self, token: int) -> str:
        """A token's text; its bytes as OpenAI writes them if they are not valid text; else its number. Two tokens must
        not share a name, because clients look tokens up by it.
        """
        raw = self._tokenizer.token_bytes(token)
        if not raw:
            return f"token_id:{token}"
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
