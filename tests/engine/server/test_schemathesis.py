"""An OpenAPI fuzzer on our own schema, over HTTP: no 500, no hang, and every answer is what the schema says."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks as openapi

from engine.core import Core
from engine.loop import EngineLoop
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.server.api import create_app
from engine.server.body import MAX_BODY
from kernels.tree_attention.cut import CutCost
from tests.engine.conftest import copy_into_engine
from tests.engine.server.serving import serve
from tests.patience import PATIENCE

EXAMPLES = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
# Not: whether what the schema allows is accepted. It can't say that a prompt fits the cache, or that only 0 is served.
CHECKS = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
    openapi.allow_header_conformance,
    openapi.negative_data_rejection,
]
CHOICES = 3  # of a request at most, so that an example costs milliseconds


@pytest.fixture(scope="module")
def core(request: pytest.FixtureRequest) -> Core:
    model = copy_into_engine(request.getfixturevalue("weights"))
    return Core(model, request.getfixturevalue("tokenizer"), 12, Limits(8, prefill_chunk=32), RunOptions(CutCost(0)))


@pytest.fixture(scope="module")
def api_schema(core: Core) -> Iterator[Any]:
    with serve(create_app(EngineLoop(core, threads=1), "tiny")) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


OPERATIONS = [
    "GET /health",
    "GET /metrics",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /version",
    "HEAD /health",
    "POST /detokenize",
    "POST /tokenize",
    "POST /v1/chat/completions",
    "POST /v1/completions",
]


POSTS = [label for label in OPERATIONS if label.startswith("POST")]
# Where more tokens are wanted than allowed, or ones that do not exist; what the template has no place for; a part that
# needs another.
REFUSED = ["min_tokens", "logit_bias", "bad_words", "tools", "tool_choice", "reasoning_effort", "chat_template_kwargs"]
REFUSED += ["continue_final_message", "add_generation_prompt", "prompt_logprobs", "top_logprobs"]
WISHES = ["response_format", "structured_outputs"]  # texts that are mostly no grammar


def ask(schema: Any, core: Core, label: str, mode: GenerationMode, examples: int, spare: tuple[str, ...] = ()) -> int:
    """Ask for `label` in many ways, without the fields in `spare`; return how often there was an answer."""
    method, path = label.split()
    answered = 0

    @settings(EXAMPLES, max_examples=examples)
    @given(schema[path][method].as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        nonlocal answered
        if isinstance(case.body, dict):
            for name in spare:
                case.body.pop(name, None)
            if isinstance(case.body.get("n"), int | float):
                case.body["n"] = min(case.body["n"], CHOICES)
        answer = case.call(timeout=PATIENCE)
        case.validate_response(answer, checks=CHECKS)
        assert core.stats.failed_steps == 0
        answered += answer.status_code == 200

    one()
    return answered


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_schema_allows(api_schema: Any, core: Core, label: str):
    examples = (
        40 if label == "POST /tokenize" else 15 if label in POSTS else 5
    )  # most have prompt and messages, or neither
    answered = ask(api_schema, core, label, GenerationMode.POSITIVE, examples, ("model", *REFUSED, *WISHES))
    assert answered or label == "GET /v1/models/{model}"


@pytest.mark.parametrize("label", POSTS)
def test_fields_that_the_engine_refuses(api_schema: Any, core: Core, label: str):
    ask(api_schema, core, label, GenerationMode.POSITIVE, 10)


@pytest.mark.parametrize("label", POSTS)
def test_what_the_schema_forbids(api_schema: Any, core: Core, label: str):
    assert not ask(api_schema, core, label, GenerationMode.NEGATIVE, 20)


def test_every_operation_is_asked(api_schema: Any):
    assert sorted(found.ok().label for found in api_schema.get_all_operations()) == OPERATIONS


# -- what no schema speaks of ------------------------------------------------------------------------------------------

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(api_schema: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_schema.get_base_url(), timeout=PATIENCE) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/completions", "POST"), ("PUT", "/health", "GET, HEAD")]
)
def test_another_method_is_told_which_is_allowed(client: httpx.Client, method: str, path: str, allowed: str):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


BODIES = {
    "not-json": (b"{", "not valid JSON"),
    "not-text": (b'{"prompt": "\xff"}', "UTF-8"),
    "nothing": (b"", "body"),
    "null": (b"null", "body"),
    "endless-lists": (b"[" * 200_000, "nested too deeply"),
    "endless-number": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "digits"),
    "endless-object": (b'{"prompt": "a"' + b"".join(b', "a%d": 1' % i for i in range(10_000)) + b"}", "10001 fields"),
    "half-a-character": (b'{"prompt": "\\ud800"}', "not valid Unicode"),
    "not-a-number": (b'{"prompt": "a", "temperature": NaN}', "finite"),
}


@pytest.mark.parametrize("name", BODIES)
def test_odd_bodies(client: httpx.Client, name: str):
    body, words = BODIES[name]
    answer = client.post("/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("depth", [500, 900, 5000])
def test_a_message_nested_deeply(client: httpx.Client, depth: int):
    """It is answered or refused, by the parser or by the template: how deep is too deep differs between Pythons."""
    more = b"[" * depth + b"]" * depth
    body = b'{"messages": [{"role": "user", "content": "x", "more": ' + more + b'}], "max_tokens": 1}'
    answer = client.post("/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 200 or (answer.status_code == 400 and answer.json()["error"]["message"])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_long(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, chunked: bool):
    body = b" " * (MAX_BODY + 1)
    content = (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20)) if chunked else body
    try:
        answer = client.post("/v1/completions", content=content, headers=JSON)
    except (httpx.WriteError, httpx.ReadError):  # it was refused before all of it was sent
        assert client.get("/health").status_code == 200
    else:
        assert answer.status_code == 413
        assert "more than" in answer.json()["error"]["message"]
