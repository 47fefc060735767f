"""The HTTP service through the `openai` client, over loopback."""

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
import torch
from openai import OpenAI

from engine.core import Core
from engine.loop import EngineLoop
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request
from engine.server.api import create_app
from kernels.tree_attention.cut import CutCost
from tests.engine.conftest import copy_into_engine
from tests.engine.server.serving import serve
from tests.patience import PATIENCE, until

ON: Any = {"ignore_eos": True}
CHAT: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the quick brown fox " * 4}]


@pytest.fixture(scope="module")
def core(request: pytest.FixtureRequest) -> Core:

    weights = request.getfixturevalue("weights")
    tokenizer = request.getfixturevalue("tokenizer")
    return Core(copy_into_engine(weights), tokenizer, 400, Limits(8, prefill_chunk=64), RunOptions(CutCost(0)))


@pytest.fixture(scope="module")
def address(core: Core) -> Iterator[str]:
    with serve(create_app(EngineLoop(core, threads=1), "tiny")) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        yield client


def test_models_say_how_long_a_prompt_may_be(client: OpenAI):
    (card,) = client.models.list().data
    assert card.id == "tiny"
    assert card.model_dump()["max_model_len"] == 512
    assert card.model_dump()["device"] == "cpu"
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize("hidden", ["", "<|end|>"])
def test_a_prompt_that_is_far_too_long_is_not_tokenised_whole(
    core: Core, client: OpenAI, monkeypatch: pytest.MonkeyPatch, hidden: str
):
    """The tokenizer's thread is everybody's: a few megabytes kept it for a minute."""
    read = 0

    def counted(text: str, special: bool = True) -> list[int]:
        nonlocal read
        read += len(text)
        return encode(text, special)

    encode = core.tokenizer.encode
    monkeypatch.setattr(core.tokenizer, "encode", counted)
    long = hidden + "quick brown " * 500_000
    for ask in (
        lambda: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": long}]),
        lambda: client.completions.create(model="tiny", prompt=long),
        lambda: client.post("../tokenize", body={"prompt": long}, cast_to=httpx.Response),
        lambda: client.post("../detokenize", body={"tokens": [5] * 2000}, cast_to=httpx.Response),
    ):
        with pytest.raises(openai.BadRequestError, match="maximum context length is 512 tokens") as caught:
            ask()
        assert caught.value.code == "context_length_exceeded"
    assert read < len(long) / 10


def test_chat(client: OpenAI):
    answer = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=9, temperature=0, seed=1)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 9
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(model="tiny", messages=CHAT, max_completion_tokens=9, temperature=0)
    assert again.choices[0].message.content == choice.message.content


def test_n_choices_are_distinct_and_each_is_the_single_answer_of_its_seed(client: OpenAI):
    answer = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=12, n=6, seed=50)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert len(set(texts)) == 6
    for index in (0, 3):
        single = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=12, seed=50 + index)
        assert single.choices[0].message.content == texts[index]


def test_cached_tokens(client: OpenAI):
    messages: Any = [{"role": "user", "content": "a prompt that nobody sent before, " + "word " * 20}]
    first = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2, n=3).usage
    assert first is not None
    assert first.prompt_tokens_details is not None
    assert first.prompt_tokens_details.cached_tokens is not None
    assert first.prompt_tokens_details.cached_tokens <= 1  # the template's first token may be known
    second = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2, n=3).usage
    assert second is not None
    assert second.prompt_tokens_details is not None
    assert second.prompt_tokens_details.cached_tokens == second.prompt_tokens == first.prompt_tokens


def test_stop_strings(client: OpenAI):
    whole = client.completions.create(model="tiny", prompt="def add", max_tokens=40, seed=3, extra_body=ON)
    text = whole.choices[0].text
    stop = text[10:13]
    cut = client.completions.create(
        model="tiny",
        prompt="def add",
        max_tokens=40,
        seed=3,
        stop=[stop, "never there"],
        extra_body=ON,
    )
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].text == text[: text.find(stop)]
    assert cut.usage is not None
    assert cut.usage.completion_tokens < 40
    pieces = client.completions.create(
        model="tiny", prompt="def add", max_tokens=40, seed=3, stop=stop, stream=True, extra_body=ON
    )
    assert "".join(piece.choices[0].text for piece in pieces) == cut.choices[0].text


