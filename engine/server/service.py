"""What the endpoints share: the served model, its key, its tokenizer's thread."""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from fastapi import Request as HttpRequest

from engine.errors import AuthenticationError, ContextLengthError, RequestError, UnknownModelError
from engine.loop import EngineLoop
from engine.server.conversation import Conversation
from engine.server.metrics import EngineMetrics
from engine.server.protocol import usable_defaults
from engine.server.replies import ReplyForms
from engine.text.chat_template import Prompt
from engine.text.grammar import Grammars
from engine.text.tokenizer import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Serving:
    """What an operator chooses about requests and replies."""

    tool_parser: str = "auto"  # a `ToolFormatName`, `none`, or `auto`: by the chat template
    reasoning_parser: str = "auto"  # a `ThoughtFormatName`, `none`, or `auto`
    model_defaults: bool = True  # whether the sampling defaults of `generation_config.json` apply
    cors_origins: tuple[str, ...] = ()  # from which web pages may send requests; `*`: any


class Service:
    """What the endpoints share."""

    def __init__(self, loop: EngineLoop, name: str, api_key: str | None = None, serving: Serving | None = None) -> None:
        serving = serving or Serving()
        self.loop = loop
        self.defaults = usable_defaults(loop.core.model.defaults) if serving.model_defaults else {}
        self.replies = ReplyForms(loop.core.tokenizer, serving.tool_parser, serving.reasoning_parser)
        self.name = name
        self.metrics = EngineMetrics(loop.core)
        self._key = api_key
        # One thread: the tokenizer is fast, and waiting for it must not block the event loop.
        # It compiles grammars too.
        self._tokenizing = ThreadPoolExecutor(1, "tokenizer")

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the served model."""
        return self.loop.core.tokenizer

    def authorize(self, request: HttpRequest) -> None:
        """Check the bearer key, where one is set.

        Raises:
            AuthenticationError: it is missing or wrong.
        """
        if self._key is None:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {self._key}".encode()):
            raise AuthenticationError("incorrect API key: send it as 'Authorization: Bearer KEY'")

    def check_model(self, model: str | None) -> None:
        """Refuse requests for another model.

        Raises:
            UnknownModelError: it is not the one served here.
        """
        if model is not None and model != self.name:
            raise UnknownModelError(f"the model {model!r} does not exist; this engine serves {self.name!r}", "model")

    async def in_tokenizer(self, work: Callable[[], T]) -> T:
        """Run `work` in the tokenizer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    @cached_property
    def grammars(self) -> Grammars:
        """Of the served model; only the tokenizer's thread may use them."""
        core = self.loop.core
        return Grammars(core.tokenizer, core.model.vocabulary, core.model.end_tokens)

    def close(self) -> None:
        """Stop the engine."""
        self.loop.stop()
        self._tokenizing.shutdown()

    def encode(self, prompt: str | list[int] | None) -> list[int]:
        """Tokens of one prompt; of none: the token that begins or separates texts.

        Raises:
            RequestError: it is empty or not valid.
        """
        if prompt is None:
            start = next(
                (one for one in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if one is not None), None
            )
            tokens = [] if start is None else [start]
        elif isinstance(prompt, str):
            self.tokenizer.check_length(prompt, self.loop.core.max_model_len)
            tokens = self.tokenizer.encode(prompt)
        else:
            tokens = prompt
        if not tokens:
            raise RequestError("the prompt is empty", "prompt")
        self.check_tokens(tokens, "prompt")
        return tokens

    def check_tokens(self, tokens: Sequence[int], field: str) -> None:
        """Refuse tokens that the model does not know.

        Raises:
            ContextLengthError: they are far more than any text has.
            RequestError: one is not in the vocabulary.
        """
        longest = self.loop.core.max_model_len
        if len(tokens) > 2 * longest:
            raise ContextLengthError(
                f"{len(tokens)} tokens are given, and this model's maximum context length is {longest} tokens", field
            )
        limit, largest = self.loop.core.model.vocabulary, max(tokens, default=0)
        if largest >= limit:
            raise RequestError(f"token {largest} is not in the vocabulary of {limit}", field)

    def prompt(self, body: Conversation) -> Prompt:
        """The prompt of a conversation.

        Raises:
            RequestError: the template refuses it, or it has no tokens.
        """
        prompt = self.tokenizer.chat(body.chat(self.tokenizer.template), self.loop.core.max_model_len)
        if not prompt.tokens:
            raise RequestError("the messages have no text", "messages")
        return prompt

    def bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Tokens of each word, as it begins a text and as it follows a blank."""
        found: dict[tuple[int, ...], None] = {}
        for word in words:
            for text in (word, f" {word.lstrip()}"):
                found[tuple(self.tokenizer.encode(text, special=False))] = None
        return tuple(tokens for tokens in found if tokens)
