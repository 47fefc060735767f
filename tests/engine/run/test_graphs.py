"""Attention by Triton, and decode steps as graphs, give the texts that plain torch gives.

Without a GPU the kernels run in Triton's interpreter, and graphs are `call_again`: all but the recording itself.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.errors import GraphError
from engine.model.attention import NAME
from engine.model.model import Model
from engine.run import graphs
from engine.run.batch import Batch, to_device
from engine.run.graphs import Capture, call_again, record
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Sequence
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import INDEXED as TINY_INDEX
from tests.engine.kinds.tiny import SIZES
from tests.engine.test_greedy import greedy, prompts
from tests.kernels.interpreting import DEVICE, interpret

interpret()
pytestmark = pytest.mark.gpu

CAPTURE: Capture = record if DEVICE == "cuda" else call_again


@pytest.fixture(scope="module")
def small() -> Any:
    """One layer: the interpreter is slow."""
    return make_weights(num_hidden_layers=1)


def on_device(weights: Any) -> Model:
    """The same weights under the engine's attention, on the GPU where there is one."""
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    return Model(twin.to(DEVICE))


@pytest.fixture
def start(small: Any, tokenizer: Tokenizer) -> Callable[..., Core]:
    def make(backend: str, capture: Capture | None = None, cost: int = 0, **limits: Any) -> Core:
        model = on_device(small)
        model.use_attention(backend)
        chosen = Limits(**({"block_size": 8, "prefill_chunk": 64, "max_batch": 4} | limits))
        return Core(model, tokenizer, 100, chosen, RunOptions(CutCost(cost), capture))

    return make


def texts(core: Core) -> list[list[int]]:
    """Greedy texts over a tree of prompts that come and go at different times, so that every step has another tree."""
    requests = [greedy(text, 2 + 2 * index, n=1 + index % 2) for index, text in enumerate(prompts(3, 12, 5, seed=3))]
    later = requests.pop()
    for request in requests:
        core.submit(request)
    for _ in range(2):
        core.step()
    core.run([later])
    core.scheduler.check_integrity()
    return [sequence.tokens for request in (*requests, later) for sequence in request.sequences]


@pytest.fixture(scope="module")
def expected(small: Any, tokenizer: Tokenizer) -> list[list[int]]:
    model = on_device(small)
    model.use_attention("torch")
    return texts(
        Core(model, tokenizer, 100, Limits(block_size=8, prefill_chunk=64, max_batch=4), RunOptions(CutCost(0)))
    )


@pytest.mark.parametrize("cost", [0, 10**9], ids=["shared", "not-shared"])
def test_triton_step_by_step(start: Callable[..., Core], expected: list[list[int]], cost: int):
    core = start("triton", cost=cost)
    assert texts(core) == expected
    assert (core.stats.shared_tokens > 0) == (cost == 0)


def test_decode_steps_with_recurrent_states_as_graphs(tokenizer: Tokenizer):
    sizes = {name: size for name, size in SIZES.items() if name.startswith("linear_")}
    hybrid = make_weights("Qwen3_5Text", layer_types=["linear_attention", "full_attention"], **sizes)
    found = []
    for backend, capture in (("torch", None), ("triton", CAPTURE)):
        model = on_device(hybrid)
        model.use_attention(backend)
        limits = Limits(block_size=8, prefill_chunk=64, max_batch=2)
        core = Core(model, tokenizer, 100, limits, RunOptions(CutCost(0), capture))
        core.runner.warm_up()
        assert (core.runner.decode is not None) == (capture is not None)
        found.append(texts(core))
        assert (core.graphs.replays >= 4) == (capture is not None)
    assert found[0] == found[1]


def test_decode_steps_as_graphs(start: Callable[..., Core], expected: list[list[int]]):
    core = start("triton", CAPTURE)
    core.runner.warm_up()
    assert texts(core) == expected
    assert core.stats.shared_tokens > 0
    decode = core.runner.decode
    assert decode is not None
    assert core.graphs.replays >= 4
    assert core.graphs.misses == 0
    core.reset()
    again = greedy(prompts(3, 12, 5, seed=3)[0], 2)
    core.run([again])
    assert again.sequences[0].tokens == expected[0]
    assert core.runner.decode is not decode, "the cache is another, so graphs must be"


