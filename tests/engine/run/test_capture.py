"""What is recorded as a CUDA graph waits for nothing, repeats itself to the last number whatever the tree, and leaves
nothing behind: tested without a GPU, on the code that a GPU runs, with its kernels in Triton's interpreter.
"""

import copy
import gc
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.errors import GraphError
from engine.model import experts
from engine.model.attention import NAME
from engine.model.fused_ops import triton_ops
from engine.model.in_pool import Advances
from engine.model.model import Model
from engine.run.graphs import DecodeSteps, _Size, record
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Sequence
from engine.text.tokenizer import Tokenizer
from kernels.delta_rule import triton as delta_rule
from kernels.expert_linear.triton import expert_linear
from kernels.short_conv import triton as short_conv
from kernels.state_space import triton as state_space
from kernels.tree_attention.buffers import Capacity, Staging, WorkBuffers
from kernels.tree_attention.cut import CutCost
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import config_of
from tests.engine.run.capturing import Recording, recording
from tests.engine.test_greedy import greedy, prompts
from tests.kernels.interpreting import DEVICE, interpret

interpret()
pytestmark = pytest.mark.skipif(DEVICE == "cuda", reason="there real graphs are recorded")


ALL = {"_tree_attention", "_merge", "_rope_store", "_rms_norm"}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen3": {},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
EXPERTS = {"Qwen3Moe", "gpt_oss", "glm4_moe", "deepseek_v3", "qwen3_next"}
# Sinks and windows, shared experts, latent attention, windows beside full attention, states.
TINY = ("gpt_oss", "glm4_moe", "deepseek_v3", "gemma3_text", "qwen3_next", "bamba")
IN_POOL = {"qwen3_next": {"launch _delta_rule", "launch _short_conv"}}  # what touches states
IN_POOL["bamba"] = {"launch _state_space", "launch _short_conv"}


@pytest.fixture
def nothing_old() -> Iterator[None]:
    """What was there before the test is not looked through by each recording's collection of cycles."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_all_graphs_are_recorded_on_one_stream_which_is_left_again(monkeypatch: pytest.MonkeyPatch):
    """A library keeps a workspace of 32 MB for each stream that it sees, and there may be 31 sizes."""
    made: list[object] = []
    now: list[object] = ["usual"]

    class Stream:
        def __init__(self, device: int) -> None:
            made.append(self)

        def wait_stream(self, other: object) -> None: ...

    @contextmanager
    def graph(found: object, pool: Any, stream: object, capture_error_mode: str) -> Iterator[None]:
        now[0] = stream
        yield  # one that breaks off stays there
        now[0] = usual

    usual = SimpleNamespace(wait_stream=lambda other: None)
    graph_of = SimpleNamespace(pool=lambda: (0, 1), replay=lambda: None)
    for name, fake in {"Stream": Stream, "graph": graph, "stream": lambda each: nullcontext(),
                       "current_stream": lambda: usual, "current_device": lambda: 77, "CUDAGraph": lambda: graph_of,
                       "set_stream": lambda each: now.__setitem__(0, each)}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    replay, pool = record(lambda: torch.zeros(1), None)
    record(lambda: torch.zeros(1), pool)
    assert (len(made), now, float(replay())) == (1, [usual], 0.0)
    steps = iter((None, None, RuntimeError("no")))

    def breaks_off() -> Tensor:
        if error := next(steps):
            raise error
        return torch.zeros(1)

    with pytest.raises(GraphError):
        record(breaks_off, pool)
    assert (len(made), now) == (1, [usual])


def weights_of(kind: str) -> Any:
    """Small random ones."""
    if kind in KINDS:
        return make_weights(kind, num_hidden_layers=2, **KINDS[kind])
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(kind))


def as_on_a_gpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A small model with everything fused by Triton's kernels."""
    for place in ("engine.model.model.ops_for", "engine.model.fuse.ops_for"):
        monkeypatch.setattr(place, lambda device, dtype: triton_ops())
    monkeypatch.setattr("engine.model.model.pack_linears", lambda inner: None)  # of a CPU's weights
    advances = Advances(delta_rule.advance, short_conv.advance, state_space.advance)
    monkeypatch.setattr("engine.model.gate.advances_for", lambda device: advances)
    monkeypatch.setattr(experts, "on_gpu", lambda weight: True)
    monkeypatch.setattr(experts, "linear_on", lambda device: expert_linear)
    monkeypatch.setattr(experts, "has_grouped_kernel", lambda like: False)
    weights = weights_of(kind)
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    model = Model(twin)
    model.use_attention("triton")
    return model


def recorded_steps(core: Core) -> dict[int, list[Recording]]:
    """Every replay of each size of batch, over trees that grow, branch, lose sequences and carry drafts."""
    requests = [greedy(text, 2 + index, n=1 + index) for index, text in enumerate(prompts(3, 9, 5, seed=3))]
    late = requests.pop()
    for request in requests:
        core.submit(request)
    core.step()
    core.run([late])
    return found


found: dict[int, list[Recording]] = defaultdict(list)


def spy(step: Callable[[], Tensor], pool: Any) -> Any:
    """Calls the step anew, and records it."""
    number = len(found)
    found[number] = []

    def replay() -> Tensor:
        with recording() as seen:
            result = step()
        seen.end(result)
        found[number].append(seen)
        return result

    return replay, pool


