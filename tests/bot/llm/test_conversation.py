"""A conversation: how long its replies may be."""

import pytest

from bot.llm.conversation import OVERHEAD, Conversation, Sampling
from bot.records import FinishReason, Message, Reply
from tests.scripted import ScriptedModel, estimate


@pytest.mark.parametrize(("grows", "limits"), [(True, [100, 200, 400, 500, 500]), (False, [100] * 5)])
async def test_a_reply_that_was_cut_off_is_followed_by_longer_ones(grows: bool, limits: list[int]) -> None:
    model = ScriptedModel(lambda key, messages: Reply(text="", finish_reason=FinishReason.LENGTH), context_window=1000)
    opening = [Message(role="user", content="go")]
    conversation = Conversation(model, "k", opening, Sampling(seed=0, max_tokens=100, temperature=0, grows=grows))
    for _ in limits:
        assert (await conversation.ask()).cut_off
        conversation.say("again")
    assert [call.max_tokens for call in model.calls] == limits


async def test_a_longer_reply_costs_no_earlier_turn() -> None:
    model = ScriptedModel(
        lambda key, messages: Reply(text="x" * 800, finish_reason=FinishReason.LENGTH), context_window=600
    )
    opening = [Message(role="user", content="go")]
    conversation = Conversation(model, "k", opening, Sampling(seed=0, max_tokens=100, temperature=0))
    await conversation.ask()
    conversation.say("again")
    await conversation.ask()
    assert len(model.calls[-1].messages) == 3
    assert model.calls[-1].max_tokens == 200
    conversation.say("again")
    await conversation.ask()
    last = model.calls[-1]
    assert len(last.messages) == 5
    assert last.max_tokens == 600 - sum(estimate(m.content) + OVERHEAD for m in last.messages)  # what is left