def test_drafts_are_rows_of_decode_steps_too(start: Callable[..., Core], expected: list[list[int]]):
    core = start("triton", CAPTURE, max_batch=8, max_draft=3)

    def draft(decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        """The first two tokens will be sampled, the third will not."""
        drafts = {}
        for sequence in decoding:
            length = len(sequence.tokens)
            text = next(text for text in expected if text[:length] == sequence.tokens)
            drafts[sequence] = [*text[length : length + 2], *((token + 1) % 99 for token in text[length + 2 :])]
        return drafts

    core.scheduler._drafts._drafter = draft
    assert texts(core) == expected
    counters, decode = core.scheduler.counters, core.runner.decode
    assert 0 < counters.accepted_tokens < counters.drafted_tokens
    assert decode is not None
    assert core.graphs.replays > 0
    assert core.graphs.misses == 0


def test_every_replay_launches_the_same(
    start: Callable[..., Core], expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
):
    """A graph repeats its launches with the arguments that they had when it was recorded. So under one size of batch
    every call of attention must have the same shapes, grid and addresses, whatever the tree.
    """
    launches: dict[int, list[Any]] = {}
    steps: dict[int, int] = {}
    recording: list[int] = []

    def spy(step: Callable[[], torch.Tensor], pool: Any) -> Any:
        size = len(launches)
        launches[size], steps[size] = [], 0

        def replay() -> torch.Tensor:
            recording.append(size)
            steps[size] += 1
            try:
                return step()
            finally:
                recording.pop()

        return replay, pool

    core = start("triton", spy)
    attend = core.model.backend.attend

    def seen(query: Any, keys: Any, values: Any, work: Any, scale: float) -> Any:
        if recording:
            tensors = (keys, values, work.count, work.tiles, work.blocks, work.starts, work.slots)
            tensors = (*tensors, work.scratch.partials, work.scratch.lse)
            places = [tensor.data_ptr() for tensor in tensors]
            launches[recording[-1]].append((query.shape, query.stride(), work.capacity, work.tiling, places, scale))
        return attend(query, keys, values, work, scale)

    monkeypatch.setattr(core.model.backend, "attend", seen)
    assert texts(core) == expected
    assert len(launches) >= 2
    assert sum(steps.values()) >= 4
    for calls in launches.values():
        assert all(call == calls[0] for call in calls)


def with_and_without(weights: Any, tokenizer: Tokenizer, windows: tuple[int, ...] = ()) -> tuple[Core, list[Any]]:
    """The core that records graphs, and what it and one without them write, that one's first."""
    limits, found = Limits(block_size=8, prefill_chunk=64, max_batch=4, windows=windows), []
    for backend, capture in (("torch", None), ("triton", CAPTURE)):
        model = on_device(weights)
        model.use_attention(backend)
        core = Core(model, tokenizer, 100, limits, RunOptions(CutCost(0), capture))
        found.append(texts(core))
    return core, found


def test_graphs_of_layers_with_and_without_a_window(tokenizer: Tokenizer):
    """Sequences outgrow the window under the same graphs; one layer sees all, the other 9 tokens and a sink."""
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    weights = make_weights("GptOss", attention="eager", sliding_window=9, **experts)
    core, found = with_and_without(weights, tokenizer, windows=(12,))
    assert len(core.model.reaches) == 2
    assert [len(cache[0, 0, 0]) for cache in core.model.window_caches] == [12 * 8 + 4], "with four rows of padding"
    assert core.runner.decode is not None
    assert core.graphs.replays > 0
    assert found[0] == found[1]


def test_texts_with_more_tokens_than_an_index_chooses_leave_the_graphs(tokenizer: Tokenizer):
    """Some texts are longer, some grow so long, and those that do not are decoded under graphs."""
    sizes = TINY_INDEX | {"index_topk": 22, "num_hidden_layers": 1, "mlp_layer_types": ["dense"]}
    weights = make_weights("DeepseekV32", attention="eager", **sizes)
    core, found = with_and_without(weights, tokenizer)
    assert core.runner.decode is not None
    assert 0 < core.graphs.replays < core.stats.steps
    assert core.model.index.any()
    assert found[0] == found[1]


def test_all_sizes_share_the_memory_of_the_largest(start: Callable[..., Core]):
    """Lists of blocks, as long as the context for each row of 31 sizes, took a gigabyte, and two page-locked ones."""
    core = start("triton", call_again, max_batch=8)
    steps = core.runner.decode
    assert steps is not None
    steps.warm_up()
    (largest,) = steps._works
    for size, found in steps._sizes.items():
        (work,) = found.works
        assert work.capacity.rows == size
        for name in ("count", "taken", "tiles", "blocks", "starts", "slots"):
            part, whole = getattr(work, name), getattr(largest, name)
            assert part.data_ptr() == whole.data_ptr()
            assert len(part) <= len(whole)
        assert work.scratch is largest.scratch
        assert work._host is largest._host


def test_padding_touches_no_block_of_the_cache(start: Callable[..., Core]):
    core = start("triton", CAPTURE)
    core.runner.warm_up()
    request = greedy(prompts(1, 12, 5)[0], 3, n=3)
    core.submit(request)
    while not all(sequence.generated for sequence in request.sequences):
        core.step()
    core.steady._least = 4  # one step at a time
    before = core.model.cache.clone()
    written = [s.table[s.computed // 8] * 8 + s.computed % 8 for s in request.sequences]
    core.step()
    changed = (core.model.cache != before).any(dim=-1).all(dim=2).any(dim=1).any(dim=0).nonzero()[:, 0].tolist()
    spare = 100 * 8
    assert changed == sorted([*written, spare + 3])  # four rows for three sequences


def test_drafts_are_rows_of_a_graph_like_others(start: Callable[..., Core]):
    """Two samples, each with two guessed tokens behind its last: six rows, padded to eight, see what they may."""
    core = start("triton", CAPTURE, max_batch=8)
    request = greedy(prompts(1, 12, 5)[0][:10], 3, n=2)
    core.submit(request)
    while not all(sequence.generated for sequence in request.sequences):
        core.step()
    step = core.scheduler.schedule()
    chunks = [chunk._replace(draft=(7, 9)) for chunk in step.chunks]
    assert [len(chunk.sequence.table) for chunk in chunks] == [2, 2]
    batch = Batch.of(dataclasses.replace(step, chunks=chunks), 8)
    assert batch.count == len(batch.wanted) == 6
    assert core.runner.decode is not None
    found = core.runner.decode.run(batch, core.runner.cost)
    assert found is not None
    model = core.model
    built, _ = to_device(batch, core.runner.cost, model)
    torch.testing.assert_close(found[0], model.forward(built), atol=1e-4, rtol=1e-4)
    assert core.runner.decode.run(dataclasses.replace(batch, wanted=batch.wanted[::-1]), core.runner.cost) is None


def test_steps_too_large_for_their_buffers_are_launched_one_by_one(
    start: Callable[..., Core], expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
):
    whole = graphs.DecodeSteps._capacity

    def tight(self: Any, size: int) -> Any:
        return dataclasses.replace(whole(self, size), blocks=2)

    monkeypatch.setattr(graphs.DecodeSteps, "_capacity", tight)
    core = start("triton", CAPTURE)
    assert texts(core) == expected
    assert core.runner.decode is not None
    assert core.graphs.misses > 0


def bake(step: Callable[[], torch.Tensor], pool: Any) -> Any:
    """Records numbers that should be read at replay, as a graph does with anything that Python computes."""
    result = step()
    return (lambda: result), pool


def refuse(step: Callable[[], torch.Tensor], pool: Any) -> Any:
    raise GraphError("a step cannot be recorded: operation not permitted when stream is capturing")


@pytest.mark.parametrize("capture", [bake, refuse])
@pytest.mark.parametrize("warm", [True, False], ids=["at-start", "under-load"])
def test_steps_that_cannot_be_recorded_are_launched(
    start: Callable[..., Core], caplog: pytest.LogCaptureFixture, capture: Capture, warm: bool
):
    core = start("triton", capture, max_batch=1)
    if warm:
        core.runner.warm_up()
        assert core.runner.decode is None
    request, again = greedy(prompts(1, 6, 2)[0], 3), greedy(prompts(1, 6, 2)[0], 3)
    core.run([request])
    assert core.runner.decode is None
    assert "launched kernel by kernel" in caplog.text
    start("torch").run([again])
    assert request.sequences[0].tokens == again.sequences[0].tokens
