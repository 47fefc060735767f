"""A step's work as buffers of fixed capacity on the device, so that a captured CUDA graph replays while the tree
changes.

Kernels are launched for as many programs as run at once; how many tiles there are for them is on the device as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item, ItemTable
from kernels.tree_attention.plan import PLENTY, TILE_FIELDS, CapacityError, Most, Plan, TileShape, Tiling, plan
from kernels.tree_attention.reach import Floors, within

SIMULATED = 8  # programs at once where there is no GPU


@dataclass(frozen=True)
class Capacity:
    """How much one step may need at most."""

    rows: int
    tiles: int
    blocks: int  # entries of the block list
    partials: int
    floors: bool = False  # whether rows may see less than everything, see `kernels.tree_attention.reach`

    @classmethod
    def of(cls, found: Plan, floors: bool = False) -> "Capacity":
        """Just enough for a plan."""
        sizes = (max(1, len(found.tiles)), max(1, len(found.blocks)), max(1, len(found.slots)))
        return cls(len(found.starts) - 1, *sizes, floors)


@dataclass(frozen=True, eq=False)
class Scratch:
    """Partial results. Buffers of steps that never run at once may share one."""

    partials: Tensor  # [slots, heads, value] float32
    lse: Tensor  # [slots, heads] float32, natural logarithm

    @classmethod
    def empty(cls, slots: int, heads: Heads, device: torch.device) -> "Scratch":
        """Room for `slots` partial results, not initialised: only what a step wrote is read."""
        values = torch.empty(slots, heads.query, heads.value, dtype=torch.float32, device=device)
        return cls(values, torch.empty(slots, heads.query, dtype=torch.float32, device=device))


class TileLaunch(NamedTuple):
    """The programs for tiles of one size."""

    shape: TileShape
    programs: int


@dataclass(eq=False)
class WorkBuffers:
    """One step's plan on the device. Make it with `WorkBuffers.empty`, then `fill` it for each step."""

    capacity: Capacity
    heads: Heads
    block_size: int
    tiling: Tiling
    programs: int
    count: Tensor  # [2] int32: large tiles, and small ones
    taken: Tensor  # [2] int32: 0 between steps, see `kernels.tree_attention.triton`
    tiles: Tensor  # [capacity.tiles, TILE_FIELDS] int32
    blocks: Tensor  # [capacity.blocks] int32
    starts: Tensor  # [capacity.rows + 1] int32
    slots: Tensor  # [capacity.partials] int32
    floors: Tensor  # [capacity.rows] int32, the first position that each row sees; [1] without `capacity.floors`
    scratch: Scratch
    _host: list["Staging"] = field(default_factory=list)  # two, used in turn: a copy may still be running

    @classmethod
    def empty(
        cls,
        capacity: Capacity,
        heads: Heads,
        block_size: int,
        device: torch.device | str = "cpu",
        scratch: Scratch | None = None,
        programs: int | None = None,
        tiling: Tiling | None = None,
    ) -> "WorkBuffers":
        """Buffers without work: every row has output 0.

        Args:
            capacity: what a step may need at most.
            heads: shape of the attention.
            block_size: tokens per block.
            device: of the tensors.
            scratch: with room for `capacity.partials` results at least; default: one of its own.
            programs: how many the device runs at once; default: from its properties.
            tiling: sizes of tiles; default: `Tiling.of`.
        """
        place = torch.device(device)
        room = scratch or Scratch.empty(capacity.partials, heads, place)
        if room.partials.shape[0] < capacity.partials:
            raise ValueError(f"scratch for {room.partials.shape[0]} partial results, {capacity.partials} may come")
        sizes = [2, capacity.tiles * TILE_FIELDS, capacity.blocks, capacity.rows + 1, capacity.partials]
        sizes.append(capacity.rows if capacity.floors else 1)
        count, tiles, blocks, starts, slots, floors = (torch.zeros(n, dtype=torch.int32, device=place) for n in sizes)
        chosen = tiling or Tiling.of(heads, shared_memory(place))
        tiles = tiles.view(-1, TILE_FIELDS)
        at_once = programs or resident_programs(place, chosen)
        taken = torch.zeros_like(count)
        tensors = (count, taken, tiles, blocks, starts, slots, floors)
        found = cls(capacity, heads, block_size, chosen, at_once, *tensors, room)
        if place.type == "cuda":
            found._host = [Staging.pinned(sizes) for _ in range(2)]
        return found

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        rows: int,
        heads: Heads,
        block_size: int,
        device: torch.device | str = "cpu",
        tiling: Tiling | None = None,
        floors: Floors | None = None,
    ) -> "WorkBuffers":
        """Buffers just large enough for one step, filled; `floors` as of `fill`."""
        place = torch.device(device)
        chosen = tiling or Tiling.of(heads, shared_memory(place))
        programs = resident_programs(place, chosen)
        if floors is not None:
            items = within(items, floors, block_size)
        found = plan(items, rows, block_size, heads, chosen, programs)
        if floors is not None:
            found = found.above(floors, heads.group)
        capacity = Capacity.of(found, floors is not None)
        buffers = cls.empty(capacity, heads, block_size, place, tiling=chosen)
        buffers.load(found, floors)
        return buffers

    def smaller(self, capacity: Capacity) -> "WorkBuffers":
        """Buffers with room for less, in the same memory: for steps that never run at once with those of these."""
        return replace(
            self,
            capacity=capacity,
            tiles=self.tiles[: capacity.tiles],
            blocks=self.blocks[: capacity.blocks],
            starts=self.starts[: capacity.rows + 1],
            slots=self.slots[: capacity.partials],
            floors=self.floors[: capacity.rows if capacity.floors else 1],
        )

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to do the same step: no partial results, no page-locked memory."""
        return {name: value for name, value in self.__dict__.items() if name not in ("scratch", "_host")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _host=[])
        self.scratch = Scratch.empty(self.capacity.partials, self.heads, self.count.device)

    def launches(self) -> list[TileLaunch]:
        """What computes the tiles: no more programs than there is room for tiles."""
        most = self.capacity.tiles * self.heads.kv
        shapes = self.tiling.shapes
        return [TileLaunch(s, min(most, self.programs * s.programs // self.tiling.programs)) for s in shapes]

    def fill(self, items: Sequence[Item] | ItemTable, rows: int, floors: Floors | None = None) -> Plan:
        """Plan a step and bring it to the device, without waiting for it. Rows past `rows` have no keys.

        Args:
            items: of the step.
            rows: of the batch.
            floors: `[rows]`, the first position that each row sees, if that is not 0 for all; for buffers whose
                capacity has floors.

        Raises:
            CapacityError: the step does not fit; the buffers are as they were.
        """
        if rows > self.capacity.rows:
            raise CapacityError(f"a step has {rows} rows, its buffers have room for {self.capacity.rows}")
        if floors is not None:
            size = self.block_size
            items = items.within(floors, size) if isinstance(items, ItemTable) else within(items, floors, size)
        most = Most(self.capacity.tiles, self.capacity.partials)
        found = plan(items, rows, self.block_size, self.heads, self.tiling, self.programs, most)
        if floors is not None:
            found = found.above(floors, self.heads.group)
        self.load(found, floors)
        return found

    def load(self, found: Plan, floors: Floors | None = None) -> None:
        """Bring a plan to the device, see `fill`."""
        names = ("tiles", "blocks", "partial results")
        limits = (self.capacity.tiles, self.capacity.blocks, self.capacity.partials)
        for name, needed, limit in zip(names, map(len, (found.tiles, found.blocks, found.slots)), limits, strict=True):
            if needed > limit:
                raise CapacityError(f"a step has {needed} {name}, its buffers have room for {limit}")
        starts = np.full(self.capacity.rows + 1, len(found.slots), dtype=np.int32)
        starts[: len(found.starts)] = found.starts
        count = np.array([found.large, len(found.tiles) - found.large], dtype=np.int32)
        sources = [count, found.tiles.reshape(-1), found.blocks, starts, found.slots]
        targets = [self.count, self.tiles.view(-1), self.blocks, self.starts, self.slots]
        if self.capacity.floors:
            lowest = np.zeros(self.capacity.rows, dtype=np.int32)
            lowest[: 0 if floors is None else len(floors)] = [] if floors is None else floors
            sources.append(lowest)
            targets.append(self.floors)
        elif floors is not None:
            raise ValueError("these buffers have no room for floors")
        if self._host:
            self._host.reverse()
            self._host[0].send(sources, targets)
        else:
            for source, target in zip(sources, targets, strict=True):
                target[: len(source)] = torch.from_numpy(source)


@dataclass(eq=False)
class Staging:
    """Page-locked memory from which copies to the device need not be waited for."""

    parts: list[Tensor]
    event: Any  # torch.cuda.Event: the last copies from here are done

    @classmethod
    def pinned(cls, sizes: Sequence[int], dtype: torch.dtype = torch.int32) -> "Staging":
        """Room for tensors of these sizes."""
        parts = [torch.empty(size, dtype=dtype, pin_memory=True) for size in sizes]
        return cls(parts, torch.cuda.Event())  # type: ignore[no-untyped-call]

    def send(self, sources: Sequence[Any], targets: Sequence[Tensor]) -> None:
        """Copy numpy arrays to the beginnings of tensors on the device."""
        self.event.synchronize()  # of the step before the last, so there is hardly a wait
        for source, part, target in zip(sources, self.parts, targets, strict=False):
            part[: len(source)].numpy()[:] = source
            target[: len(source)].copy_(part[: len(source)], non_blocking=True)
        self.event.record()


def resident_programs(device: torch.device, tiling: Tiling) -> int:
    """Programs that run at once on the device."""
    if device.type != "cuda":
        return SIMULATED
    return tiling.programs * int(torch.cuda.get_device_properties(device).multi_processor_count)


def shared_memory(device: torch.device) -> int:
    """Bytes of a multiprocessor of the device."""
    if device.type != "cuda":
        return PLENTY
    return int(torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor)
