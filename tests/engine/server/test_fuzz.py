"""Requests of any shape get an answer or a refusal, never a 500 or no answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core import Core
from engine.loop import EngineLoop
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.server.api import create_app
from kernels.tree_attention.cut import CutCost
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.server.parrot import THINKING, tokenizer_of
from tests.engine.server.serving import serve

FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
NUMBERS = st.one_of(st.floats(0, 2), st.floats(), st.integers(-2, 3), st.none(), ANYTHING)
COMMON = {
    "n": st.one_of(st.integers(-1, 6), ANYTHING),
    "max_tokens": st.one_of(st.integers(-1, 20), st.integers(), ANYTHING),
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "top_k": st.one_of(st.integers(-3, 500), ANYTHING),
    "min_p": NUMBERS,
    "seed": st.one_of(st.integers(), ANYTHING),
    "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=4), ANYTHING),
    "stop_token_ids": st.one_of(st.lists(st.integers(-1, 500), max_size=3), ANYTHING),
    "stream": st.one_of(st.booleans(), ANYTHING),
    "stream_options": st.one_of(st.fixed_dictionaries({"include_usage": st.booleans()}), ANYTHING),
    "presence_penalty": NUMBERS,
    "logit_bias": ANYTHING,
    "user": st.one_of(st.text(max_size=4), ANYTHING),
    "ignore_eos": st.one_of(st.booleans(), ANYTHING),
    "bad_words": st.one_of(st.lists(st.text(max_size=3), max_size=3), ANYTHING),
    "prompt_logprobs": st.one_of(st.integers(-1, 3), ANYTHING),
    "return_token_ids": st.one_of(st.booleans(), ANYTHING),
}
PROMPTS = st.one_of(
    st.text(max_size=30),
    st.lists(st.integers(-1, 400), max_size=10),
    st.lists(st.text(max_size=8), max_size=4),
    st.lists(st.lists(st.integers(0, 383), max_size=5), max_size=4),
    ANYTHING,
)
CONTENT = st.one_of(
    st.text(max_size=20),
    st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)})),
    ANYTHING,
)
MESSAGES = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system", "assistant", "tool", "x", ""]), "content": CONTENT},
            optional={
                "tool_calls": st.one_of(
                    st.lists(
                        st.fixed_dictionaries(
                            {"function": st.fixed_dictionaries({"name": ANYTHING, "arguments": ANYTHING})}
                        )
                    ),
                    ANYTHING,
                ),
                "reasoning_content": ANYTHING,
            },
        ),
        max_size=3,
    ),
    ANYTHING,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.sampled_from("fg")}, optional={"parameters": ANYTHING}),
        }
    ),
    max_size=2,
)
COMPLETIONS = st.fixed_dictionaries(
    {"prompt": PROMPTS},
    optional=COMMON
    | {"logprobs": st.one_of(st.integers(-1, 25), ANYTHING), "echo": st.one_of(st.booleans(), ANYTHING)},
)
CHATS = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional=COMMON
    | {
        "logprobs": ANYTHING,
        "top_logprobs": st.one_of(st.integers(-1, 25), ANYTHING),
        "tools": st.one_of(TOOLS, ANYTHING),
        "tool_choice": st.one_of(st.sampled_from(["auto", "none", "required"]), ANYTHING),
        "parallel_tool_calls": st.one_of(st.booleans(), ANYTHING),
        "continue_final_message": st.booleans(),
        "add_generation_prompt": st.booleans(),
        "chat_template_kwargs": ANYTHING,
        "reasoning_effort": st.one_of(st.sampled_from(["none", "low"]), ANYTHING),
        "include_reasoning": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Core, httpx.Client]]:
    model = copy_into_engine(make_weights(vocab_size=len(tokenizer_of(THINKING).inner)))
    core = Core(model, tokenizer_of(THINKING), 40, Limits(8, prefill_chunk=32), RunOptions(CutCost(0)))
    app = create_app(EngineLoop(core, threads=1), "tiny")
    with serve(app) as url, httpx.Client(base_url=url) as client:
        yield core, client


def check(server: tuple[Core, httpx.Client], path: str, body: Any) -> None:
    import json

    core, client = server
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    if answer.status_code == 200:
        assert "step_failed" not in answer.text
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.text.endswith("data: [DONE]\n\n")
        else:
            assert answer.json()
    else:
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]["message"]
    assert core.stats.failed_steps == 0


@FUZZ
@given(COMPLETIONS)
def test_completions(server: tuple[Core, httpx.Client], body: Any):
    check(server, "/v1/completions", body)


@FUZZ
@given(CHATS)
def test_chat(server: tuple[Core, httpx.Client], body: Any):
    check(server, "/v1/chat/completions", body)


@FUZZ
@given(st.one_of(ANYTHING, st.fixed_dictionaries({}, optional={"prompt": PROMPTS, "messages": MESSAGES})))
def test_tokenize(server: tuple[Core, httpx.Client], body: Any):
    check(server, "/tokenize", body)


def test_the_cache_is_sound_after_all_that(server: tuple[Core, httpx.Client]):
    server[0].scheduler.check_integrity()
    assert not server[0].busy