def test_streams_say_the_same_as_whole_answers(client: OpenAI):
    whole = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=20, n=3, seed=8)
    stream = client.chat.completions.create(
        model="tiny", messages=CHAT, max_tokens=20, n=3, seed=8, stream=True, stream_options={"include_usage": True}
    )
    texts, ends, usage = ["", "", ""], {}, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_chat_logprobs(client: OpenAI):
    answer = client.chat.completions.create(
        model="tiny",
        messages=CHAT,
        max_tokens=6,
        logprobs=True,
        top_logprobs=3,
        temperature=0,
        extra_body=ON,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 6
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob  # greedy
        assert entry.bytes is not None
    streamed = client.chat.completions.create(
        model="tiny",
        messages=CHAT,
        max_tokens=6,
        logprobs=True,
        temperature=0,
        stream=True,
        extra_body=ON,
    )
    found = [e.token for c in streamed if c.choices[0].logprobs for e in c.choices[0].logprobs.content or []]
    assert found == [entry.token for entry in logprobs.content]


def test_completions_of_several_prompts_and_token_lists(client: OpenAI):
    answer = client.completions.create(
        model="tiny", prompt=["def add", "the quick"], max_tokens=5, n=2, seed=1, logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset or [])
    tokens = client.post("../tokenize", body={"prompt": "the quick"}, cast_to=httpx.Response).json()["tokens"]
    by_tokens = client.completions.create(model="tiny", prompt=tokens, max_tokens=5, seed=1)
    assert by_tokens.choices[0].text == answer.choices[2].text
    assert client.completions.create(model="tiny", prompt="x", temperature=0, extra_body=ON).usage


def harness_request(client: OpenAI, prompts: list[list[int]]) -> Any:
    """The loglikelihood request of lm-evaluation-harness' `local-completions`, field for field."""
    return client.completions.create(
        model="tiny", prompt=prompts, temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True
    )


def test_echo_scores_the_prompt_as_transformers_does(client: OpenAI, weights: Any, http: httpx.Client):
    prompts = [[5 + (i * 31 + j * 7) % 370 for i in range(20 + 30 * j)] for j in range(3)]
    for _ in range(2):  # the second time all of it is cached, and must be computed anew
        answer = harness_request(client, prompts)
        for choice, prompt in zip(answer.choices, prompts, strict=True):
            with torch.inference_mode():
                truth = torch.log_softmax(weights(torch.tensor([prompt])).logits[0], dim=-1)
            found = choice.logprobs
            assert len(found.tokens) == len(found.token_logprobs) == len(prompt) + 1
            assert found.token_logprobs[0] is None
            assert found.top_logprobs[0] is None
            for place in range(1, len(prompt)):
                row = truth[place - 1]
                assert found.token_logprobs[place] == pytest.approx(row[prompt[place]].item(), abs=1e-3)
                best = max(found.top_logprobs[place].values())
                assert best == pytest.approx(row.max().item(), abs=1e-3)
                # How the harness finds out whether greedy decoding would have said the same.
                greedy = found.tokens[place] == max(found.top_logprobs[place], key=found.top_logprobs[place].get)
                assert greedy == (int(row.argmax()) == prompt[place])
    assert answer.usage.prompt_tokens == sum(map(len, prompts))
    assert answer.usage.completion_tokens == 3


def test_echo_of_text(client: OpenAI):
    text = "the quick brown 東京"
    plain = client.completions.create(model="tiny", prompt=text, max_tokens=5, temperature=0, extra_body=ON)
    both = client.completions.create(
        model="tiny", prompt=text, max_tokens=5, temperature=0, echo=True, n=2, logprobs=0, extra_body=ON
    )
    for choice in both.choices:
        assert choice.text == text + plain.choices[0].text
        assert choice.logprobs is not None
        assert both.usage is not None
        assert len(choice.logprobs.tokens or []) == both.usage.prompt_tokens + 5
    pieces = client.completions.create(
        model="tiny", prompt=text, max_tokens=5, temperature=0, echo=True, stream=True, extra_body=ON
    )
    assert "".join(piece.choices[0].text for piece in pieces) == both.choices[0].text
    only = client.completions.create(model="tiny", prompt=text, max_tokens=0, echo=True, logprobs=1)
    assert only.choices[0].text == text
    assert only.usage is not None
    assert only.usage.completion_tokens == 0
    assert only.choices[0].logprobs is not None
    assert len(only.choices[0].logprobs.tokens or []) == only.usage.prompt_tokens


def test_tokenize_counts_as_the_chat_endpoint_does(client: OpenAI, http: httpx.Client):
    counted = http.post("/tokenize", json={"model": "tiny", "messages": CHAT}).json()
    usage = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=1).usage
    assert usage is not None
    assert counted["count"] == len(counted["tokens"]) == usage.prompt_tokens
    assert http.post("/tokenize", json={"prompt": ""}).json()["count"] == 0
    assert http.post("/tokenize", json={}).status_code == 400


