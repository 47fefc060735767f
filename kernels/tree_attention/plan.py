"""The plan: a step's items as tiles that fill a GPU, each a (tree node, query tile, kv split), in plain numpy.

A query of a tile is one row of the batch times one query head of a group: the query heads that share a key-value head
are computed together, so a tile of 64 queries holds 64 rows with one head each, or 9 rows and a part of the tenth with
7. A tile's keys are a split of its item's keys; every split writes partial results of its own.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item, ItemTable
from kernels.tree_attention.reach import Floors

Numbers = np.ndarray[Any, np.dtype[np.int32]]

# First query, query after the last, first token, token after the last, first block, diagonal, partial, position.
TILE_FIELDS = 8
LONGEST_HEAD = 256  # numbers
PLENTY = 160 << 10  # bytes of shared memory on a multiprocessor of an A100 or larger; others have 100 KB
LONGEST_LATENT = (512, 64)  # numbers of a key that are its value, too, and of its rest
SEES_ALL = 1 << 30  # diagonal of a tile that is not causal
FINER = (1, 2, 3, 4)  # how much finer than a fair share tiles may be cut
START = 32  # keys of a small tile in whose time a program starts and ends: an estimate
WAVES = 16  # that are checked for a nearly empty one; with more, one matters little
LARGE_WEIGHT = 2  # time of a key in a large tile over that in a small one, which only waits for memory: an estimate


class CapacityError(ValueError):
    """A step needs more room than its buffers have. Nothing was changed."""


_REGISTERS = 65536  # of a multiprocessor
_MOST_REGISTERS = 255  # of a thread


class TileShape(NamedTuple):
    """How programs for tiles of one size are compiled, and how many of them run at once."""

    queries: int
    keys: int  # per iteration
    warps: int
    stages: int  # of the software pipeline that loads keys ahead
    programs: int  # that fit on a multiprocessor at once
    precision: str
    bare: bool  # whether these are the large tiles, see `kernels.tree_attention.triton`

    @property
    def registers(self) -> int | None:
        """The most that a thread of a large tile may take on an H100, so that so many programs fit; None: any number.

        Triton 3.7 takes fewer by itself, 3.9 takes 225 where 168 spill nothing either. Small tiles need no bound, and
        have spilled with one.
        """
        most = _REGISTERS // (32 * self.warps * self.programs) // 8 * 8
        return most if self.bare and most < _MOST_REGISTERS else None


@dataclass(frozen=True)
class Tiling:
    """Sizes of tiles, and how a program runs one."""

    small: int = 16  # queries of a tile for few rows: the least that a matrix unit takes
    large: int = 64  # queries of a tile of a shared node; the same as `small`: there is one size
    keys: int = 32  # per iteration
    warps: int = 4
    stages: int = 3  # of the pipeline, of both
    programs: int = 3  # of large tiles that run at once on a multiprocessor of an H100; an A100 may have one less
    small_keys: int = 32
    small_warps: int = 4
    small_programs: int = 5
    precision: str = "tf32x3"  # of products of float32: three on the tensor cores, about as exact as one in float32

    @property
    def shapes(self) -> list[TileShape]:
        """Those of large tiles, if there are any, then those of small ones."""
        wide = TileShape(self.large, self.keys, self.warps, self.stages, self.programs, self.precision, bare=True)
        few = (self.small, self.small_keys, self.small_warps, self.stages, self.small_programs, self.precision)
        return [*([wide] if self.large > self.small else []), TileShape(*few, bare=False)]

    @classmethod
    def of(cls, heads: Heads, memory: int = PLENTY) -> "Tiling":
        """Sizes for which nothing spills and shared memory fits; `tests/kernels/test_tree_attention_compiled.py` checks
        it. Raises `ValueError` for heads that are none of `fits`.

        Args:
            heads: shape of the attention.
            memory: bytes of shared memory on a multiprocessor.
        """
        if not fits(heads):
            raise ValueError(f"heads of {heads.dim} numbers: tree attention is made for {LONGEST_HEAD} at most")
        if heads.value > LONGEST_HEAD:  # a sum of values is as wide as two heads of the widest
            small = 3 if heads.item_bytes == 2 else 2
            found = cls(large=32, warps=8, programs=1, small_keys=16, small_programs=small)
            if heads.item_bytes == 4:  # three products of each number would need more registers than there are
                return replace(found, large=16, keys=16, stages=2, small_warps=8, small_programs=1, precision="ieee")
            return found if memory >= PLENTY else replace(found, stages=2)
        wide = heads.dim > 128
        if heads.item_bytes == 4:
            found = cls(keys=16, warps=8, stages=2, programs=1, small_keys=16, small_warps=8, small_programs=1)
            return replace(found, large=16 if wide else 32)
        if wide:
            return cls(warps=8, stages=2, programs=1, small_keys=16, small_programs=3)
        return cls(small_programs=4) if heads.item_bytes == 1 else cls()  # turning 8 bits into 16 takes registers

    @classmethod
    def candidates(cls, heads: Heads, memory: int = PLENTY) -> "list[Tiling]":
        """Sizes among which a calibration chooses, each with another `large`; that of `of` first."""
        found = [cls.of(heads, memory)]
        if heads.item_bytes == 2 and heads.dim <= 128:  # keys are loaded half as often, but fewer programs fit at once
            found.append(cls(large=128, warps=8, programs=1))
        if heads.item_bytes == 2 and heads.value > LONGEST_HEAD and memory >= PLENTY:
            found.append(replace(found[0], large=64, stages=2))
        return found


def fits(heads: Heads) -> bool:
    """Whether tree attention is made for such heads."""
    longest, rest = LONGEST_LATENT
    return heads.dim <= LONGEST_HEAD or (0 < heads.shared <= longest and heads.dim - heads.shared <= rest)


class Most(NamedTuple):
    """Room for a plan."""

    tiles: int = sys.maxsize
    partials: int = sys.maxsize

    def holds(self, tiles: int, partials: int) -> bool:
        """Whether there is room for so many."""
        return tiles <= self.tiles and partials <= self.partials

    def refusal(self, tiles: int, partials: int) -> str:
        """What there is no room for."""
        what, needed, room = ("tiles", tiles, self.tiles)
        if tiles <= self.tiles:
            what, needed, room = ("partial results", partials, self.partials)
        return f"a step has {needed} {what}, its buffers have room for {room}"


class Plan(NamedTuple):
    """One step for `kernels.tree_attention.triton`, all int32."""

    tiles: Numbers  # [tiles, TILE_FIELDS], the large ones first, of each size the costliest first
    blocks: Numbers  # [entries]: the blocks of all items, one after the other
    starts: Numbers  # [rows + 1]: the partials of row `r` are `slots[starts[r]:starts[r + 1]]`
    slots: Numbers  # [partials]
    large: int  # tiles

    def above(self, floors: Floors, group: int) -> "Plan":
        """The same where each row sees nothing before its floor: tiles begin at what the first of their rows to see
        anything sees. Those that see nothing stay, empty, for their partial results are listed.
        """
        if not len(self.tiles):
            return self
        tiles = self.tiles.copy()
        bounds = np.stack((tiles[:, 0] // group, (tiles[:, 1] - 1) // group + 1), axis=1).reshape(-1)
        padded = np.append(floors, np.int32(0))  # `reduceat` takes no bound behind the last
        lowest = np.minimum.reduceat(padded, bounds)[::2]
        tiles[:, 2] = np.minimum(np.maximum(tiles[:, 2], lowest - tiles[:, 7]), np.maximum(tiles[:, 2], tiles[:, 3]))
        return self._replace(tiles=tiles)


def plan(
    items: Sequence[Item] | ItemTable,
    rows: int,
    block_size: int,
    heads: Heads,
    tiling: Tiling,
    programs: int,
    most: "Most | None" = None,
) -> Plan:
    """Cut items into tiles.

    Args:
        items: of the step, in any order; those without keys are ignored.
        rows: of the batch.
        block_size: tokens per block.
        heads: shape of the attention; every tile runs once for each key-value head.
        tiling: sizes of tiles.
        programs: how many for large tiles the GPU runs at once; keys are split until there are about as many, or as
            many as run at once of those for small tiles, where all are small.
        most: room for tiles and partial results; splits are given up to keep within it.

    Raises:
        CapacityError: there are more than `most` without any split.
        ValueError: an item is out of range.
    """
    table = items if isinstance(items, ItemTable) else ItemTable.of(items, block_size)
    if not len(table):
        nothing = np.zeros(0, dtype=np.int32)
        return Plan(nothing.reshape(0, TILE_FIELDS), nothing, np.zeros(rows + 1, dtype=np.int32), nothing, 0)
    ranges = _Ranges(table.row_begin, table.row_end, table.begin, table.end, table.causal, table.length, table.offset)
    ranges.check(rows, block_size)
    count = ranges.row_end - ranges.row_begin
    queries = count * heads.group
    size = np.where(queries > tiling.small, tiling.large, tiling.small)
    if int(size.max()) == tiling.small:
        programs = programs * tiling.small_programs // tiling.programs
    weight = np.where(queries > tiling.small, LARGE_WEIGHT, 1)
    across = -(-queries // size)  # query tiles
    # A partial result is written and read in float32 by each query head; a key is read, and its value.
    per_partial = 2 * 4 * heads.group * heads.value / (heads.token * heads.item_bytes)
    load = _Load(ranges.end - ranges.begin, weight, across, count, heads.kv)
    chunk, splits = load.split(2 * tiling.keys, programs, most or Most(), per_partial)
    partial = np.cumsum(count * splits) - count * splits

    part = np.repeat(np.arange(len(table)), count * splits)
    owner = ranges.row_begin[part] + (np.arange(len(part)) - partial[part]) % count[part]
    starts = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(np.bincount(owner, minlength=rows), out=starts[1:])
    cuts = _Cuts(size, across, weight, chunk, splits, partial, table.entry)
    tiles = _tiles(ranges, cuts, heads.group)
    large = int((across * splits)[size > tiling.small].sum())
    return Plan(tiles, table.blocks, starts, np.argsort(owner, kind="stable").astype(np.int32), large)


class _Ranges(NamedTuple):
    """The items' fields, one array each, int64."""

    row_begin: Any
    row_end: Any
    begin: Any
    end: Any
    causal: Any
    length: Any  # blocks
    offset: Any  # position of the first block

    def check(self, rows: int, block_size: int) -> None:
        """Raise `ValueError` where an item is out of range."""
        row_begin, row_end, begin, end, causal, length, _ = self
        wrong = (row_begin < 0) | (row_end <= row_begin) | (row_end > rows) | (begin < 0) | (end > length * block_size)
        wrong |= (causal != 0) & (end - begin != row_end - row_begin)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"work item out of range: rows {row_begin[at]} to {row_end[at]} of {rows}, tokens {begin[at]} to "
                f"{end[at]} of {length[at]} blocks of {block_size}{', causal' if causal[at] else ''}"
            )


