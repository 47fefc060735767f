"""Sampling: exact distributions, seeds, independence of the batch, log-probabilities."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.core import Core
from engine.run.sampling import Draw, _likeliest, _parts, logprobs, sample, uniforms
from engine.schedule.sequence import Request, SamplingParams

DRAWS = 20_000


def chi_square_limit(freedom: int) -> float:
    """About the 99.99 % quantile (Wilson and Hilferty's approximation)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


def expected(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The filtered distribution by `transformers`' own warpers."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(MinPLogitsWarper(params.min_p))
    return torch.softmax(warpers(torch.zeros(1, 1, dtype=torch.long), logits[None].clone()), dim=-1)[0]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.4),
        SamplingParams(temperature=2.5, top_p=0.9),
        SamplingParams(temperature=2.0, top_p=0.3),
        SamplingParams(temperature=1.0, top_k=5),
        SamplingParams(temperature=1.5, top_k=12, top_p=0.8),
        SamplingParams(temperature=1.0, min_p=0.2),
        SamplingParams(temperature=1.3, top_k=15, top_p=0.95, min_p=0.05),
    ],
    ids=lambda p: f"t{p.temperature}-p{p.top_p}-k{p.top_k}-m{p.min_p}",
)
def test_distribution_is_that_of_transformers_filters(params: SamplingParams):
    torch.manual_seed(1)
    logits = torch.randn(40) * 2
    tokens = sample(logits.expand(DRAWS, -1), [Draw(params, seed, 0) for seed in range(DRAWS)])
    found = torch.bincount(tokens, minlength=40).double()
    wanted = expected(logits, params).double() * DRAWS
    assert (found[wanted == 0] == 0).all(), "a token outside the kept set was drawn"
    likely = wanted >= 5
    statistic = ((found - wanted)[likely] ** 2 / wanted[likely]).sum().item()
    assert statistic < chi_square_limit(max(1, int(likely.sum()) - 1))


@pytest.mark.parametrize("vocabulary", [1, 15, 16, 17, 255, 256, 257, 4099])
def test_two_levels_draw_what_one_long_sum_draws(vocabulary: int):
    """Every token is met by a uniform number just inside both its borders; the last number of all draws the last token
    that can be drawn.
    """
    torch.manual_seed(vocabulary)
    logits = torch.randn(1, vocabulary) * 3
    logits[:, vocabulary // 2] = -math.inf
    if vocabulary == 1:
        logits[:] = 0.5
    weights = (logits - logits.amax()).exp().double()[0]
    ends = (weights.cumsum(0) / weights.sum()).tolist()
    begins = [0.0, *ends[:-1]]
    cases = [
        (begin + (end - begin) * at, token)
        for token, (begin, end) in enumerate(zip(begins, ends, strict=True))
        for at in (0.01, 0.99)
        if end - begin > 1e-5
    ]
    cases.append((1 - 2**-53, int(weights.nonzero()[-1])))
    with pytest.MonkeyPatch.context() as patch:
        numbers = np.array([uniform for uniform, _ in cases])
        patch.setattr("engine.run.sampling.uniforms", lambda _seeds, positions, _draw: numbers[positions])
        found = sample(logits.expand(len(cases), -1), [Draw(SamplingParams(), 0, case) for case in range(len(cases))])
    assert found.tolist() == [token for _, token in cases]


def test_the_likeliest_are_the_beginning_of_a_stable_sort():
    torch.manual_seed(0)
    probabilities = torch.randint(0, 9, (50, 400)) / 8  # ties everywhere
    probabilities[0] = 0.25
    for count in (1, 7, 25):
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        values, found = _likeliest(probabilities, count)
        assert torch.equal(values, ordered[:, :count])
        assert torch.equal(found, tokens[:, :count])


def test_top_k_of_a_large_vocabulary():
    torch.manual_seed(2)
    logits, draws = torch.randn(400) * 2, 4000
    params = SamplingParams(temperature=1.2, top_k=20, top_p=0.8)
    tokens = sample(logits.expand(draws, -1), [Draw(params, seed, 0) for seed in range(draws)])
    found = torch.bincount(tokens, minlength=400).double()
    wanted = expected(logits, params).double() * draws
    assert found[wanted == 0].sum() == 0
    seen = wanted > 0
    chi_square = ((found - wanted)[seen] ** 2 / wanted[seen]).sum().item()
    assert chi_square < chi_square_limit(max(1, int(seen.sum()) - 1))


def test_equal_probabilities_are_kept_in_order_of_token():
    params = SamplingParams(top_p=0.5)
    tokens = sample(torch.zeros(2000, 8), [Draw(params, seed, 0) for seed in range(2000)])
    assert set(tokens.tolist()) == {0, 1, 2, 3}


def test_uniforms_are_uniform_and_unrelated_between_neighbouring_seeds_and_positions():
    for values in (
        uniforms(range(DRAWS), [0] * DRAWS, 0),
        uniforms([7] * DRAWS, range(DRAWS), 0),
        uniforms([-3] * DRAWS, range(DRAWS), 1),
    ):
        assert values.min() >= 0
        assert values.max() < 1
        cells = np.bincount((values * 50).astype(int), minlength=50)
        assert ((cells - DRAWS / 50) ** 2 / (DRAWS / 50)).sum() < chi_square_limit(49)
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
    assert not np.array_equal(uniforms([1], [0], 0), uniforms([1], [0], 1))


KINDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"top_p": 0.9},
    {"top_k": 5},
    {"top_k": 40, "top_p": 0.8},
    {"min_p": 0.02},
]


