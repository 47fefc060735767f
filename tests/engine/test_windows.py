"""Greedy text of models with sliding windows, chunks, soft caps and sinks equals `transformers`' token for token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.model.cache_shape import CacheSize
from engine.server.metrics import EngineMetrics
from engine.warmup import warm_up
from kernels.tree_attention.reach import FULL, Reach
from tests.engine.conftest import make_weights
from tests.engine.speculate.test_speculator import Oracle
from tests.engine.test_greedy import check, generate, greedy, prompts

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MODELS: dict[str, tuple[str, dict[str, Any], set[Reach]]] = {
    "mistral": ("Mistral", {"sliding_window": 13}, {Reach(window=13)}),
    "qwen2-some-layers": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
        {FULL, Reach(window=20)},
    ),
    "gemma2-capped": ("Gemma2", {"attn_logit_softcapping": 5.0, "sliding_window": 24}, {FULL, Reach(window=24)}),
    "gemma3": (
        "Gemma3Text",
        {"sliding_window": 17, "layer_types": ["sliding_attention", "full_attention"]},
        {FULL, Reach(window=17)},
    ),
    "gpt-oss-sinks": ("GptOss", {"sliding_window": 9, **EXPERTS}, {FULL, Reach(window=9)}),
    "llama4-chunks": (
        "Llama4Text",
        {"attention_chunk_size": 16, "layer_types": ["chunked_attention", "full_attention"], **EXPERTS},
        {FULL, Reach(chunk=16)},
    ),
}


def made(name: str) -> Any:
    kind, changes, _ = MODELS[name]
    return make_weights(kind, attention="eager", **changes)  # torch's fused attention has neither caps nor sinks


@pytest.mark.parametrize("name", MODELS)
def test_over_a_tree_in_chunks(make_core: Callable[..., Core], name: str):
    model = made(name)
    core = make_core(other=model, cost=0, prefill_chunk=19, windows=(14,))
    assert set(core.model.reaches) == MODELS[name][2]
    check(core, model, prompts(5, 30, 20, seed=3), 8)
    core.scheduler.check_integrity()
    assert [cache.shape[3] for cache in core.model.window_caches] == [14 * 8]


@pytest.mark.parametrize("name", ["gemma2-capped", "gpt-oss-sinks", "llama4-chunks"])
def test_preempted_with_drafts(make_core: Callable[..., Core], name: str):
    """Guesses that are right, wrong or both, checked many at once, while the cache is too small for all sequences."""
    model = made(name)
    texts = prompts(6, 16, 20, seed=5)
    known = [generate(model, prompt, 30) for prompt in texts]
    core = make_core(other=model, blocks=20, max_draft=12, windows=(12,))
    core.scheduler._typical_output = 0.0  # admit as if answers were short, so that growth must preempt
    requests = [greedy(prompt, 30) for prompt in texts]
    coming = {(hash(tuple(prompt)), 0): answer for prompt, answer in zip(texts, known, strict=True)}
    core.scheduler._drafts._drafter = Oracle(coming, 9, 6, seed=6)
    core.run(requests)
    assert [request.sequences[0].tokens[len(request.prompt) :] for request in requests] == known
    counters = core.scheduler.counters
    assert counters.preemptions > 0
    assert 0 < counters.accepted_tokens < counters.drafted_tokens


@pytest.mark.parametrize("name", ["mistral", "gpt-oss-sinks"])
def test_batch_invariant(make_core: Callable[..., Core], name: str):
    model = made(name)
    check(make_core(other=model, batch_invariant=True, windows=(14,)), model, prompts(3, 80, 20, seed=7), 6)


@pytest.mark.parametrize("name", ["mistral", "gemma3", "llama4-chunks"])
def test_conversations_and_samples_go_on_where_the_window_is_kept(make_core: Callable[..., Core], name: str):
    """In a pool that is too small for all tokens of one text."""
    model = made(name)
    core = make_core(other=model, prefill_chunk=32, max_batch=3, windows=(20,))
    history = prompts(1, 180, 5)[0]
    for turn in range(3):
        before = core.scheduler.counters.computed_tokens
        requests = [greedy(history, 30, n=7)]
        core.run(requests)
        core.scheduler.check_integrity()
        computed = core.scheduler.counters.computed_tokens - before
        assert computed <= (len(history) if turn == 0 else 4 + 1)
        answers = {tuple(sequence.tokens) for sequence in requests[0].sequences}
        assert answers == {tuple(history + generate(model, history, 30))}
        history = [*answers.pop(), 7, 8, 9, 10]
    assert core.scheduler.counters.preemptions == 0


@pytest.mark.parametrize("name", ["gemma2-capped", "gpt-oss-sinks"])
def test_bfloat16_passes_the_gate(make_core: Callable[..., Core], name: str):
    core = make_core(other=made(name), dtype=torch.bfloat16)
    request = greedy(prompts(1, 60, 5)[0], 5)
    core.run([request])
    assert len(request.sequences[0].tokens) == len(request.prompt) + 5


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_what_is_not_finite_is_cleaned_out_of_the_windows(make_core: Callable[..., Core], name: str):
    model = made(name)
    core = make_core(other=model, windows=(14,))
    text = prompts(1, 30, 5)[0]
    check(core, model, [text], 4)
    for cache in core.model.window_caches:
        cache.fill_(torch.nan)
    core.submit(greedy([*text, 5, 6], 4))
    assert any(output.error for _ in range(3) for output in core.step())
    core.scheduler.check_integrity()
    check(core, model, [text], 4)


def test_metrics_say_what_windows_hold(make_core: Callable[..., Core]):
    core = make_core(other=made("gemma3"), windows=(14,))
    core.submit(greedy(prompts(1, 40, 5)[0], 4))
    core.step()
    lines = EngineMetrics(core).render().decode().splitlines()
    assert 'troop_engine_window_blocks_total{window="17"} 14.0' in lines
    (used,) = [line for line in lines if line.startswith("troop_engine_window_blocks_used{")]
    assert 3 <= float(used.split()[-1]) <= 9
    assert 'troop_engine_window_token_bytes{window="17"} 256.0' in lines


def test_the_largest_step_is_tried_in_a_small_pool(make_core: Callable[..., Core]):
    core = make_core(other=made("gemma3"), windows=(14,), max_batch=6)
    warm_up(core)
    (pool,) = core.scheduler.windows.pools
    assert (pool.where < 0).all()
    assert core.model.cache_bytes == core.model.shape.memory(CacheSize(200, (14,)), 8)