@pytest.mark.usefixtures("nothing_old")
@pytest.mark.parametrize("kind", [*KINDS, *TINY])
def test_a_recorded_step_does_the_same_whatever_the_tree(
    kind: str, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
):
    found.clear()
    core = Core(
        as_on_a_gpu(kind, monkeypatch),
        tokenizer,
        60,
        Limits(block_size=8, prefill_chunk=64, max_batch=4, max_draft=1),
        RunOptions(CutCost(0), spy),
    )

    def draft(decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        return {sequence: [7] for sequence in decoding[:budget] if sequence.generated % 2}

    core.scheduler._drafts._drafter = draft
    steps = recorded_steps(core)
    assert core.runner.decode is not None
    assert core.graphs.replays >= 4
    assert max(map(len, steps.values())) >= 3, "one size must have been replayed over several trees"
    for recordings in steps.values():
        first = recordings[0]
        assert not first.faults, "a graph cannot record what waits for the device"
        launched = {name for name, _ in first.events if name.startswith("launch")}
        assert launched >= {f"launch {name}" for name in ALL}
        assert ("launch _expert_linear" in launched) == (kind in EXPERTS)
        pools = {state.data_ptr() for state in core.model.states.states.values()}
        in_pools = {name for name, given in first.events if _memory(given) & pools}
        assert in_pools == IN_POOL.get(kind, set())
        for other in recordings[1:]:
            assert not other.faults
            for one, two in zip(first.events, other.events, strict=True):
                assert one == two
        assert {each.left for each in recordings} == {0}, "memory of the graph's pool is held by nobody but its result"


def _memory(given: Any) -> set[int]:
    """Addresses of memory from outside that an event touches."""
    if isinstance(given, tuple) and given[:1] == ("outside",):
        return {given[1]}
    return set().union(*map(_memory, given)) if isinstance(given, tuple) else set()


def _at(x: Tensor) -> Tensor:
    return x + torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("step", "word"),
    [
        (lambda x: x * x.sum().item(), "item"),
        (lambda x: x if x.sum() > 0 else -x, "_local_scalar_dense"),
        (lambda x: x * x.tolist()[0], "tolist"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x.to("cpu"), "to moves"),
        (lambda x: x[x > 1], "truth values"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.masked_select(x > 1), "masked_select"),
        (_at, "tensor"),
        (lambda x: torch.from_numpy(x.detach().numpy()), "numpy"),
    ],
    ids=["item", "if", "tolist", "cpu", "to", "truth", "nonzero", "select", "tensor", "numpy"],
)
def test_what_no_graph_records_is_seen(step: Callable[[Tensor], Tensor], word: str):
    with recording() as seen:
        step(torch.arange(3.0))
    assert any(word in fault for fault in seen.faults), seen.faults


@pytest.mark.usefixtures("nothing_old")
def test_numbers_and_memory_that_change_are_seen():
    x, kept = torch.arange(3.0), []

    def run(factor: float, other: Tensor, keep: bool = False) -> Recording:
        with recording() as seen:
            product = x * factor
            result = product + other
            if keep:
                kept.append(product)
        del product
        seen.end(result)
        assert not seen.faults
        return seen

    one, two = torch.ones(3), torch.ones(3)
    assert run(2.0, one).events == run(2.0, one).events
    assert run(2.0, one).events != run(3.0, one).events
    assert run(2.0, one).events != run(2.0, two).events
    assert run(2.0, one).left == 0
    assert run(2.0, one, keep=True).left == 1


class Device(TorchDispatchMode):
    """A GPU that is as late as possible: asynchronous copies are only made when something waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: list[Callable[[], Any]] = []
        self.done = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and len(args) > 2 and args[2]:
            self.queue.append(lambda: func(*args[:2]))
            return args[0]
        return func(*args, **(kwargs or {}))

    def catch_up(self, until: int) -> None:
        while self.done < until:
            self.queue[self.done]()
            self.done += 1


class Event:
    """Of that device's only stream."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._after = 0

    def record(self) -> None:
        self._after = len(self._device.queue)

    def synchronize(self) -> None:
        self._device.catch_up(self._after)


@pytest.mark.parametrize("stagings", [1, 2])
def test_a_copy_that_is_still_under_way_is_not_overwritten(stagings: int):
    """Steps are sent one after the other without waiting: each must still read its own numbers."""
    device = Device()

    def staging(sizes: list[int], kind: torch.dtype) -> Staging:
        return Staging([torch.zeros(size, dtype=kind) for size in sizes], Event(device))

    room = Capacity(rows=8, tiles=32, blocks=64, partials=64)
    work = WorkBuffers.empty(room, Heads(2, 1, 16, 4), 8)
    work._host = [staging([2, 32 * 8, 64, 9, 64], torch.int32) for _ in range(stagings)]
    rows = torch.zeros(5, 8, dtype=torch.int64)
    size = _Size(rows, work, [staging([40], torch.int64) for _ in range(stagings)])
    steps: Any = DecodeSteps.__new__(DecodeSteps)
    steps._spare, steps._spare_state = torch.arange(100, 108).numpy()[None], 0
    seen: list[tuple[list[int], list[int]]] = []
    with device:
        for step in range(5):
            numbers = torch.full((3, 4), step).numpy()
            batch: Any = SimpleNamespace(rows=numbers, count=4, said=None, texts=())
            work.fill([Item(0, 4, [step, step + 1], 0, 16)], 4)
            steps._fill(size, batch, ())
            device.queue.append(lambda: seen.append((rows[:, 0].tolist(), work.blocks[:2].tolist())))
        device.catch_up(len(device.queue))
    assert seen == [([step, step, step, 0, -1], [step, step + 1]) for step in range(5)]
