"""Greedy text of models with sliding windows, chunks, soft caps and sinks equals `transformers`' token for token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
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
    core = make_core(other=model, cost=0, prefill_chunk=19)
    assert set(core.model.reaches) == MODELS[name][2]
    check(core, model, prompts(5, 30, 20, seed=3), 8)


@pytest.mark.parametrize("name", ["gemma2-capped", "gpt-oss-sinks", "llama4-chunks"])
def test_preempted_with_drafts(make_core: Callable[..., Core], name: str):
    """Guesses that are right, wrong or both, checked many at once, while the cache is too small for all sequences."""
    model = made(name)
    texts = prompts(6, 16, 20, seed=5)
    known = [generate(model, prompt, 30) for prompt in texts]
    core = make_core(other=model, blocks=20, max_draft=12)
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
    check(make_core(other=model, batch_invariant=True), model, prompts(3, 80, 20, seed=7), 6)


@pytest.mark.parametrize("name", ["gemma2-capped", "gpt-oss-sinks"])
def test_bfloat16_passes_the_gate(make_core: Callable[..., Core], name: str):
    core = make_core(other=made(name), dtype=torch.bfloat16)
    request = greedy(prompts(1, 60, 5)[0], 5)
    core.run([request])
    assert len(request.sequences[0].tokens) == len(request.prompt) + 5
