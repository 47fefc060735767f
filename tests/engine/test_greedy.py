"""Greedy text equals `transformers`' token for token in float32."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.schedule.sequence import Request, SamplingParams
from tests.engine.conftest import VOCABULARY, make_weights


def generate(model: Any, prompt: list[int], length: int) -> list[int]:
    """The text of `transformers`, end tokens ignored."""
    with torch.inference_mode():
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=length,
            min_new_tokens=length,
            do_sample=False,
            eos_token_id=None,
        )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def greedy(prompt: list[int], length: int, n: int = 1) -> Request:
    return Request(list(prompt), SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True), n=n)


def prompts(count: int, shared: int, own: int, seed: int = 0) -> list[list[int]]:
    """Prompts over a tree: all share `shared` tokens, halves share as many again, each has up to `own` of its own."""
    rng = random.Random(seed)

    def some(length: int) -> list[int]:
        return [rng.randrange(4, VOCABULARY) for _ in range(length)]

    root = some(shared)
    halves = [root + some(shared // 2) for _ in range(2)]
    return [halves[i % 2] + some(rng.randint(1, own)) for i in range(count)]


def check(core: Core, model: Any, texts: list[list[int]], length: int) -> None:
    requests = [greedy(prompt, length) for prompt in texts]
    core.run(requests)
    core.scheduler.check_integrity()
    for request in requests:
        assert request.sequences[0].tokens[len(request.prompt) :] == generate(model, request.prompt, length)


def check_at_once(core: Core, model: Any, texts: list[list[int]], length: int) -> None:
    """As `check`, by one forward pass per text: greedy is what is likeliest after each of its tokens."""
    requests = [greedy(prompt, length) for prompt in texts]
    core.run(requests)
    core.scheduler.check_integrity()
    for request in requests:
        tokens = request.sequences[0].tokens
        with torch.inference_mode():
            logits = model(torch.tensor([tokens[:-1]])).logits[0]
        assert tokens[len(request.prompt) :] == logits.argmax(-1)[len(request.prompt) - 1 :].tolist()


SHARING = pytest.mark.parametrize("cost", [0, 10**9], ids=["shared", "not-shared"])


@pytest.mark.parametrize("count", [1, 7, 64])
@SHARING
def test_llama_over_a_tree_of_prompts(make_core: Callable[..., Core], weights: Any, count: int, cost: int):
    check(make_core(blocks=1200, cost=cost), weights, prompts(count, 40, 30), 8)


@pytest.mark.parametrize("chunk", [1, 7, 33])
@SHARING
def test_chunked_prefill(make_core: Callable[..., Core], weights: Any, chunk: int, cost: int):
    check(make_core(prefill_chunk=chunk, cost=cost), weights, prompts(7, 30, 20, seed=1), 8)


@pytest.mark.parametrize("block_size", [1, 5, 16])
def test_block_sizes(make_core: Callable[..., Core], weights: Any, block_size: int):
    check(make_core(blocks=800, block_size=block_size), weights, prompts(7, 30, 20, seed=2), 8)


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral-window-as-long-as-the-context": ("Mistral", {"sliding_window": 512}),
    "llama-tied-one-kv-head": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama-biases-all-kv-heads": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "llama-3-rope": (
        "Llama",
        rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    ),
    "qwen2-yarn": ("Qwen2", rope("yarn", factor=8.0, original_max_position_embeddings=64)),
    "llama-linear-rope": ("Llama", rope("linear", factor=2.0)),
    "llama-dynamic-rope": ("Llama", rope("dynamic", factor=2.0)),
    "llama-longrope-within-its-first-part": (
        "Llama",
        rope(
            "longrope",
            factor=1.0,
            short_factor=[1.0 + i / 4 for i in range(8)],
            long_factor=[2.0] * 8,
            original_max_position_embeddings=512,
        ),
    ),
    "gemma-wide-head": ("Gemma", {"head_dim": 32}),
    "mixtral": ("Mixtral", {"sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm4": ("Glm4", {}),
    "cohere-parallel": ("Cohere", {}),
    "gpt2-learned-positions": ("GPT2", {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 512}),
    "olmo2": ("Olmo2", {}),
    "phi3-merged-by-itself": ("Phi3", {"rms_norm_eps": 1e-6}),
    "gpt-neox": ("GPTNeoX", {"num_key_value_heads": None, "head_dim": None}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("count", [1, 7])
@SHARING
def test_architectures(make_core: Callable[..., Core], name: str, count: int, cost: int):
    kind, changes = ARCHITECTURES[name]
    model = make_weights(kind, **{key: value for key, value in changes.items() if value is not None})
    check(make_core(other=model, cost=cost, prefill_chunk=19), model, prompts(count, 30, 20, seed=3), 8)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "mistral", "llama-tied-one-kv-head", "qwen2-yarn", "mixtral"])
@SHARING
def test_architectures_at_64(make_core: Callable[..., Core], name: str, cost: int):
    kind, changes = ARCHITECTURES[name]
    model = make_weights(kind, **{key: value for key, value in changes.items() if value is not None})
    core = make_core(blocks=1200, other=model, cost=cost, prefill_chunk=150)
    check_at_once(core, model, prompts(64, 30, 20, seed=6), 6)


def test_late_arrivals_join_a_running_batch(make_core: Callable[..., Core], weights: Any):
    core = make_core()
    requests = [greedy(prompt, 12) for prompt in prompts(12, 30, 20, seed=4)]
    for request in requests:
        core.submit(request)
        for _ in range(3):
            core.step()
    core.run([])
    for request in requests:
        assert request.sequences[0].tokens[len(request.prompt) :] == generate(weights, request.prompt, 12)


def test_a_cache_too_small_preempts_and_still_answers_right(make_core: Callable[..., Core], weights: Any):
    core = make_core(blocks=24)
    core.scheduler._typical_output = 0.0  # admit as if answers were short, so that growth must preempt
    requests = [greedy(prompt, 40) for prompt in prompts(8, 16, 20, seed=5)]
    core.run(requests)
    core.scheduler.check_integrity()
    assert core.scheduler.counters.preemptions > 0
    for request in requests:
        assert request.sequences[0].tokens[len(request.prompt) :] == generate(weights, request.prompt, 40)


def test_turns_of_a_conversation_reuse_the_cache(make_core: Callable[..., Core], weights: Any):
    core = make_core()
    history = prompts(1, 40, 5)[0]
    for _turn in range(4):
        before = core.scheduler.counters.computed_tokens
        request = greedy(history, 9)
        core.run([request])
        answer = request.sequences[0].tokens[len(history) :]
        assert answer == generate(weights, history, 9)
        if _turn:
            assert core.scheduler.counters.computed_tokens - before == 4 + 1  # the new words and the last answer token
        history = [*history, *answer, 7, 8, 9, 10]


@SHARING
def test_long_branches_in_zones_of_their_own_over_several_turns(
    make_core: Callable[..., Core], weights: Any, cost: int
):
    """Tails long enough to leave their zones, to be cached, and to be continued where they lie."""
    core = make_core(blocks=1024, cost=cost)
    histories = [[*range(10, 60), branch] for branch in range(70, 75)]
    for length in (30, 50):
        requests = [greedy(history, length) for history in histories]
        core.run(requests)
        core.scheduler.check_integrity()
        histories = [[*request.sequences[0].tokens, 9, 8, 7] for request in requests]
        for request in requests[::2]:
            assert request.sequences[0].tokens[len(request.prompt) :] == generate(weights, request.prompt, length)
