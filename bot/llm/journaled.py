"""A model whose replies are stored in the run's journal, so that a resumed run does not pay for them again."""

import hashlib
import json

from bot.contracts import Journal, Model
from bot.records import ModelCall, Reply


class ModelLayer:
    """Base of models that wrap another one; subclasses define `reply`."""

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
    """Stores replies in the journal and returns a stored one instead of calling. Failed replies are not stored."""

    def __init__(self, model: Model, journal: Journal) -> None:
        super().__init__(model)
        self._journal = journal

    async def reply(self, call: ModelCall) -> Reply:
        # With the digest, a resumed run that asks something else under the same key is not given the old reply.
        digest = hashlib.sha256(json.dumps([m.model_dump() for m in call.messages]).encode()).hexdigest()[:12]
        key = f"model/{call.key}/{digest}"
        stored = await self._journal.get(key)
        if stored is not None:
            return Reply.model_validate_json(stored)
        reply = await self._model.reply(call)
        if not reply.failed:
            await self._journal.put(key, reply.model_dump_json())
        return reply
