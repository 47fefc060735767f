"""Answers to plain completions, with their prompts where those are echoed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.schedule.sequence import Request, TokenLogprob
from engine.server.answers import LEAST_LOGPROB, Answer, Choice
from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CompletionOptions:
    """What a request for completions wants of its answer."""

    n: int  # choices per prompt
    logprobs: int | None = None  # alternatives per token; `None`: no log-probabilities at all
    echoed: Sequence[str] | None = None  # texts of the prompts, where they are returned before their completions
    only: bool = False  # no completion is wanted: the one token that was sampled is left out
    tokens: bool = False
    prompt_logprobs: int | None = None


class CompletionForm(Answer):
    """See `Answer`."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def __init__(self, tokenizer: Tokenizer, model: str, options: CompletionOptions) -> None:
        super().__init__(tokenizer, model, options.tokens, options.prompt_logprobs)
        self._options = options
        self._begun: set[int] = set()  # choices that have said something
        self._offsets: dict[int, int] = {}  # characters already reported, by choice

    def choice(self, choice: Choice, requests: Sequence[Request]) -> dict[str, Any]:
        """See `Answer`."""
        request, first = requests[choice.index // self._options.n], choice.index not in self._begun
        self._begun.add(choice.index)
        if first and self._options.echoed is not None:
            self._lead(choice, request, self._options.echoed[choice.index // self._options.n])
        body: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish_reason, "logprobs": None}
        body["text"] = choice.text
        if self._options.logprobs is not None:
            body["logprobs"] = self._legacy(choice)
        if self._tokens:
            body["token_ids"] = [] if self._options.only else choice.tokens
            if first:
                body["prompt_token_ids"] = request.prompt
        if self._prompt_logprobs is not None:
            body["prompt_logprobs"] = list(self._scores(request))
        return body

    def chunks(self, choice: Choice, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """See `Answer`."""
        return [{**self._head, "choices": [self.choice(choice, requests)]}]

    @property
    def long(self) -> bool:
        """See `Answer`."""
        return super().long or self._options.echoed is not None

    def usage(self, requests: Sequence[Request]) -> dict[str, Any]:
        """See `Answer`."""
        found = super().usage(requests)
        if self._options.only:
            found |= {"completion_tokens": 0, "total_tokens": found["prompt_tokens"]}
        return found

    def _lead(self, choice: Choice, request: Request, text: str) -> None:
        """Put the prompt before a choice's first text."""
        choice.text = text + ("" if self._options.only else choice.text)
        if self._options.logprobs is not None:
            top = self._options.logprobs
            first = TokenLogprob(request.prompt[0], math.nan)  # nothing comes before it
            scored = [replace(entry, top=entry.top[:top]) for entry in request.prompt_logprobs]
            choice.logprobs = [first, *scored, *([] if self._options.only else choice.logprobs)]

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
