"""The token budget of a run: counts what its model calls use, and refuses calls once it is spent.

The layers are `MeteredModel(JournaledModel(CappedModel(model, budget), journal), budget)`. The meter counts replayed
replies too, since this run paid for them; the cap is below the journal, so a stored reply is never refused.
"""

import asyncio
import contextlib

from bot.contracts import Model
from bot.lifecycle import RunState
from bot.llm.journaled import ModelLayer
from bot.records import FinishReason, ModelCall, Reply, Usage

_STAGES = {  # by the first part of a call's key
    "examination": RunState.CONTEXT,
    "listing": RunState.CONTEXT,
    "relevance": RunState.CONTEXT,
    "ranking": RunState.CONTEXT,
    "trajectory": RunState.TRAJECTORIES,
    "selection": RunState.SELECTION,
}
AT_ONCE = 64  # concurrent calls of a run with a budget; it may exceed the budget by the tokens of so many calls


class Budget:
    """The tokens that one run has used, prompt and completion, of at most `limit` (0: no limit)."""

    def __init__(self, limit: int = 0) -> None:
        self.by_stage: dict[str, Usage] = {}
        self.limit = limit
        self.refused = 0  # calls
        self.slots = asyncio.Semaphore(AT_ONCE) if limit else contextlib.nullcontext()

    @property
    def usage(self) -> Usage:
        """Of all stages."""
        return sum(self.by_stage.values(), Usage())

    def add(self, key: str, usage: Usage) -> None:
        """Count what the call with that key used."""
        first = key.partition("/")[0]
        stage = _STAGES.get(first, first)
        self.by_stage[stage] = self.by_stage.get(stage, Usage()) + usage

    @property
    def spent(self) -> bool:
        return bool(self.limit) and self.usage.prompt_tokens + self.usage.completion_tokens >= self.limit

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report should say of it."""
        if not self.refused:
            return ()
        return (f"{self._words}: {self.refused:,} model calls were not made",)

    def refuse(self) -> Reply:
        """Count a refused call; the failed reply to it."""
        self.refused += 1
        return Reply(text=self._words, finish_reason=FinishReason.ERROR)

    @property
    def _words(self) -> str:
        return f"the budget of {self.limit:,} tokens (TROOP_SOLVER_TOKEN_BUDGET) is spent"


class MeteredModel(ModelLayer):
    """Adds the usage of every reply to the budget's."""

    def __init__(self, model: Model, budget: Budget) -> None:
        super().__init__(model)
        self._budget = budget

    async def reply(self, call: ModelCall) -> Reply:
        async with self._budget.slots:
            reply = await self._model.reply(call)
            self._budget.add(call.key, reply.usage)
        return reply


class CappedModel(ModelLayer):
    """Refuses calls once the budget is spent."""

    def __init__(self, model: Model, budget: Budget) -> None:
        super().__init__(model)
        self._budget = budget

    async def reply(self, call: ModelCall) -> Reply:
        return self._budget.refuse() if self._budget.spent else await self._model.reply(call)
