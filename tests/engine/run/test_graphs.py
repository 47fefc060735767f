"""Attention by Triton, and decode steps as graphs, give the texts that plain torch gives.

Without a GPU the kernels run in Triton's interpreter, and graphs are `call_again`: all but the recording itself.
"""

import copy
import dataclasses
import itertools
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.errors import GraphError, LoadError
from engine.model.attention import NAME
from engine.model.backends import NativeBackend, TorchBackend, TritonBackend, calibrate, choose, use_tiles
from engine.model.model import Model
from engine.run import graphs
from engine.run.batch import Batch, to_device
from engine.run.graphs import Capture, call_again, record, sizes
from engine.run.runner import RunOptions
from engine.schedule.scheduler import Limits
from engine.schedule.sequence import Sequence
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.buffers import WorkBuffers
from kernels.tree_attention.calibrate import Grid
from kernels.tree_attention.cost import MeasuredCost, Sample
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.native import supports
from kernels.tree_attention.plan import Most, Tiling, plan
from tests.engine.conftest import make_weights
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


def test_graphs_of_layers_with_and_without_a_window(tokenizer: Tokenizer):
    """Sequences outgrow the window under the same graphs; one layer sees all, the other 9 tokens and a sink."""
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    weights = make_weights("GptOss", attention="eager", sliding_window=9, **experts)
    limits, found = Limits(block_size=8, prefill_chunk=64, max_batch=4), []
    for backend, capture in (("torch", None), ("triton", CAPTURE)):
        model = on_device(weights)
        model.use_attention(backend)
        core = Core(model, tokenizer, 100, limits, RunOptions(CutCost(0), capture))
        found.append(texts(core))
    assert len(model.reaches) == 2
    assert core.runner.decode is not None
    assert core.graphs.replays > 0
    assert found[0] == found[1]


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


def test_sizes():
    assert sizes(1) == [1]
    assert sizes(8) == [1, 2, 4, 8]
    assert sizes(100) == [1, 2, 4, 8, 16, 32, 64, 80, 96, 100]
    assert sizes(300) == [1, 2, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 300]
    assert sizes(1024)[-9:] == [512, 576, 640, 704, 768, 832, 896, 960, 1024]
    for small, large in itertools.pairwise(sizes(1000)):
        assert large <= small * (2 if small < 64 else 1.25 if small < 256 else 1.125)


HOPPER = 132 * 2  # programs at once


