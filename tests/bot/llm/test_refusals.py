"""Context overflow and other errors, however an endpoint tells of them, or does not."""

import httpx
import openai
import pytest

from bot.errors import EndpointError
from bot.llm.dialect import asked_to_wait
from bot.records import Message, ModelCall
from tests.bot.llm.asking import ask, greeting, hello, model_for
from tests.scripted_endpoint import scripted_endpoint

pytestmark = pytest.mark.usefixtures("no_waiting")

LLAMA = {
    "code": 500,
    "message": "the request exceeds the available context size, try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 5000,
    "n_ctx": 4096,
}


@pytest.mark.parametrize(
    ("status", "body", "window"),
    [
        (500, {"error": LLAMA}, 4096),
        (500, {"error": {"message": "context length exceeded"}}, 65_536),
        (503, {"error": {"message": "This model's maximum context length is 4096 tokens."}}, 4096),
        (500, {"error": "input length exceeds the context length"}, 65_536),
        (200, {"error": {**LLAMA, "code": 400}}, 4096),
        (200, {"error": {"message": "Prompt is too long: 9001 tokens > 9000 maximum"}}, 9000),
        (200, {"error": {"message": "too long", "code": "context_length_exceeded"}}, 65_536),
        (200, {"error": "This model's maximum context length is 4096 tokens"}, 4096),
        (
            200,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens", "code": 40303},
            4096,
        ),
        (200, {"detail": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}, 4096),
        (200, {"choices": [{"finish_reason": "error", "error": {"message": "context window of 4096 exceeded"}}]}, 4096),
        (
            400,
            {"error": {"message": "The decoder prompt (5000) is longer than the maximum model length of 4096"}},
            4096,
        ),
        (400, {"error": {"message": "input token count exceeds the maximum number of tokens allowed (4096)"}}, 4096),
        (
            400,
            {"error": "input length and `max_tokens` exceed context limit: 3000 + 2000 > 4096, decrease either"},
            4096,
        ),
        (400, {"error": "length of prompt_token_ids (9000) is greater than max_model_len 4096"}, 4096),
        (400, {"error": "Input length (9000 tokens) exceeds the maximum allowed length (4096 tokens)."}, 4096),
        (400, {"error": {"message": "Your request exceeded model token limit: 4096 (requested: 9000)"}}, 4096),
        (422, {"error": "`inputs` must have less than 4096 tokens. Given: 5000", "error_type": "validation"}, 4096),
        (
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": "input tokens exceed the limit of 4096"},
                }
            },
            4096,
        ),
        (400, {"message": "Validation Error: prompt length 9001 exceeds maximum of 4096."}, 4096),
        (400, {"message": "Malformed input request: expected maxLength: 50000, actual: 60000"}, 65_536),
        (400, {"message": "tokens in the prompt cannot exceed 4096 - received 9001."}, 4096),
        (400, {"message": "Please reduce the length. Current length is 9001 while limit is 4096"}, 4096),
        (400, {"detail": "Prompt length 9001 is greater than max_seq_len 4096"}, 4096),
        (400, {"message": "prompt length (9001), max_tokens (99) should not exceed max_num_tokens (4096)"}, 4096),
        (400, {"message": "The prompt length is too long: 9001 > session_len 4096"}, 4096),
        (400, {"detail": {"msg": "prompt too big for context (9001 > 4096)"}}, 4096),
        (200, {"choices": None, "base_resp": {"status_code": 1039, "status_msg": "token limit exceeded"}}, 65_536),
        (400, {"error": {"message": "Range of input length should be [1, 4096]"}}, 4096),
        (500, {"error": "Prompt contains 9000 tokens, too large for model with 4096 maximum context length"}, 4096),
        (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"}, 4096),
        (400, {"error": "the model is loaded with context length of only 4096 tokens: context overflows"}, 4096),
    ],
)
async def test_an_overflow_however_it_is_told(status: int, body: dict[str, object], window: int) -> None:
    with scripted_endpoint(hello, context_window=None) as endpoint:
        endpoint.answer = lambda request: (status, body)
        model = model_for(endpoint)
        reply = await ask(model)
        assert reply.overflowed, reply.text
        assert "too long" in reply.text
        assert len(endpoint.requests) == 1, "asking the same again would not help"
    assert model.context_window == window