def test_messages_in_parts_are_joined(http: httpx.Client):
    parts = [{"type": "text", "text": "the quick"}, {"type": "text", "text": " brown"}]
    joined = http.post("/tokenize", json={"messages": [{"role": "user", "content": parts}]}).json()
    plain = http.post("/tokenize", json={"messages": [{"role": "user", "content": "the quick brown"}]}).json()
    assert joined == plain


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "x", "max_tokens": 10**6}, "context length"),
    ({"prompt": "word " * 600, "max_tokens": 1}, "context length"),
    ({"prompt": ""}, "empty"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [10**6]}, "vocabulary"),
    ({"prompt": ["a"] * 600, "n": 2}, "choices"),
    ({"prompt": 5}, "prompt: Input should be a valid string or a valid list"),
    ({"prompt": [-1]}, "prompt.0: Input should be greater than or equal to 0"),
    ({"prompt": [1, "a"]}, "prompt.1: Input should be a valid integer"),
    ({"prompt": ["a", 1]}, "prompt.1: Input should be a valid string"),
    ({"prompt": "x", "stop": ["a"] * 33}, "stop: List should have at most 32 items"),
    ({"prompt": "x", "max_tokens": "5"}, "max_tokens: a number is needed"),
    ({"messages": [5]}, "messages.0: Input should be a valid dictionary messages"),
    (
        {"messages": [{"role": "user", "content": 5}]},
        "messages.0.content: Input should be a valid string or a valid list",
    ),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type: Field required"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "a content part of type 'text' has no text"),
    ({"prompt": "x", "temperature": -1}, "temperature"),
    ({"prompt": "x", "top_p": 0}, "top_p"),
    ({"prompt": "x", "n": 0}, "n:"),
    ({"prompt": "x", "stop": [""]}, "stop"),
    ({"prompt": "x", "seed": 10**40}, "seed"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ({"prompt": "x", "user": 5}, "user"),
    ({"prompt": "x", "n": True}, "number"),
    ({"prompt": "x", "seed": "5"}, "number"),
    ({"prompt": "x", "temperature": "0.5"}, "number"),
    ({"prompt": "x", "top_p": True}, "number"),
    ({"prompt": "x", "ignore_eos": "yes"}, "ignore_eos"),
    ({"prompt": "x", "logit_bias": {"5": 101}}, "logit_bias"),
    ({"prompt": "x", "presence_penalty": 2.5}, "presence_penalty"),
    ({"prompt": "a\ud800"}, ""),
    ({"prompt": "x", "model": "other"}, "does not exist"),
    ({"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
    ({"messages": [{"role": "user", "content": "x"}], "top_logprobs": 3}, "logprobs"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "odd": 1}]}]}, "odd"),
    ({"messages": CHAT, "response_format": {"type": "text", "odd": 1}}, "odd"),
    ({"messages": CHAT, "stream": True, "stream_options": {"odd": 1}}, "stream_options"),
    ({"messages": CHAT, "store": 0}, "store"),
    ({"messages": []}, "messages"),
    ({}, "prompt"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED, ids=[str(body)[:40] for body, _ in REFUSED])
