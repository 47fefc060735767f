"""What the endpoints share: the served model, its key, its tokenizer's thread."""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from fastapi import Request as HttpRequest

from engine.errors import AuthenticationError, RequestError, UnknownModelError
from engine.loop import EngineLoop
from engine.server.metrics import EngineMetrics
from engine.server.protocol import Generation, Message
from engine.text.grammar import Grammars, Guide
from engine.text.tokenizer import Tokenizer

T = TypeVar("T")


class Service:
    """What the endpoints share."""

    def __init__(self, loop: EngineLoop, name: str, api_key: str | None = None) -> None:
        self.loop = loop
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

    async def guide(self, body: Generation) -> Guide | None:
        """The start of the grammar that a request asks for, if any.

        Raises:
            RequestError: the grammar can't be used.
        """
        grammar = body.grammar()
        return None if grammar is None else await self.in_tokenizer(lambda: self.grammars.compile(grammar))

    def close(self) -> None:
        """Stop the engine."""
        self.loop.stop()
        self._tokenizing.shutdown()

    def encode(self, prompt: str | list[int]) -> list[int]:
        """Tokens of one prompt.

        Raises:
            RequestError: it is empty or not valid.
        """
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        if not tokens:
            raise RequestError("the prompt is empty", "prompt")
        self.check_tokens(tokens, "prompt")
        return tokens

    def check_tokens(self, tokens: Sequence[int], field: str) -> None:
        """Refuse tokens that the model does not know.

        Raises:
            RequestError: one is not in the vocabulary.
        """
        limit, largest = self.loop.core.model.vocabulary, max(tokens, default=0)
        if largest >= limit:
            raise RequestError(f"token {largest} is not in the vocabulary of {limit}", field)

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation.

        Raises:
            RequestError: the template refuses it, or it has no tokens.
        """
        tokens = self.tokenizer.chat([message.plain() for message in messages])
        if not tokens:
            raise RequestError("the messages have no text", "messages")
        return tokens
