"""An endpoint that streams though it was not asked to."""

import json

import pytest

from bot.llm.completion import read_completion
from bot.llm.dialect import AnsweredError, check_answer
from bot.llm.event_stream import completion_of
from tests.bot.llm.asking import ask, hello, model_for
from tests.scripted_endpoint import scripted_endpoint


def chunk(delta: dict[str, object] | None, finish: str | None = None, **more: object) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n"


STREAM = (
    chunk({"role": "assistant", "content": ""})
    + ": a comment\n\n"
    + chunk({"reasoning_content": "hm"})
    + "event: message\nid: 3\n"
    + chunk({"content": "<do"})
    + chunk({"content": "ne/>"})
    + chunk({}, "stop")
    + chunk(None, usage={"prompt_tokens": 5, "completion_tokens": 2})
    + "data: [DONE]\n\n"
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_chunks_are_one_completion(end: str) -> None:
    reply = read_completion(completion_of(STREAM.replace("\n", end)), 0.0)
    assert (reply.text, reply.cut_off) == ("<done/>", False)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 2)


def test_a_stream_that_breaks_off_is_no_reply() -> None:
    with pytest.raises(ValueError, match="broke the reply off"):
        read_completion(completion_of(chunk({"content": "<do"})), 0.0)
    with pytest.raises(AnsweredError, match="gone"):
        check_answer(completion_of(chunk({"content": "<do"}) + 'data: {"error": {"message": "gone"}}\n'))
    assert completion_of("<html>data: none</html>") == "<html>data: none</html>"


async def test_over_http() -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = lambda body: (200, STREAM.encode())
        assert (await ask(model_for(endpoint))).text == "<done/>"
