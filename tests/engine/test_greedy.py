"""Greedy text equals `transformers`' token for token in float32: the engine's first promise."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.sequence import Request, SamplingParams
from tests.engine.conftest import VOCABULARY


def generate(model: Any, prompt: list[int], length: int) -> list[int]:
    """What `transformers` says, end tokens ignored."""
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


@pytest.mark.parametrize("count", [1, 7, 64])
@pytest.mark.parametrize("cost", [0, 10**9], ids=["shared", "not-shared"])
def test_llama_over_a_tree_of_prompts(make_core: Callable[..., Core], weights: Any, count: int, cost: int):
    check(make_core(blocks=1200, cost=cost), weights, prompts(count, 40, 30), 8)
