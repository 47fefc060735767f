"""Decode steps as CUDA graphs: the whole step is recorded once per size of batch and replayed with one launch.

A step's data are in buffers at fixed addresses: tokens, positions, slots, and the tree's work list, whose
kernels are launched for its capacity (`kernels.tree_attention.buffers`). So the tree may change from step to step under
the same graph. Batches are padded to the next size with rows that attend to nothing and store their keys in slots that
nobody owns.

How a step is recorded is a parameter: `record` on a GPU. `call_again` records nothing and calls the step anew, so that
everything but the recording can be tested without a GPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.errors import GraphError
from engine.model.model import Model, StepInput
from engine.model.states import Rows
from engine.run.batch import SPARE, Batch
from kernels.tree_attention.buffers import Capacity, Scratch, Staging, WorkBuffers, resident_programs, shared_memory
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.items import Item, ItemTable
from kernels.tree_attention.plan import CapacityError, Tiling

Replay = Callable[[], Tensor]  # computes the step from what its buffers hold now; its result lasts until the next call

# Of the tree, that buffers have room for at the largest batch; a deeper tree is launched step by step.
SHARED_LEVELS = 3
# Standard deviations of logits by which a replay may be off. The kernels and the numbers are the same, but a library
# may choose another order of a sum, which 16-bit numbers show; a step that was recorded wrongly is off by more than 1.
REPLAY_TOLERANCE = {torch.float32: 1e-2, torch.float16: 3e-2, torch.bfloat16: 1e-1}
FINEST = 4  # how many times the programs that run at once a plan may cut: `FINER` of `kernels.tree_attention.plan`
# Rows up to which sizes are powers of two, and from which on there are eight in an octave, not four: a GPU's arithmetic
# then takes about as long as reading the weights, so that padding costs what rows cost.
FEW, WIDE = 64, 256


class Capture(Protocol):
    """Makes a graph of a step."""

    def __call__(self, step: Replay, pool: Any) -> tuple[Replay, Any]:
        """Record `step`, which reads and writes the same memory at every call.

        Args:
            step: what to record.
            pool: memory that graphs which never run at once may share; `None` for the first.

        Returns:
            What replays it, and the pool for the next.

        Raises:
            GraphError: the step does something that cannot be recorded.
        """
        ...


def record(step: Replay, pool: Any) -> tuple[Replay, Any]:
    """A `Capture` by CUDA graphs: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.

    A model that looks at a number on the device (RoPE that rescales itself does) cannot be recorded.
    """
    usual, side = torch.cuda.current_stream(), _side(torch.cuda.current_device())
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        for _ in range(2):  # kernels must be compiled and libraries' workspaces made before the recording
            step()
    usual.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads may use the GPU meanwhile; their work is not recorded.
        with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            result = step()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise GraphError(f"a step cannot be recorded: {error}") from error
    finally:
        torch.cuda.set_stream(usual)  # a recording that breaks off leaves its own behind

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay, graph.pool()


@cache
def _side(device: int) -> Any:
    """The stream on which all graphs of a device are recorded: libraries have a workspace for each that they see."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def call_again(step: Replay, pool: Any) -> tuple[Replay, Any]:
    """A `Capture` that records nothing."""
    return step, pool


@dataclass
class GraphCounts:
    """Decode steps since the start; only ever grow."""

    replays: int = 0  # that were replayed from a graph
    misses: int = 0  # that did not fit their graph's buffers, and were launched kernel by kernel


@dataclass(eq=False)
class _Size:
    """Everything of one size of batch."""

    # [5 + windows, size] int64: tokens, positions, slots, those of each window, and twice those of recurrent states: of
    # padding the spare one, and -1.
    rows: Tensor
    works: tuple[WorkBuffers, ...]  # of each of `Model.reaches`
    host: list[Staging]
    replay: Replay | None = None


