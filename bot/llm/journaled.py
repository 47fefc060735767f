"""A model whose replies are stored in the run's journal, so that a resumed run does not pay for them again."""

from bot.contracts import Journal, Model
from bot.llm.transcript import SHOWN, PromptWriter, digest_of
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
    """Stores replies in the journal and returns a stored one instead of calling. Failed replies are not stored.

    Prompts are stored, too, of the conversations that people are shown.
    """

    def __init__(self, model: Model, journal: Journal) -> None:
        super().__init__(model)
        self._journal = journal
        self._prompts = PromptWriter(journal)

    async def reply(self, call: ModelCall) -> Reply:
        # With the digest, a resumed run that asks something else under the same key is not given the old reply.
        digest = digest_of(call.messages)
        key = f"model/{call.key}/{digest}"
        stored = await self._journal.get(key)
        if stored is not None:
            return Reply.model_validate_json(stored)
        reply = await self._model.reply(call)
        if not reply.failed:
            if call.key.startswith(SHOWN):
                await self._prompts.store(call.messages, digest)
            await self._journal.put(key, reply.model_dump_json())
        return reply
