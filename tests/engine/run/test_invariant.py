"""Batch-invariant mode: the same bits alone, among 7 and among 64 others, with and without shared prefixes."""

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Core
from engine.model.attention import LayerCall
from engine.model.backends import Score
from engine.model.cache_shape import CacheShape
from engine.run import invariant
from engine.run.invariant import ROWS, TileContext, sample_alike
from engine.run.sampling import Draw, logprobs
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from kernels.attention.reference import plain
from tests.engine.conftest import VOCABULARY, make_weights
from tests.engine.kinds.tiny import LATENT
from tests.engine.test_greedy import check, prompts

Told = list[tuple[list[int], list[Any]]]  # tokens and log-probabilities of each child

PROMPT = [4 + (i * 37) % (VOCABULARY - 4) for i in range(75)]
COLD = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=5)
HOT = SamplingParams(temperature=1.1, top_p=0.9, seed=3, max_tokens=8, ignore_eos=True, logprobs=2)


def tell(core: Core, first: list[Request], others: list[Request]) -> Told:
    """Run requests among others; returns the outputs of those of `first`, to the last bit."""
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
    "experts": ("Mixtral", torch.float32, {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "latents": ("Youtu", torch.float32, LATENT),
    "latents-bfloat16": ("Youtu", torch.bfloat16, LATENT),
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


@pytest.mark.parametrize("threads", [2, 3])
def test_the_same_bits_with_several_threads(make_core: Callable[..., Core], threads: int):
    """At every place of a tile. Wide enough that torch's threads share its gates: three would do so within a row."""
    torch.set_num_threads(threads)
    core = make_core(1200, other=make_weights(intermediate_size=1100), batch_invariant=True)
    alone = tell(core, [Request(list(PROMPT), COLD)], [])
    core.reset()
    assert tell(core, [Request(list(PROMPT), COLD, n=ROWS)], []) == alone * ROWS
    assert torch.get_num_threads() == threads


def test_the_same_bits_in_any_interleaving(make_core: Callable[..., Core]):
    core = make_core(1200, batch_invariant=True)
    alone = tell(core, asked(), [])

    @given(st.data())
    @settings(max_examples=6, deadline=None)
    def holds(data: st.DataObject) -> None:
        size = data.draw(st.sampled_from([4, 8, 16]), "block size")
        core.limits = Limits(size, data.draw(st.integers(1, 70), "batch"), data.draw(st.integers(1, 90), "chunk"))
        core.resize(data.draw(st.integers(26 * 16, 1200 * 8), "tokens") // size)
        coming = crowd(data.draw(st.integers(0, 25), "others"), data.draw(st.booleans(), "shared"))
        requests = asked()
        for request in requests:
            coming.insert(data.draw(st.integers(0, len(coming)), "place"), request)
        found: dict[tuple[int, int], list[Any]] = {}
        while coming or core.busy:
            for _ in range(data.draw(st.integers(0 if core.busy else 1, 6), "arriving")):
                if coming:
                    core.check(coming[-1])
                    core.submit(coming.pop())
            for output in core.step():
                assert output.error is None
                found.setdefault((id(output.request), output.index), []).extend(output.logprobs)
        told = [(s.tokens[len(r.prompt) :], found[id(r), s.index]) for r in requests for s in r.sequences]
        assert told == alone

    with mock.patch.multiple(invariant, SHORT=16, LONG=2):
        core.reset()
        alone = tell(core, asked(), [])
        holds()


# -- attention of one tile --------------------------------------------------------------------------------------------

SHAPES = [(4, 4, 16), (4, 2, 32), (7, 1, 64), (12, 4, 12), (1, 1, 8), (40, 2, 128)]  # heads, kv_heads, head_dim


@st.composite
def tiles(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int, int]]]:
    """Block size, and for up to `ROWS` rows: tokens of the trunk, of which branch how many more, tokens of its own."""
    size = draw(st.sampled_from([1, 8, 16, 24]))
    tokens = st.integers(0, 90)
    row = st.tuples(tokens, st.integers(0, 2), tokens, st.integers(1, 40))
    rows = [one for one in draw(st.lists(row, min_size=1, max_size=12)) for _ in range(draw(st.integers(1, 20)))]
    return size, draw(st.permutations(rows[:ROWS]))


@given(tiles(), st.sampled_from(SHAPES), st.sampled_from([torch.float32, torch.bfloat16]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_row_attends_alike_alone_and_in_a_tile(tile: Any, shape: Any, dtype: torch.dtype, row_by_row: bool):
    """Without `row_by_row` as on other devices than the CPU."""
    size, rows = tile
    heads, kv_heads, dim = shape
    blocks = 4 * 100 // size + len(rows) * (40 // size + 2)
    trunk, *branches = [list(range(number * (100 // size), (number + 1) * (100 // size))) for number in range(4)]
    tables, positions, fresh = [], [], iter(range(4 * 100 // size, blocks))
    for first, branch, second, own in rows:
        shared = trunk[: first // size] + branches[branch][: second // size]
        tables.append(shared + [next(fresh) for _ in range(own // size + 1)])
        positions.append(len(shared) * size + own - 1)
    generator = torch.Generator().manual_seed(0)
    cache = torch.randn(1, 2, kv_heads, blocks * size, dim, generator=generator).to(dtype)
    query = torch.randn(heads, len(rows), dim, generator=generator).to(dtype)
    model: Any = SimpleNamespace(
        shape=CacheShape(1, kv_heads, dim, dtype.itemsize, heads),
        layers=list(cache),
        cache_of=lambda reach: cache,
        device=torch.device("cpu"),
        dtype=dtype,
        scales=(),
    )

    def computed(chosen: list[int]) -> torch.Tensor:
        padded = torch.tensor((chosen + chosen[-1:] * ROWS)[:ROWS])
        slots = torch.tensor([tables[row][positions[row] // size] * size + positions[row] % size for row in padded])
        context = TileContext.of(
            model, [positions[row] for row in chosen], slots, [tables[row] for row in chosen], size
        )
        key, value = cache[0, 0][:, slots], cache[0, 1][:, slots]
        call = LayerCall(0, query[:, padded], key, value, Score(dim**-0.5))
        return context.attend(call)[: len(chosen)]

    with mock.patch.multiple(invariant, SHORT=16, LONG=2, row_by_row=lambda _: row_by_row):
        found = computed(list(range(len(rows))))
        for row in random.Random(len(rows)).sample(range(len(rows)), min(len(rows), 8)):
            assert torch.equal(computed([row])[0], found[row])
    row = len(rows) - 1
    at = [block * size + offset for block in tables[row] for offset in range(size)][: positions[row] + 1]
    seen = cache[0][:, :, at].transpose(1, 2)
    expected, _ = plain(query[:, row : row + 1].transpose(0, 1), seen[0], seen[1], dim**-0.5)
    torch.testing.assert_close(found[row].float(), expected[0], atol=2e-6 if dtype == torch.float32 else 2e-2, rtol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("vocabulary", [384, 40_001])
def test_choices_and_their_log_probabilities_do_not_depend_on_others(vocabulary: int, threads: int):
    torch.set_num_threads(threads)
    logits = torch.randn(18, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
    kinds = [{}, {"top_p": 0.6}, {"top_k": 5}, {"min_p": 0.02}, {"top_k": 40, "top_p": 0.9}, {"temperature": 0.0}]
    draws = [Draw(SamplingParams(**{"temperature": 0.9} | kinds[row % 6]), row, 3) for row in range(18)]
    tokens = sample_alike(logits, draws)
    together = logprobs(logits, tokens, 3)
    for row in range(18):
        one = slice(row, row + 1)
        assert torch.equal(sample_alike(logits[one], draws[one]), tokens[one])
        for alone, found in zip(logprobs(logits[one], tokens[one], 3), together, strict=True):
            assert torch.equal(alone, found[one])


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
    """Otherwise the tests above would prove nothing."""
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