async def test_an_error_in_an_answer_of_success() -> None:
    def unwell(request: object) -> tuple[int, object]:
        return 200, {"error": {"message": "the upstream is unwell", "code": 502}}

    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = unwell
        reply = await ask(model_for(endpoint, retries=2))
        assert reply.failed
        assert "gave up after 3 tries: HTTP 502: the upstream is unwell" in reply.text
        endpoint.answer = lambda request: unwell(request) if len(endpoint.requests) < 5 else None
        assert (await ask(model_for(endpoint, retries=2))).text == "hello", "it is asked again"
        endpoint.answer = lambda request: (200, {"error": {"message": "no such key", "code": 401}})
        with pytest.raises(EndpointError, match="refuses the key"):
            await ask(model_for(endpoint))
        endpoint.answer = lambda request: (200, {"error": {"message": "busy", "code": 429}})
        assert "gave up after 7 tries" in (await ask(model_for(endpoint, retries=2))).text


async def test_a_parameter_refused_in_an_answer_of_success() -> None:
    def strict(request: dict[str, object]) -> tuple[int, object] | None:
        said = {"error": {"message": "seed is not supported", "type": "invalid_request_error", "param": "seed"}}
        return (200, said) if "seed" in request else None

    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = strict
        assert (await ask(model_for(endpoint))).text == "hello"


def long_call(tokens: int) -> tuple[Message, ...]:
    return (Message(role="user", content="abcd" * tokens),)


@pytest.mark.parametrize(("tokenize", "tokens"), [(True, 4096), (True, 20_000), (False, 20_000)])
async def test_a_prompt_that_was_silently_cut(tokenize: bool, tokens: int) -> None:
    with scripted_endpoint(hello, context_window=None, tokenize=tokenize) as endpoint:
        endpoint.reads = 2048
        model = model_for(endpoint)
        assert not (await model.reply(greeting())).failed
        call = ModelCall(key="k", messages=long_call(tokens), max_tokens=100, temperature=0)
        reply = await model.reply(call)
        await model.close()
    assert reply.overflowed
    assert "read 2,048 of about" in reply.text
    assert "TROOP_MAIN_CONTEXT_WINDOW" in reply.text
    assert reply.usage.prompt_tokens == 2048
    assert model.context_window == 2048


@pytest.mark.parametrize("tokenize", [True, False])
async def test_a_prompt_that_was_read_is_not_called_cut(tokenize: bool) -> None:
    with scripted_endpoint(hello, tokenize=tokenize) as endpoint:
        model = model_for(endpoint)
        for tokens, reads in ((20_000, None), (6000, None), (20_000, 2048), (900, 100)):
            endpoint.reads = reads  # fewer than it once read: it leaves out those that it had cached
            call = ModelCall(key="k", messages=long_call(tokens), max_tokens=100, temperature=0)
            assert (await model.reply(call)).text == "hello"
        await model.close()
    assert model.context_window == 131_072


async def test_a_reply_without_a_token_says_that_the_prompt_is_too_long() -> None:
    empty = {"choices": [{"message": {"content": ""}, "finish_reason": "length"}], "usage": {"prompt_tokens": 4000}}
    with scripted_endpoint(hello, context_window=None) as endpoint:
        endpoint.answer = lambda request: (200, empty)
        model = model_for(endpoint)
        assert (await ask(model)).overflowed
    assert model.context_window == 4000


@pytest.mark.parametrize(
    ("message", "headers", "seconds"),
    [
        ("busy", {"retry-after": "Sun, 29 Nov 2026 10:00:07 GMT", "date": "Sun, 29 Nov 2026 10:00:00 GMT"}, 7.0),
        ("busy", {"retry-after": "Sun, 29 Nov 2020 10:00:07 GMT"}, 0.0),
        ("busy", {"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ("Rate limit reached. Please try again in 7.66s. Visit", {}, 7.66),
        ("Please retry after 10 seconds.", {}, 10.0),
        ("try again in 250ms", {"retry-after": "soon"}, 0.25),
        ("Please wait for 2 minutes", {}, 120.0),
        ("busy", {}, None),
    ],
)
def test_how_long_an_endpoint_asks_to_wait(message: str, headers: dict[str, str], seconds: float | None) -> None:
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    response = httpx.Response(429, headers=headers, request=request)
    assert asked_to_wait(openai.RateLimitError(message, response=response, body={"message": message})) == seconds
