"""Answers as OpenAI's API defines them, from the engine's outputs: what chat and plain completions share."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

from engine.schedule.sequence import Output, Request, TokenLogprob
from engine.server.long_json import write_json
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
        self.tokens: list[int] = []  # where the request wants them
        self.finish_reason: str | None = None

    def add(self, output: Output) -> None:
        """Add a step's output."""
        self.text += output.text
        self.logprobs.extend(output.logprobs)
        self.tokens.extend(output.tokens)
        self.finish_reason = output.finish_reason or self.finish_reason


class Answer(ABC):
    """Form of the answer to one HTTP request."""

    kind: str  # of the object
    chunk_kind: str
    prefix: str  # of its identifier

    def __init__(
        self, tokenizer: Tokenizer, model: str, tokens: bool = False, prompt_logprobs: int | None = None
    ) -> None:
        """
        Args:
            tokenizer: of the model.
            model: its name.
            tokens: whether token ids are returned.
            prompt_logprobs: alternatives reported for each token of the prompt; `None`: nothing.
        """
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._prompt_logprobs = prompt_logprobs
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "object": self.kind,
            "created": int(time.time()),
            "model": model,
        }

    def written(self, choices: Iterable[Choice], requests: Sequence[Request]) -> Iterator[str]:
        """The complete object in JSON, in parts: whole, it would be millions of objects, which keep the collector."""
        yield write_json({**self._head, "usage": self.usage(requests)}).removesuffix("}")
        for name, items in self.lists(choices, requests):
            yield f',"{name}":['
            for place, item in enumerate(items):
                yield f"{',' if place else ''}{write_json(item)}"
            yield "]"
        yield "}"

    def lists(self, choices: Iterable[Choice], requests: Sequence[Request]) -> Iterator[tuple[str, Iterable[Any]]]:
        """The lists of the complete object, by their names."""
        yield "choices", (self.choice(choice, requests) for choice in choices)

    def last_chunk(self, requests: Sequence[Request]) -> dict[str, Any]:
        """The chunk without choices that carries the usage."""
        return {**self._head, "object": self.chunk_kind, "choices": [], "usage": self.usage(requests)}

    def usage(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Token counts."""
        return usage(requests)

    @property
    def long(self) -> bool:
        """Whether a part of a stream may hold a whole prompt's tokens."""
        return self._tokens

    @abstractmethod
    def choice(self, choice: Choice, requests: Sequence[Request]) -> dict[str, Any]:
        """A complete choice."""

    @abstractmethod
    def chunks(self, choice: Choice, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Chunks of a stream for a choice, which holds only what is new."""

    def _scores(self, request: Request) -> Iterator[dict[str, Any] | None]:
        """Log-probabilities of a prompt in vLLM's form: of each token and of the likeliest, by their numbers."""
        yield None
        for entry in request.prompt_logprobs:
            top = entry.top[: self._prompt_logprobs]
            ranked = {token: (logprob, rank) for rank, (token, logprob) in enumerate(top, 1)}
            ranked = {entry.token: (entry.logprob, entry.rank)} | ranked
            yield {
                str(token): {
                    "logprob": max(logprob, LEAST_LOGPROB),
                    "rank": rank,
                    "decoded_token": self._tokenizer.token_bytes(token).decode("utf-8", "replace"),
                }
                for token, (logprob, rank) in ranked.items()
            }