class DecodeSteps:
    """Decode steps of one model over one cache. Make new ones when the cache is allocated anew."""

    def __init__(
        self,
        model: Model,
        block_size: int,
        max_batch: int,
        longest: int,
        spare: Sequence[int],
        capture: Capture,
        counts: GraphCounts,
    ) -> None:
        """
        Args:
            model: with its cache, and attention by Triton; the last slot of its states is nobody's.
            block_size: tokens per block.
            max_batch: most rows of a step.
            longest: most tokens of a sequence.
            spare: first of `max_batch` slots that no block owns, in the cache of all tokens and in that of each window.
            capture: how a step is recorded.
            counts: are counted up.
        """
        self._counts = counts
        self._model = model
        self._block_size = block_size
        self._longest = longest
        self._capture = capture
        self._pool: Any = None
        self._spare = np.array(spare)[:, None] + np.arange(max_batch)
        self._spare_state = max(0, model.states.slots - 1)  # which no sequence has
        self._sizes: dict[int, _Size] = {}
        self._capacities = {size: self._capacity(size) for size in sizes(max_batch)}
        # Of all graphs, for no two are replayed at once.
        self._works = self._work_buffers(self._capacities[max(self._capacities)])
        self._logits = torch.empty(max(self._capacities), model.vocabulary, device=model.device)

    def warm_up(self) -> None:
        """Record every size, the largest first: the smaller ones then fit into its memory."""
        for size in sorted(self._capacities, reverse=True):
            self._recorded(size)

    def run(self, batch: Batch, cost: CutRule, places: Sequence[Any] = ()) -> tuple[Tensor, int] | None:
        """Compute a step of which the logits of every row are wanted, in order.

        Args:
            batch: the step's rows.
            cost: which shared nodes are worth an item of their own.
            places: as of `to_device`.

        Returns:
            Logits `[rows, vocabulary]` float32, overwritten by the next step, and tokens that need not be read again;
            `None`, with nothing done, if the step is of another kind or too large for the buffers.
        """
        rows = batch.count
        size = next((size for size in self._capacities if size >= rows), None)
        if size is None or not np.array_equal(batch.wanted, np.arange(rows)):
            return None
        if not all(text.goes_on and text.new == 1 and not text.drafted for text in batch.texts):
            return None
        if any(reach.most and batch.rows[1].max() >= reach.most for reach in self._model.reaches):
            return None  # tokens are chosen, by a step whose form depends on the texts
        recorded = self._recorded(size)
        assert recorded.replay is not None
        items, shared_tokens = batch.known or batch.items(cost, in_place=False)
        windows = self._model.windows
        try:
            for work, reach in zip(recorded.works, self._model.reaches, strict=True):
                floors, seen = reach.floors(batch.rows[1]) if work.capacity.floors else None, items
                if reach in windows:
                    seen = seen if isinstance(seen, ItemTable) else ItemTable.of(seen, self._block_size)
                    seen = seen if floors is None else seen.within(floors, self._block_size)
                    seen = seen.moved(places[windows.index(reach)])
                work.fill(seen, rows, floors)
        except CapacityError:
            self._counts.misses += 1
            return None
        self._fill(recorded, batch, places)
        self._counts.replays += 1
        return recorded.replay()[:rows], shared_tokens

    def _fill(self, target: _Size, batch: Batch, places: Sequence[Any]) -> None:
        """Bring the rows to the device; the last of them are padding."""
        count, size = batch.count, target.rows.shape[1]
        values = np.zeros(target.rows.shape, dtype=np.int64)
        values[:3, :count] = batch.rows
        values[3:-2, :count] = [batch.slots(where) for where in places] or 0
        values[2:-2, count:] = self._spare[:, count:size]
        values[-2], values[-1] = self._spare_state, -1
        values[-2:, : len(batch.texts)] = [text.slot for text in batch.texts]
        if target.host:
            target.host.reverse()
            target.host[0].send([values.reshape(-1)], [target.rows.view(-1)])
        else:
            target.rows.copy_(torch.from_numpy(values))
        if batch.said is not None:
            target.rows[0, :count] = batch.said

    def _work_buffers(self, capacity: Capacity) -> tuple[WorkBuffers, ...]:
        """For each reach, those of the largest batch."""
        model = self._model
        heads, tiling = model.backend.heads, model.backend.tiling
        scratch = Scratch.empty(capacity.partials, heads, model.device)
        rooms = [replace(capacity, floors=reach.from_floor) for reach in model.reaches]
        return tuple(
            WorkBuffers.empty(room, heads, self._block_size, model.device, scratch, tiling=tiling) for room in rooms
        )

    def _recorded(self, size: int) -> _Size:
        found = self._sizes.get(size)
        if found is None:
            found = self._sizes[size] = self._make(size)
        return found

    def _make(self, size: int) -> _Size:
        model = self._model
        device, capacity = model.device, self._capacities[size]
        rooms = [replace(capacity, floors=work.capacity.floors) for work in self._works]
        works = tuple(work.smaller(room) for work, room in zip(self._works, rooms, strict=True))
        for work in works:
            work.fill([], size)  # not what a larger size left there
        rows = torch.zeros(4 + len(self._spare), size, dtype=torch.int64, device=device)
        rows[2:-2] = torch.from_numpy(self._spare[:, :size])
        rows[-2], rows[-1] = self._spare_state, -1
        host = [Staging.pinned([rows.numel()], torch.int64) for _ in range(2)] if device.type == "cuda" else []
        everyone = torch.arange(size, device=device)
        made = _Size(rows, works, host)
        states = (Rows(None, 1, rows[-2], goes_on=True, kept=True, owned=rows[-1]),)
        step = StepInput(rows[0], rows[1], rows[2], everyone, works, states, tuple(rows[3:-2]))
        logits = self._logits[:size]
        made.replay, self._pool = self._capture(lambda: model.forward(step, logits), self._pool)
        self._check(made, step)
        return made

    def _check(self, made: _Size, step: StepInput) -> None:
        """Compare a replay with the step itself, on other rows and another tree than it was recorded with."""
        assert made.replay is not None
        size = made.rows.shape[1]
        rows = np.arange(1, size + 1)
        made.rows[0] = torch.from_numpy(rows * 7919 % self._model.vocabulary)
        made.rows[1] = torch.from_numpy(rows % self._longest)
        made.rows[-1, 0] = self._spare_state  # one row has a state
        for work in made.works:
            work.fill([Item(0, size, [0], 0, 1)], size)
        self._model.states.clear(self._spare_state)
        found = made.replay().clone()
        self._model.states.clear(self._spare_state)
        expected = self._model.forward(step)
        error = (found - expected).abs().max().item() / max(expected.std().item(), 1e-6)
        if not error < REPLAY_TOLERANCE[self._model.dtype]:
            raise GraphError(f"a recorded step of {size} rows is {error:.2g} standard deviations off when replayed")

    def _capacity(self, size: int) -> Capacity:
        """What a step of `size` rows may need: a tail for each row, shared nodes on some levels, splits that fill the
        GPU.
        """
        backend = self._model.backend
        heads = backend.heads
        tiling = backend.tiling or Tiling.of(heads, shared_memory(self._model.device))
        programs = resident_programs(self._model.device, tiling) * tiling.small_programs // tiling.programs
        per_level = 1 + size * heads.group // 16  # query tiles, if all were small
        tiles = 2 * size + SHARED_LEVELS * per_level + FINEST * -(-programs // heads.kv)
        blocks = size * (-(-self._longest // self._block_size) + SPARE)
        return Capacity(size, tiles, blocks, (1 + SHARED_LEVELS) * size + FINEST * programs)


def sizes(most: int) -> list[int]:
    """Sizes of batch that are recorded: powers of two, then parts of an octave, and the largest. Padding costs almost
    nothing in small batches, which spend their time reading the weights.
    """
    found = [1]
    while found[-1] < most:
        last = found[-1]
        octave = 1 << (last.bit_length() - 1)
        step = octave if last < FEW else octave // 4 if last < WIDE else octave // 8
        found.append(min(most, last + step))
    return found
