"""Which fields of a request are taken, and the endpoints in vLLM's form."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params as chat_params

from engine.core import Core
from engine.loop import EngineLoop
from engine.schedule.limits import Limits
from engine.server.api import create_app
from engine.server.protocol import ChatRequest, CompletionRequest
from tests.engine.conftest import copy_into_engine
from tests.engine.server.serving import serve
from tests.patience import PATIENCE

CHAT: Any = [{"role": "user", "content": "the quick brown fox"}]


@pytest.fixture(scope="module")
def http(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    model = copy_into_engine(request.getfixturevalue("weights"))
    core = Core(model, request.getfixturevalue("tokenizer"), 100, Limits(8, prefill_chunk=64))
    with (
        serve(create_app(EngineLoop(core, threads=1), "tiny")) as url,
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
    ):
        yield client


def test_tokens_and_text_in_vllms_form(http: httpx.Client):
    answer = http.post("/tokenize", json={"prompt": "the quick", "return_token_strs": True}).json()
    assert len(answer["token_strs"]) == answer["count"]
    assert "".join(answer["token_strs"]).replace("\u0120", " ") == "the quick"
    assert http.post("/tokenize", json={"prompt": "x"}).json()["token_strs"] is None
    assert http.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": "the quick"}
    assert http.post("/detokenize", json={"tokens": [0]}).json() == {"prompt": "<|end|>"}
    assert http.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}
    for body, words in (
        ({"tokens": [10**6]}, "vocabulary"),
        ({"tokens": [-1]}, "tokens"),
        ({"tokens": [1], "model": "other"}, "does not exist"),
        ({"tokens": [1], "skip": 1}, "skip"),
    ):
        refused = http.post("/detokenize", json=body)
        assert refused.status_code in (400, 404)
        assert words in refused.json()["error"]["message"]
    for body in (
        {"prompt": "x", "other": 1},
        {"messages": CHAT, "chat_template": "x"},
        {"prompt": "x", "continue_final_message": True},
    ):
        refused = http.post("/tokenize", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, list(body)[1])


def test_version_and_health_without_a_body(http: httpx.Client):
    assert set(http.get("/version").json()) == {"version"}
    answer = http.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")


PATHS = {"/v1/chat/completions": {"messages": CHAT, "max_tokens": 1}, "/v1/completions": {"prompt": "x"}}
NEUTRAL = [
    (path, name, value)
    for path, model in (("/v1/chat/completions", ChatRequest), ("/v1/completions", CompletionRequest))
    for name, values in model.neutral.items()
    for value in (None, *values)
]


@pytest.mark.parametrize("path", PATHS)
def test_what_asks_for_nothing_is_accepted(http: httpx.Client, path: str):
    plain = http.post(path, json=PATHS[path] | {"temperature": 0}).json()
    for place, name, value in NEUTRAL:
        if place == path:
            answer = http.post(path, json=PATHS[path] | {"temperature": 0, name: value})
            assert answer.status_code == 200, (name, value, answer.text)
            assert answer.json()["choices"] == plain["choices"]
    known = {"metadata": {"a": "b"}, "user": "me", "safety_identifier": "x", "prompt_cache_key": "y", "n": None}
    answer = http.post(path, json=PATHS[path] | known | {"temperature": 0, "stream_options": None, "stop": None})
    assert answer.json()["choices"] == plain["choices"]


@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_implemented_or_unknown_is_refused_by_its_name(http: httpx.Client, path: str):
    names = sorted({name for place, name, _ in NEUTRAL if place == path} | {"temprature", "top_a"})
    for name in names:
        answer = http.post(path, json=PATHS[path] | {name: {"asks": "for something"}})
        assert answer.status_code == 400, name
        assert answer.json()["error"]["param"] == name
        assert name in answer.json()["error"]["message"]


@pytest.mark.parametrize("field", [{"function_call": {"name": "f", "arguments": "{}"}}, {"audio": {"id": "x"}}])
def test_fields_of_messages_that_no_template_knows_are_refused(http: httpx.Client, field: dict[str, Any]):
    said = {"role": "assistant", "content": "so"}
    answer = http.post("/v1/chat/completions", json={"messages": [*CHAT, said | field], "max_tokens": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert next(iter(field)) in answer.json()["error"]["message"]
    nothing = said | dict.fromkeys(field) | {"refusal": None, "annotations": []}
    assert http.post("/v1/chat/completions", json={"messages": [*CHAT, nothing], "max_tokens": 1}).status_code == 200


def test_a_body_of_another_type_is_told(http: httpx.Client):
    for type_, content in (("text/plain", b"{}"), ("application/json", b"[]")):
        answer = http.post("/v1/completions", content=content, headers={"content-type": type_})
        assert answer.status_code == 400
        assert "no JSON object: send one, as application/json" in answer.json()["error"]["message"]


def test_every_field_of_the_openai_package_is_known():
    for params, model in (
        (chat_params.CompletionCreateParamsBase, ChatRequest),
        (completion_params.CompletionCreateParamsBase, CompletionRequest),
    ):
        assert set(params.__annotations__) <= {*model.model_fields, *model.neutral}


def test_biases_and_least_tokens(http: httpx.Client):
    body = {"prompt": "the", "max_tokens": 9, "temperature": 1, "logit_bias": {"0": 100, "70": 60}}
    plain = http.post("/v1/completions", json=body).json()
    assert (plain["choices"][0]["finish_reason"], plain["usage"]["completion_tokens"]) == ("stop", 1)
    longer = http.post("/v1/completions", json=body | {"min_tokens": 5, "logprobs": 0}).json()
    assert (longer["choices"][0]["finish_reason"], longer["usage"]["completion_tokens"]) == ("stop", 6)
    assert len(set(longer["choices"][0]["logprobs"]["tokens"][:5])) == 1
    for penalty in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 100}):
        less = http.post("/v1/completions", json=body | {"min_tokens": 9, "logit_bias": {"70": 19}} | penalty)
        assert less.status_code == 200


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"min_tokens": 17}, "min_tokens"),
        ({"min_tokens": 2, "structured_outputs": {"choice": ["a"]}}, "min_tokens"),
        ({"logit_bias": {"384": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"05": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": "1"}}, "logit_bias"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
    ],
)
def test_adjustments_that_are_refused(http: httpx.Client, fields: dict[str, Any], name: str):
    answer = http.post("/v1/completions", json={"prompt": "x"} | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
