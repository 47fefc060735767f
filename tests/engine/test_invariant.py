"""Batch-invariant mode: the same bits alone, among 7 and among 64 others, with and without shared prefixes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.sequence import Request, SamplingParams
from tests.engine.conftest import VOCABULARY, make_weights
from tests.engine.test_greedy import check, prompts

Told = list[tuple[list[int], list[Any]]]  # tokens and log-probabilities of each child

PROMPT = [4 + (i * 37) % (VOCABULARY - 4) for i in range(75)]
COLD = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=5)
HOT = SamplingParams(temperature=1.1, top_p=0.9, seed=3, max_tokens=8, ignore_eos=True, logprobs=2)


def tell(core: Core, first: list[Request], others: list[Request]) -> Told:
    """Run requests among others; what those of `first` said, to the last bit."""
    found: dict[tuple[int, int], list[Any]] = {}
    mixed = [*others[: len(others) // 2], *first, *others[len(others) // 2 :]]
    for output in core.run(mixed):
        found.setdefault((id(output.request), output.index), []).extend(output.logprobs)
    core.scheduler.check_integrity()
    return [(s.tokens[len(r.prompt) :], found[id(r), s.index]) for r in first for s in r.sequences]


def asked() -> list[Request]:
    return [Request(list(PROMPT), COLD), Request(list(PROMPT), HOT, n=2)]


def crowd(count: int, shared: bool) -> list[Request]:
    """Others of many lengths, hot and cold; with `shared`, each begins as `PROMPT` does, some past a block's border."""
    rng = random.Random(count)
    texts = []
    for _ in range(count):
        own = [rng.randrange(4, VOCABULARY) for _ in range(rng.randint(1, 60))]
        texts.append([*PROMPT[: rng.randint(1, 75)], *own] if shared else own)
    params = [
        SamplingParams(temperature=rng.choice([0.0, 0.9]), max_tokens=rng.randint(1, 7), seed=i, ignore_eos=True)
        for i in range(count)
    ]
    return [Request(text, one, n=rng.choice([1, 1, 2])) for text, one in zip(texts, params, strict=True)]


MODELS = {
    "llama": ("Llama", torch.float32, {}),
    "llama-bfloat16": ("Llama", torch.bfloat16, {}),
    "qwen3-tied": ("Qwen3", torch.float32, {"tie_word_embeddings": True}),
    "odd-sizes": ("Qwen2", torch.float32, {"hidden_size": 60, "intermediate_size": 101, "head_dim": 12}),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shared", [False, True], ids=["apart", "shared"])
def test_the_same_bits_alone_and_in_a_crowd(make_core: Callable[..., Core], name: str, shared: bool):
    kind, dtype, changes = MODELS[name]
    weights = make_weights(kind, **changes)

    def core(**limits: Any) -> Core:
        return make_core(1200, other=weights, dtype=dtype, batch_invariant=True, **limits)

    alone = tell(core(), asked(), [])
    for count in (7, 64):
        assert tell(core(), asked(), crowd(count, shared)) == alone
    assert tell(core(prefill_chunk=7, max_batch=5), asked(), crowd(7, shared)) == alone, "however it is scheduled"


def test_the_same_bits_with_several_threads(make_core: Callable[..., Core]):
    torch.set_num_threads(3)
    alone = tell(make_core(1200, batch_invariant=True), asked(), [])
    assert tell(make_core(1200, batch_invariant=True), asked(), crowd(7, True)) == alone


def test_the_same_bits_from_the_cache_and_after_preemption(make_core: Callable[..., Core]):
    core = make_core(batch_invariant=True)
    alone = tell(core, asked(), [])
    assert core.scheduler.counters.cached_tokens > 0
    assert tell(core, asked(), []) == alone, "from the cache"
    long = SamplingParams(temperature=1.0, seed=3, max_tokens=30, ignore_eos=True, logprobs=1)
    roomy, tight = make_core(batch_invariant=True), make_core(blocks=22, batch_invariant=True)
    tight.scheduler._typical_output = 0.0
    found = [tell(core, [Request(list(PROMPT), long, n=4)], []) for core in (roomy, tight)]
    assert found[0] == found[1]
    assert tight.scheduler.counters.preemptions > 0


def test_the_usual_mode_does_differ_in_bits(make_core: Callable[..., Core]):
    """Otherwise the tests above would show nothing."""
    alone = tell(make_core(1200), asked(), [])
    crowded = [tell(make_core(1200), asked(), crowd(count, shared)) for count in (7, 20) for shared in (False, True)]
    assert any(found != alone for found in crowded)


def test_greedy_text_is_that_of_transformers(make_core: Callable[..., Core], weights: Any):
    check(make_core(blocks=1200, batch_invariant=True, prefill_chunk=19), weights, prompts(7, 30, 20, seed=3), 8)


@pytest.mark.parametrize("batch_invariant", [False, True], ids=["usual", "invariant"])
def test_prefixes_of_several_pieces(make_core: Callable[..., Core], weights: Any, batch_invariant: bool):
    texts = [PROMPT * 4 + [9, 8, 7], PROMPT * 4 + [5], [6, *PROMPT]]
    check(make_core(blocks=1200, batch_invariant=batch_invariant), weights, texts, 8)


@pytest.mark.parametrize("batch_invariant", [False, True], ids=["usual", "invariant"])
def test_log_probabilities_are_true(make_core: Callable[..., Core], weights: Any, batch_invariant: bool):
    told = tell(make_core(1200, batch_invariant=batch_invariant), asked(), crowd(7, True))
    for tokens, entries in told:
        with torch.inference_mode():
            truth = torch.log_softmax(weights(torch.tensor([PROMPT + tokens])).logits[0].double(), dim=-1)
        for place, entry in enumerate(entries):
            row = truth[len(PROMPT) - 1 + place]
            assert entry.logprob == pytest.approx(row[tokens[place]].item(), abs=1e-4)
            assert [value for _, value in entry.top] == pytest.approx(row.topk(len(entry.top))[0].tolist(), abs=1e-4)