@pytest.mark.parametrize("vocabulary", [50, 40_001])
def test_the_same_logits_give_the_same_token_in_any_row_of_any_batch(vocabulary: int):
    """Alone, beside the same and other kinds of rows, first and last."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(24, vocabulary, generator=generator) * 3
    draws = [Draw(SamplingParams(**{"temperature": 0.9} | KINDS[row % 6]), 7 + row // 6, 3) for row in range(24)]
    together = sample(logits, draws)
    assert together[1::6].tolist() == logits[1::6].argmax(-1).tolist()
    batches = [torch.randperm(24, generator=generator)[:count].tolist() for count in (24, 24, 9, 5, 2)]
    batches += [[row] for row in range(24)] + [list(range(kind, 24, 6)) for kind in range(6)]
    for rows in batches:
        assert sample(logits[rows], [draws[row] for row in rows]).tolist() == together[rows].tolist()


@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 100.0])
def test_extreme_temperatures_and_logits_stay_finite(temperature: float):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e30, -1e30, -1e30]])
    tokens = sample(logits, [Draw(SamplingParams(temperature=temperature, top_p=0.9), 1, 0)] * 2)
    assert ((tokens >= 0) & (tokens < 3)).all()
    if temperature < 1:
        assert tokens[0] == 0


def run(core: Core, *requests: Request) -> list[list[list[int]]]:
    core.run(requests)
    return [[sequence.tokens[len(r.prompt) :] for sequence in r.sequences] for r in requests]


def hot(prompt: list[int], seed: int, n: int = 1, **more: Any) -> Request:
    fields = {"temperature": 1.0, "max_tokens": 16, "ignore_eos": True} | more
    return Request(list(prompt), SamplingParams(seed=seed, **fields), n=n)


def test_child_i_is_the_sample_of_seed_plus_i(make_core: Callable[..., Core]):
    prompt = list(range(10, 40))
    (children,) = run(make_core(), hot(prompt, 100, n=5))
    assert len({tuple(child) for child in children}) == 5
    singles = [run(make_core(), hot(prompt, 100 + i))[0][0] for i in range(5)]
    assert children == singles


def test_a_seed_gives_the_same_text_whatever_else_runs(make_core: Callable[..., Core]):
    prompt = list(range(10, 40))
    alone = run(make_core(), hot(prompt, 5, top_p=0.9))[0]
    others = [hot([i, i + 1, *prompt[: i % 20]], i, max_tokens=3 + i % 9, temperature=i / 9) for i in range(4, 20)]
    assert run(make_core(prefill_chunk=9), *others[:8], hot(prompt, 5, top_p=0.9), *others[8:])[8] == alone


def test_a_preempted_sample_continues_as_if_nothing_had_happened(make_core: Callable[..., Core]):
    prompts = [[i, *range(10, 30)] for i in range(4, 10)]
    roomy = run(make_core(), *(hot(prompt, 9, max_tokens=40) for prompt in prompts))
    core = make_core(blocks=20)
    core.scheduler._typical_output = 0.0
    tight = run(core, *(hot(prompt, 9, max_tokens=40) for prompt in prompts))
    assert core.scheduler.counters.preemptions > 0
    assert tight == roomy


def test_logprobs_are_those_of_transformers(make_core: Callable[..., Core], weights: Any):
    request = hot(list(range(10, 40)), 3, logprobs=4, temperature=0.7)
    outputs = make_core().run([request])
    entries = [entry for output in outputs for entry in output.logprobs]
    tokens = request.sequences[0].tokens
    with torch.inference_mode():
        truth = torch.log_softmax(weights(torch.tensor([tokens])).logits[0].float(), dim=-1)
    assert [entry.token for entry in entries] == tokens[30:]
    for place, entry in enumerate(entries):
        row = truth[29 + place]
        assert entry.logprob == pytest.approx(row[entry.token].item(), abs=1e-4)
        values, ids = row.topk(4)
        assert [token for token, _ in entry.top] == ids.tolist()
        assert [value for _, value in entry.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_logprobs_sum_to_one():
    chosen, values, _ = logprobs(torch.randn(3, 30), torch.tensor([1, 2, 3]), 30)
    assert torch.allclose(values.exp().sum(-1), torch.ones(3))
    assert (chosen <= 0).all()


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(top_p=0.9), SamplingParams(min_p=0.1, top_k=9000)])
@pytest.mark.parametrize("rows", [1, 2, 3, 17, 40])
def test_rows_that_go_through_in_parts_are_what_they_are_together(
    monkeypatch: pytest.MonkeyPatch, params: SamplingParams, rows: int
) -> None:
    """On a CPU few rows go through all passes at a time."""
    vocabulary = 10_000
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(rows)) * 3
    draws = [Draw(params, seed, 4) for seed in range(rows)]
    monkeypatch.setattr("engine.run.sampling.RESIDENT", rows * vocabulary)
    together = sample(logits, draws)
    known = logprobs(logits, together, 3)
    for at_once in (1, 5, 16):
        monkeypatch.setattr("engine.run.sampling.RESIDENT", at_once * vocabulary)
        parts = _parts(logits)
        assert len(parts) > 1 or rows < 2 * max(2, at_once)
        assert all(part.stop - part.start > 1 for part in parts) or rows == 1
        assert torch.equal(sample(logits, draws), together)
        for part, whole in zip(logprobs(logits, together, 3), known, strict=True):
            assert torch.equal(part, whole)
