"""The budget: calls beyond it are refused, and stored replies are counted but never refused."""

import asyncio

import pytest

from bot.journal import MemoryJournal
from bot.llm.budget import AT_ONCE, Budget, CappedModel, MeteredModel
from bot.llm.journaled import JournaledModel
from bot.records import Message, ModelCall, Reply
from tests.scripted import ScriptedModel, estimate

QUESTION = (Message(role="user", content="why?"),)
COST = estimate("why?") + estimate("because")  # tokens of one call


def layered(model: ScriptedModel, journal: MemoryJournal, limit: int) -> tuple[MeteredModel, Budget]:
    budget = Budget(limit)
    return MeteredModel(JournaledModel(CappedModel(model, budget), journal), budget), budget


async def ask(model: MeteredModel, key: str) -> Reply:
    return await model.reply(ModelCall(key=key, messages=QUESTION, max_tokens=9, temperature=0.5))


async def test_without_a_budget_all_is_counted_and_nothing_said() -> None:
    model, budget = layered(ScriptedModel(lambda key, messages: "because"), MemoryJournal(), 0)
    for key in "abc":
        assert not (await ask(model, key)).failed
    assert budget.usage.calls == 3
    assert budget.usage.prompt_tokens + budget.usage.completion_tokens == 3 * COST
    assert budget.notes == ()


async def test_what_is_over_the_budget_is_not_asked_and_said() -> None:
    inner = ScriptedModel(lambda key, messages: "because")
    model, budget = layered(inner, MemoryJournal(), 2 * COST)
    replies = [await ask(model, key) for key in "abcd"]
    assert [reply.failed for reply in replies] == [False, False, True, True]
    assert "TROOP_SOLVER_TOKEN_BUDGET" in replies[2].text
    assert inner.keys == ["a", "b"]
    assert len(budget.notes) == 1
    assert "2 model calls were not made" in budget.notes[0]


async def test_a_resumed_run_counts_replayed_calls_and_refuses_none_of_them() -> None:
    journal = MemoryJournal()
    first, _ = layered(ScriptedModel(lambda key, messages: "because"), journal, 2 * COST)
    for key in "ab":
        await ask(first, key)
    again = ScriptedModel(lambda key, messages: "because")
    resumed, budget = layered(again, journal, COST)  # a smaller budget than was spent
    assert [(await ask(resumed, key)).failed for key in "bac"] == [False, False, True]
    assert again.keys == []
    assert budget.usage.calls == 2


@pytest.mark.parametrize("limit", [0, 1])
async def test_by_how_much_a_run_may_go_over_its_budget(limit: int) -> None:
    inner = ScriptedModel(lambda key, messages: "because")
    model, _ = layered(inner, MemoryJournal(), limit)
    await asyncio.gather(*(ask(model, str(i)) for i in range(3 * AT_ONCE)))
    assert len(inner.calls) == (AT_ONCE if limit else 3 * AT_ONCE)