@pytest.mark.parametrize("heads", [Heads(28, 4, 128, 2), Heads(32, 8, 128, 2), Heads(32, 32, 128, 2)], ids=str)
def test_no_step_of_a_small_batch_misses_its_graph(heads: Heads, monkeypatch: pytest.MonkeyPatch):
    """7B's heads, contexts of 0.5K to 16K, shared and not: all fit, and nothing is cut less for want of tiles."""
    monkeypatch.setattr("engine.run.graphs.resident_programs", lambda *_: HOPPER)
    decode: Any = object.__new__(graphs.DecodeSteps)
    tiling = Tiling.of(heads.dim, heads.item_bytes)
    backend = types.SimpleNamespace(heads=heads, tiling=tiling)
    decode._model = types.SimpleNamespace(backend=backend, device=torch.device("cpu"))
    decode._longest, decode._block_size = 32_768, 16
    for batch, context in itertools.product((1, 2, 3, 5, 8, 12, 16, 23, 32), (512, 1000, 2048, 4096, 7777, 16_384)):
        size = next(size for size in sizes(64) if size >= batch)
        room = decode._capacity(size)
        blocks = -(-context // 16)
        for common in (0, blocks // 2, blocks - 1):
            own = [range(first, first + blocks - common) for first in range(9999, 9999 + batch * blocks, blocks)]
            tables = [[*range(common), *tail] for tail in own]
            spans = [Span(table, 1, context) for table in tables]
            items = cut(spans, [0, *[common] * (batch - 1)], 16, CutCost(0), in_place=False)
            found = plan(items, batch, 16, heads, tiling, HOPPER, Most(room.tiles, room.partials))
            assert len(found.blocks) <= room.blocks
            freely = plan(items, batch, 16, heads, tiling, HOPPER, Most(partials=room.partials))
            assert np.array_equal(found.tiles, freely.tiles)
            if not common:
                assert len(found.tiles) == len(plan(items, batch, 16, heads, tiling, HOPPER).tiles)


def test_choice_of_the_backend(monkeypatch: pytest.MonkeyPatch):
    heads, cpu = Heads(4, 2, 16, 4), torch.device("cpu")
    assert isinstance(choose("auto", cpu, heads), TorchBackend)
    small = Heads(4, 2, 32, 2)
    native = NativeBackend if supports(small) else TorchBackend
    assert isinstance(choose("auto", cpu, small, torch.bfloat16), native)
    assert isinstance(choose("auto", cpu, small, torch.float16), TorchBackend)
    assert isinstance(choose("torch", cpu, small, torch.bfloat16), TorchBackend)
    assert isinstance(choose("auto", torch.device("cuda"), heads), TritonBackend)
    assert isinstance(choose("torch", torch.device("cuda"), heads), TorchBackend)
    with pytest.raises(LoadError, match=r"heads of 512 numbers.*--attention-backend torch"):
        choose("auto", torch.device("cuda"), Heads(2, 1, 512, 2))
    with monkeypatch.context() as patch:
        patch.setattr("engine.model.backends._interpreted", lambda: False)
        with pytest.raises(LoadError, match="needs a GPU, the model is on cpu"):
            choose("triton", cpu, heads)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LoadError, match="pip install triton"):
        choose("triton", cpu, heads)


def test_a_calibration_chooses_among_tiles(monkeypatch: pytest.MonkeyPatch):
    """Times are made up: the wide tiles take half as long, but for the items themselves."""
    cpu = torch.device("cpu")
    backend = TritonBackend(Heads(8, 1, 64, 2))
    seen: list[int] = []

    def made_up(prepare: Any, heads: Heads, *rest: Any, **more: Any) -> list[Sample]:
        assert backend.tiling is not None
        seen.append(backend.tiling.large)
        truth = MeasuredCost(1.0, 50.0, 0.1, 0.1, 64 / backend.tiling.large, heads.group, backend.tiling.large)
        samples = []
        for sequences, tokens in itertools.product((2, 32, 96), (64, 512, 2048)):
            samples.append(Sample(sequences, tokens, True, 1e-6 * truth.shared(sequences, tokens)))
            samples.append(Sample(sequences, tokens, False, 1e-6 * truth.plain(sequences, tokens)))
        return samples

    monkeypatch.setattr("engine.model.backends.measure", made_up)
    found = calibrate(backend, torch.bfloat16, cpu, 16)
    assert seen == [64, 128]
    assert found.queries == 128
    use_tiles(backend, found.queries)
    assert isinstance(work := backend.prepare([], 1, 16, cpu), WorkBuffers)
    assert work.tiling == Tiling(large=128, warps=8, programs=1)
    use_tiles(backend, 7)
    assert backend.tiling is None


def test_a_calibration_by_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "kernels.tree_attention.calibrate.measure.__defaults__", (16, Grid((2, 8, 32), (32, 256, 1024), 2), None)
    )
    found = calibrate(TorchBackend(Heads(4, 2, 16, 4)), torch.float32, torch.device("cpu"), 16)
    assert found.group == 2
    assert min(found.read, found.item, found.row) >= 0


def test_a_gpu_is_calibrated_over_the_items_of_its_steps(monkeypatch: pytest.MonkeyPatch):
    """Whose own tokens are one item, however many blocks follow one another."""
    grids: list[Grid] = []

    def seen(*_: Any, grid: Grid, **__: Any) -> list[Sample]:
        grids.append(grid)
        return [Sample(2, 16, shared, 1e-6) for shared in (True, False)]

    monkeypatch.setattr("engine.model.backends.measure", seen)
    calibrate(TritonBackend(Heads(8, 1, 64, 2)), torch.bfloat16, torch.device("cuda"), 16)
    assert all(grid.recorded and not grid.in_place for grid in grids)
    calibrate(TorchBackend(Heads(8, 1, 64, 2)), torch.bfloat16, torch.device("cuda"), 16)
    assert grids[-1].in_place
    assert not grids[-1].recorded
