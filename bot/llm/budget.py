"""The budget of a run, in tokens and in money: counts what its model calls use, and refuses calls once it is spent.

The layers are `MeteredModel(JournaledModel(CappedModel(model, budget), journal), budget)`, both ends with the model's
price. The meter counts replayed replies too, since this run paid for them; the cap is below the journal, so a stored
reply is never refused.
"""

import asyncio
import contextlib

from bot.contracts import Model
from bot.lifecycle import RunState
from bot.llm.journaled import ModelLayer
from bot.records import FinishReason, ModelCall, Price, Reply, Usage
from bot.settings import SpendingSettings

_STAGES = {  # by the first part of a call's key
    "examination": RunState.CONTEXT,
    "listing": RunState.CONTEXT,
    "relevance": RunState.CONTEXT,
    "ranking": RunState.CONTEXT,
    "trajectory": RunState.TRAJECTORIES,
    "selection": RunState.SELECTION,
}
AT_ONCE = 64  # concurrent calls of a run with a budget; it may exceed the budget by the tokens of so many calls


class Allowance:
    """What a run may spend in money, and what its calls have cost. It may change while the run goes on."""

    def __init__(self, limit: float | None = None, why: str = "", spent: float = 0.0) -> None:
        self.limit = limit  # None: as much as it wants
        self.why = why  # which cap that is: `the cap of 5.00 USD a run`
        self.spent = spent  # by calls that were made, those of earlier attempts included

    @classmethod
    def of(cls, settings: SpendingSettings) -> "Allowance":
        """Of a run that is alone: by the cap of a run."""
        own = next((cap for cap in settings.caps if cap.window == "run"), None)
        return cls() if own is None else cls(own.amount, own.words)

    @property
    def exhausted(self) -> bool:
        return self.limit is not None and self.spent >= self.limit


class Budget:
    """The tokens that one run has used, prompt and completion, of at most `limit` (0: no limit), and their cost."""

    def __init__(self, limit: int = 0, allowance: Allowance | None = None) -> None:
        self.by_stage: dict[str, Usage] = {}
        self.limit = limit
        self.allowance = allowance or Allowance()
        self.refused = 0  # calls
        limited = limit or self.allowance.limit is not None
        self.slots = asyncio.Semaphore(AT_ONCE) if limited else contextlib.nullcontext()

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
        return self.allowance.exhausted or self._tokens_spent

    @property
    def _tokens_spent(self) -> bool:
        return bool(self.limit) and self.usage.prompt_tokens + self.usage.completion_tokens >= self.limit

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report should say of it."""
        if not self.refused:
            return ()
        return (f"{self.words}: {self.refused:,} model calls were not made",)

    def refuse(self) -> Reply:
        """Count a refused call; the failed reply to it."""
        self.refused += 1
        return Reply(text=self.words, finish_reason=FinishReason.ERROR)

    @property
    def words(self) -> str:
        """Why calls are refused."""
        if self.allowance.exhausted and not self._tokens_spent:
            return f"{self.allowance.why} is reached"
        return f"the budget of {self.limit:,} tokens (TROOP_SOLVER_TOKEN_BUDGET) is spent"


class _PricedModel(ModelLayer):
    def __init__(self, model: Model, budget: Budget, price: Price | None = None) -> None:
        super().__init__(model)
        self._budget = budget
        self._price = price


class MeteredModel(_PricedModel):
    """Adds the usage of every reply, and its cost, to the budget's."""

    async def reply(self, call: ModelCall) -> Reply:
        async with self._budget.slots:
            reply = await self._model.reply(call)
            cost = {"cost": self._price.of(reply.usage)} if self._price else {}
            self._budget.add(call.key, reply.usage.model_copy(update=cost))
        return reply


class CappedModel(_PricedModel):
    """Refuses calls once the budget is spent, and counts what those that are made cost."""

    async def reply(self, call: ModelCall) -> Reply:
        if self._budget.spent:
            return self._budget.refuse()
        reply = await self._model.reply(call)
        if self._price:
            self._budget.allowance.spent += self._price.of(reply.usage)
        return reply
