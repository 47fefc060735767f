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


async def in_a_full_window(window: int) -> tuple[Conversation, ScriptedModel]:
    """Four turns: what a look found, an edit, a reply that could not be used, and another edit; then a question."""
    replies = iter(["look", "first edit", "nonsense", "second edit", "third edit"])
    model = ScriptedModel(lambda key, messages: next(replies) + " " * 400, context_window=window)
    opening = [Message(role="user", content="go")]
    conversation = Conversation(model, "k", opening, Sampling(seed=0, max_tokens=100, temperature=0))
    await conversation.ask()
    conversation.say("found")
    conversation.keep()
    for answer, refuses in (("ran", False), ("can't be read", True), ("ran again", False)):
        await conversation.ask()
        conversation.say(answer, refuses=refuses)
    await conversation.ask()
    return conversation, model


@pytest.mark.parametrize(
    ("turns_left_out", "kept"),
    [
        (0, ["look", "first", "nonsense", "second"]),
        (1, ["look", "first", "second"]),
        (2, ["look", "second"]),
        (3, ["second"]),
    ],
)
async def test_turns_that_no_longer_matter_are_left_out_first(turns_left_out: int, kept: list[str]) -> None:
    whole, _ = await in_a_full_window(10_000)
    sizes = [estimate(message.content) + OVERHEAD for message in whole.messages[:-1]]
    turn = sizes[1] + sizes[2]
    conversation, model = await in_a_full_window(sum(sizes) + 100 - turns_left_out * turn + turn // 2)
    last = model.calls[-1].messages
    assert [message.content.split()[0] for message in last if message.role == "assistant"] == kept
    assert last[-1].content.endswith("ran again")
    assert (f"{turns_left_out} earlier turns" in last[-1].content) == (turns_left_out > 0)
    assert len(conversation.messages) == 10  # nothing is forgotten
