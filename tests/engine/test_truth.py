"""Numbers against `transformers`: log-probabilities in bfloat16 and float32, and what is sampled over many samples."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.schedule.sequence import Request, SamplingParams
from tests.engine.conftest import make_weights
from tests.engine.run.test_sampling import chi_square_limit, expected
from tests.engine.test_greedy import prompts

# Largest and mean difference of log-probabilities between the engine and `transformers`, both in bfloat16: it keeps 8
# bits, and the logits of these random models spread over some 20, so two orders of summing differ by tenths.
LARGEST, MEAN = 1.0, 0.15
# Against float32 the engine may err as much as `transformers` in bfloat16 does, and this much more for chance.
FACTOR = 1.25


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("cost", [0, 10**9], ids=["shared", "not-shared"])
def test_log_probabilities_in_bfloat16(make_core: Callable[..., Core], kind: str, cost: int):
    weights = make_weights(kind, seed=4)
    rounded = copy.deepcopy(weights).to(torch.bfloat16)
    core = make_core(600, other=weights, cost=cost, dtype=torch.bfloat16)
    params = [SamplingParams(max_tokens=8, seed=i, ignore_eos=True, logprobs=0, prompt_logprobs=0) for i in range(7)]
    requests = [Request(text, one) for text, one in zip(prompts(7, 40, 30, seed=2), params, strict=True)]
    outputs = core.run(requests)
    told = {id(request): list(request.prompt_logprobs) for request in requests}
    for output in outputs:
        told[id(output.request)].extend(output.logprobs)
    found = torch.tensor([entry.logprob for request in requests for entry in told[id(request)]])
    same, exact = (
        torch.cat([truth(model, request.sequences[0].tokens) for request in requests]) for model in (rounded, weights)
    )
    assert (found - same).abs().max() < LARGEST
    assert (found - same).abs().mean() < MEAN
    assert (found - exact).abs().mean() < FACTOR * (same - exact).abs().mean()


def truth(model: Any, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities of all tokens but the first by `transformers`."""
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0].float()
    return torch.log_softmax(logits, dim=-1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.25),
        SamplingParams(temperature=0.4, top_p=0.8),
        SamplingParams(temperature=0.5, top_k=7),
    ],
    ids=["plain", "top-p", "top-k"],
)
def test_two_sampled_tokens_follow_the_models_distribution(
    make_core: Callable[..., Core], weights: Any, params: SamplingParams
):
    """Through the whole engine: pairs of tokens against the product of both steps' exact, filtered probabilities."""
    samples, prompt = 2000, list(range(10, 50))
    core = make_core(blocks=1200, max_batch=500, max_waiting=samples)
    request = Request(prompt, replace(params, max_tokens=2, seed=11, ignore_eos=True), n=samples)
    core.run([request])
    pairs = torch.tensor([sequence.tokens[-2:] for sequence in request.sequences])
    with torch.inference_mode():
        first = expected(weights(torch.tensor([prompt])).logits[0, -1], params).double()
        likely = first.topk(12).indices
        rows = torch.cat([torch.tensor([prompt]).expand(12, -1), likely[:, None]], dim=1)
        second = torch.stack([expected(row, params).double() for row in weights(rows).logits[:, -1]])
    wanted = first[likely, None] * second * samples  # [12, vocabulary]
    counts = torch.stack([torch.bincount(pairs[pairs[:, 0] == token, 1], minlength=first.numel()) for token in likely])
    assert (counts.double()[wanted == 0] == 0).all(), "a pair outside the kept sets was drawn"
    cells = wanted >= 5
    found, hoped = counts[cells].double(), wanted[cells]
    rest = (samples - found.sum(), samples - hoped.sum())
    assert cells.sum() >= 15, "the test would show little"
    statistic = ((found - hoped) ** 2 / hoped).sum() + (rest[0] - rest[1]) ** 2 / rest[1].clamp_min(5)
    assert statistic < chi_square_limit(int(cells.sum()))
