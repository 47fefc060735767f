"""Calls that need no thoughts, and replies that are begun for the model."""

import asyncio
import threading
from typing import Any

import pytest

from bot.llm.dialect import Dialect
from tests.bot.llm.asking import HELLO, ask, greeting, hello, model_for
from tests.scripted_endpoint import scripted_endpoint

QUIET = {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}
WAYS = ("chat_template_kwargs", "reasoning_effort")


def ways(requests: list[dict[str, Any]]) -> list[Any]:
    return [{name: request[name] for name in WAYS if name in request} for request in requests]


async def test_thoughts_are_switched_off_where_the_call_needs_none() -> None:
    with scripted_endpoint(hello) as endpoint:
        await ask(model_for(endpoint), thinks=False)
        await ask(model_for(endpoint))
    assert ways(endpoint.requests) == [{"chat_template_kwargs": QUIET}, {}]


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        (["chat_template_kwargs"], [{"chat_template_kwargs": QUIET}, {"reasoning_effort": "low"}]),
        (list(WAYS), [{"chat_template_kwargs": QUIET}, {"reasoning_effort": "low"}, {}]),
    ],
)
async def test_a_way_that_is_refused_is_not_tried_again(refused: list[str], sent: list[Any]) -> None:
    with scripted_endpoint(hello, refuses=refused) as endpoint:
        model = model_for(endpoint)
        assert (await model.reply(greeting(seed=1, thinks=False))).text == "hello"
        assert ways(endpoint.requests) == sent
        assert (await ask(model, thinks=False)).text == "hello"
        assert ways(endpoint.requests) == [*sent, sent[-1]]
        assert endpoint.requests[-1]["seed"] == 7


async def test_a_strict_endpoint_that_names_nothing_is_spared_the_fields_it_may_not_know() -> None:
    def strict(request: dict[str, Any]) -> tuple[int, object] | None:
        return (422, {"error": {"message": "extra fields"}}) if set(WAYS) & set(request) else None

    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = strict
        assert (await ask(model_for(endpoint), thinks=False)).text == "hello"
        assert endpoint.requests[-1]["seed"] == 7


async def test_calls_refused_side_by_side() -> None:
    with scripted_endpoint(hello, refuses=WAYS) as endpoint:
        endpoint.together = threading.Barrier(3)
        model = model_for(endpoint)
        calls = (model.reply(greeting(f"k/{i}", thinks=False)) for i in range(3))
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["hello"] * 3
        await model.close()


@pytest.mark.parametrize(
    ("listed", "offered"),
    [
        ({"continue_final_message": True}, True),
        ({"owned_by": "vllm"}, True),
        ({}, False),
        ({"continue_final_message": "yes"}, False),
    ],
)
async def test_a_reply_is_begun_where_the_endpoint_continues_it(listed: dict[str, object], offered: bool) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.listed = listed
        reply = await ask(model_for(endpoint), begins="<x>\n")
    (request,) = endpoint.requests
    assert reply.text == ("<x>\nhello" if offered else "hello")
    assert (request["messages"][-1] == {"role": "assistant", "content": "<x>\n"}) == offered
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    assert {name: request[name] for name in fields if name in request} == (fields if offered else {})


async def test_the_models_own_penalty_is_switched_off_where_there_may_be_one() -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.listed = {"continue_final_message": True}
        await ask(model_for(endpoint))
        endpoint.refusals["repetition_penalty"] = "Unknown parameter: repetition_penalty"
        assert (await ask(model_for(endpoint))).text == "hello"
        endpoint.listed = {}
        await ask(model_for(endpoint))
    assert [request.get("repetition_penalty") for request in endpoint.requests] == [1.0, 1.0, None, None]


async def test_a_beginning_that_is_refused_is_done_without() -> None:
    with scripted_endpoint(hello, refuses=["continue_final_message"]) as endpoint:
        endpoint.listed = {"continue_final_message": True}
        model = model_for(endpoint)
        assert (await model.reply(greeting(begins="<x>"))).text == "hello"
        assert (await ask(model, begins="<x>")).text == "hello"
        assert ["continue_final_message" in request for request in endpoint.requests] == [True, False, False]
        assert endpoint.requests[-1]["messages"][-1]["role"] == "user"


def test_other_calls_are_sent_as_before() -> None:
    body = Dialect(0, "me").request(greeting(seed=1), 9).body
    assert set(body) == {"messages", "max_tokens", "temperature", "seed", "user"}
    assert body["messages"] == [message.model_dump() for message in HELLO]