class _Cuts(NamedTuple):
    """How each item is cut into tiles, one array each."""

    size: Any  # queries of a tile
    across: Any  # query tiles
    weight: Any  # time of a key in a tile
    chunk: Any  # tokens of a split
    splits: Any
    partial: Any  # its first partial result
    entry: Any  # its first entry in the block list


def _tiles(ranges: _Ranges, cuts: _Cuts, group: int) -> Numbers:
    """`[tiles, TILE_FIELDS]`, the large ones first, of each size the costliest first."""
    # Tiles of one split are neighbours: they read the same keys, which are then in the GPU's cache.
    per_item = cuts.splits * cuts.across
    item = np.repeat(np.arange(len(per_item)), per_item)
    place = np.arange(len(item)) - np.repeat(np.cumsum(per_item) - per_item, per_item)
    split, tile = place // cuts.across[item], place % cuts.across[item]
    row_begin, row_end, begin, end, causal, _, position = ranges
    first = row_begin[item] * group + tile * cuts.size[item]
    last = np.minimum(first + cuts.size[item], row_end[item] * group)
    low = begin[item] + split * cuts.chunk[item]
    high = np.minimum(low + cuts.chunk[item], end[item])
    diagonal = np.where(causal[item], begin[item] - row_begin[item], SEES_ALL)
    high = np.maximum(np.minimum(high, (last - 1) // group + diagonal + 1), low)
    count = row_end - row_begin
    offset = cuts.partial[item] + split * count[item] - row_begin[item]  # partial of a row: the row plus this
    tiles = np.stack((first, last, low, high, cuts.entry[item], diagonal, offset, position[item]), axis=1)
    order = np.lexsort((low - high, -cuts.size[item]))
    return tiles[order].astype(np.int32)


class _Load(NamedTuple):
    """The cost of a step's items, one entry each. The unit of time is a key of a small tile, in one program."""

    tokens: Any
    weight: Any  # time of a key in a tile
    across: Any  # query tiles
    count: Any  # rows
    kv_heads: int

    def split(self, step: int, programs: int, most: Most, per_partial: float) -> tuple[Any, Any]:
        """Tokens per split and number of splits of each item.

        Tiles are first cut to a fair share of the work. If these run in waves with a nearly empty last one, finer tiles
        end sooner, unless their partial results cost more.
        """
        fair = -(-int((self.tokens * self.weight * self.across).sum()) * self.kv_heads // programs)
        best: tuple[float, Any, Any] | None = None
        last = 0
        for finer in FINER:
            share = max(2 * step, -(-fair // finer))
            if share == last:
                break
            last = share
            chunk, splits, tiles, partials = self._cut(share, step)
            if not most.holds(tiles, partials):
                break
            time = self._time(chunk, splits, programs) + partials * self.kv_heads * per_partial / programs
            if best is None or time < best[0]:
                best = time, chunk, splits
        while best is None:  # too many
            if int(splits.max()) == 1:
                raise CapacityError(most.refusal(tiles, partials))
            share *= 2
            chunk, splits, tiles, partials = self._cut(share, step)
            if most.holds(tiles, partials):
                return chunk, splits
        return best[1], best[2]

    def _cut(self, share: int, step: int) -> tuple[Any, Any, int, int]:
        """Tokens per split, number of splits; tiles and partial results in all, where no tile is longer than
        `share`.
        """
        splits = -(-self.tokens * self.weight // share)
        chunk = -(-self.tokens // splits)
        chunk = -(-chunk // step) * step
        splits = -(-self.tokens // chunk)
        return chunk, splits, int((self.across * splits).sum()), int((self.count * splits).sum())

    def _time(self, chunk: Any, splits: Any, programs: int) -> float:
        """Until the last program ends, costliest tiles first: no less than the mean, and no less than what must meet
        in one program by the pigeonhole principle.
        """
        cost = chunk * self.weight + START
        tiles = splits * self.across * self.kv_heads
        order = np.argsort(-cost)
        cost, ends = cost[order], np.cumsum(tiles[order])
        waves = np.arange(1, min(WAVES, int(ends[-1] - 1) // programs) + 1)  # full waves that another one follows
        meeting = cost[np.searchsorted(ends, waves * programs, side="right")] * (waves + 1)
        return max(float((cost * tiles[order]).sum()) / programs, float(cost[0]), float(meeting.max(initial=0)))
