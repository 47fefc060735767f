"""Answers as OpenAI's API defines them, from the engine's outputs: whole objects and stream chunks, for chat and for
completions.
"""

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from engine.sequence import Output, Request, TokenLogprob
from engine.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI reports for minus infinity, which JSON cannot carry


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


class Choice:
    """One choice as it grows."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: str | None = None

    def add(self, output: Output) -> None:
        """Take over what a step added."""
        self.text += output.text
        self.logprobs.extend(output.logprobs)
        self.finish_reason = output.finish_reason or self.finish_reason


class Answer:
    """Form of the answer to one HTTP request: `chat` or plain completion."""

    def __init__(self, tokenizer: Tokenizer, model: str, chat: bool, logprobs: bool) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._logprobs = logprobs
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
        return {**self._head, "choices": [self._choice(choice) for choice in choices], "usage": usage(requests)}

    def chunk(self, choice: Choice, first: bool = False) -> dict[str, Any]:
        """A chunk of a stream: what `choice` holds is what is new. `first` opens a chat choice."""
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
        return {**self._head, "object": kind, "choices": [], "usage": usage(requests)}

    def _choice(self, choice: Choice) -> dict[str, Any]:
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
            tops.append({**top, self._name(entry.token): max(entry.logprob, LEAST_LOGPROB)})
        return {
            "tokens": tokens,
            "token_logprobs": [max(entry.logprob, LEAST_LOGPROB) for entry in choice.logprobs],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _name(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")
