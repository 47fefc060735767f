"""What a run's model calls cost, and the end of its budget.

`Meter(JournaledModel(Capped(model, purse), journal), purse)`: the meter counts every call, replayed ones included,
since they were paid for in this run; the cap stands below the journal, so that what was paid for is never refused.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from bot.contracts import Model
from bot.llm.journaled import ModelLayer
from bot.records import Message, Reply, Usage

AT_ONCE = 64  # calls under way where there is a budget: by so many a run may go over it


class Purse:
    """What one run has spent, of at most `budget` prompt and completion tokens (0: no limit)."""

    def __init__(self, budget: int = 0) -> None:
        self.usage = Usage()
        self.budget = budget
        self.refused = 0  # calls that were not made
        self.slots = asyncio.Semaphore(AT_ONCE) if budget else contextlib.nullcontext()

    @property
    def spent(self) -> bool:
        return bool(self.budget) and self.usage.prompt_tokens + self.usage.completion_tokens >= self.budget

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report should say of it."""
        if not self.refused:
            return ()
        return (f"{self._words}: the run went on with what it had, and {self.refused:,} model calls were not made",)

    def refusal(self) -> Reply:
        """The reply to a call that is not made; the stages take it for an endpoint that answers no more."""
        self.refused += 1
        return Reply(text=self._words, finish_reason="error")

    @property
    def _words(self) -> str:
        return f"the budget of {self.budget:,} tokens (TROOP_SOLVER_TOKEN_BUDGET) is spent"


class Meter(ModelLayer):
    """Adds up what passes through."""

    def __init__(self, model: Model, purse: Purse) -> None:
        super().__init__(model)
        self._purse = purse

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
        async with self._purse.slots:
            reply = await self._model.reply(
                key, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, grammar=grammar
            )
            self._purse.usage += reply.usage
        return reply


class Capped(ModelLayer):
    """Makes no call once the purse is empty."""

    def __init__(self, model: Model, purse: Purse) -> None:
        super().__init__(model)
        self._purse = purse

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
        if self._purse.spent:
            return self._purse.refusal()
        return await self._model.reply(
            key, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, grammar=grammar
        )