def test_wrong_requests_are_refused_in_openais_form(http: httpx.Client, body: dict[str, Any], words: str):
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    answer = http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    assert words in f"{error['message']} {error['param']}"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"prompt": ' + b"9" * 5000 + b"}"]
)
def test_bodies_that_are_no_requests(http: httpx.Client, content: bytes):
    answer = http.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert "message" in answer.json()["error"]


def test_unknown_paths_and_methods_have_openais_form_too(http: httpx.Client):
    for answer in (http.get("/v1/nothing"), http.get("/v1/completions")):
        assert answer.status_code in (404, 405)
        assert "message" in answer.json()["error"]


def test_a_body_too_large_is_refused_before_it_is_read(address: str):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def metric(http: httpx.Client, name: str) -> float:
    for line in http.get("/metrics").text.splitlines():
        if line.startswith(f"troop_engine_{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_health_and_metrics(http: httpx.Client, client: OpenAI):
    assert http.get("/health").json() == {"status": "ok"}
    before = {
        name: metric(http, f"{name}_total") for name in ("tokens_computed", "tokens_cached", "prefix_bytes_saved")
    }
    client.completions.create(model="tiny", prompt="metrics " * 30, max_tokens=8, n=4, extra_body=ON)
    assert metric(http, "tokens_computed_total") > before["tokens_computed"]
    assert metric(http, "tokens_cached_total") > before["tokens_cached"]
    assert metric(http, "prefix_bytes_saved_total") > before["prefix_bytes_saved"]
    assert metric(http, "running") == metric(http, "waiting") == metric(http, "clients") == 0
    assert metric(http, "blocks_free") + metric(http, "blocks_cached") == metric(http, "blocks_total")
    assert metric(http, "step_seconds_count") > 0


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_frees_the_blocks(
    address: str, http: httpx.Client, core: Core, stream: bool, monkeypatch: pytest.MonkeyPatch
):
    body = {"prompt": "a long story", "max_tokens": 480, "n": 8, "ignore_eos": True, "stream": stream}
    forward, abort = core.model.forward, EngineLoop.abort
    steps, told = itertools.count(), threading.Event()

    def held(step: Any) -> torch.Tensor:
        if next(steps) > 10:
            told.wait(PATIENCE)  # that the client is gone
        return forward(step)

    def tell(loop: EngineLoop, request: Request) -> None:
        abort(loop, request)
        told.set()

    monkeypatch.setattr(core.model, "forward", held)
    monkeypatch.setattr(EngineLoop, "abort", tell)

    async def start_and_leave() -> None:
        async with httpx.AsyncClient(base_url=address) as client:
            asking = asyncio.create_task(client.post("/v1/completions", json=body))
            await asyncio.to_thread(until, lambda: metric(http, "running") > 0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    before = metric(http, "tokens_generated_total")
    asyncio.run(start_and_leave())
    until(lambda: metric(http, "running") == 0)
    assert metric(http, "tokens_generated_total") - before < 8 * 480
    assert metric(http, "blocks_free") + metric(http, "blocks_cached") == metric(http, "blocks_total")


def test_many_requests_at_once(address: str, core: Core):
    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
            asks = (
                client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=10, seed=i % 16)
                for i in range(64)
            )
            return await asyncio.gather(*asks)

    answers = asyncio.run(ask_all())
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts[:16] == texts[16:32] == texts[48:]
    core.scheduler.check_integrity()


def test_the_key_is_asked_for_where_one_is_set(make_core: Callable[..., Core]):
    app = create_app(EngineLoop(make_core(), threads=1), "tiny", api_key="secret")
    with serve(app) as url:
        for key, right in (
            ("Bearer secret", True),
            ("Bearer wrong", False),
            ("secret", False),
            ("Bearer sécret", False),
        ):
            headers = {"authorization": key.encode()}
            for path in ("/v1/models", "/tokenize", "/v1/completions", "/v1/chat/completions"):
                body: Any = {"messages": CHAT} if "chat" in path else {"prompt": "x"}
                if "completions" in path:
                    body["max_tokens"] = 1
                answer = httpx.request("GET" if "models" in path else "POST", url + path, json=body, headers=headers)
                assert answer.status_code == (200 if right else 401), path
        assert httpx.get(f"{url}/health").status_code == 200
