"""Model calls that are remembered: a finished reply is replayed, never paid for again."""

import hashlib
import json
from collections.abc import Sequence

from bot.contracts import Journal, Model
from bot.records import Message, Reply


class ModelLayer:
    """A `Model` over another one; what changes on the way is the `reply`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def context_window(self) -> int:
        return self._model.context_window

    @property
    def on_cpu(self) -> bool:
        return self._model.on_cpu

    async def count_tokens(self, text: str) -> int:
        return await self._model.count_tokens(text)


class JournaledModel(ModelLayer):
    """A `Model` whose finished replies are replayed. One that ended in an error is asked again."""

    def __init__(self, model: Model, journal: Journal) -> None:
        super().__init__(model)
        self._journal = journal

    async def reply(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        # The prompt's hash is part of the key: a resumed run that asks something else is answered anew.
        digest = hashlib.sha256(json.dumps([m.model_dump() for m in messages]).encode()).hexdigest()[:12]
        full_key = f"model/{key}/{digest}"
        stored = await self._journal.get(full_key)
        if stored is not None:
            return Reply.model_validate_json(stored)
        reply = await self._model.reply(
            key, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, grammar=grammar
        )
        if reply.finish_reason != "error":
            await self._journal.put(full_key, reply.model_dump_json())
        return reply
