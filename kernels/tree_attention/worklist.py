"""The work list: what one step's attention has to compute, for every layer alike.

An item is (queries, keys): a range of rows of the packed batch against a range of tokens in a list of cache blocks.
The batch stands in tree order, so the queries of all sequences below a node of the prefix tree are neighbours, and a
node is one item however many sequences share it. Every item writes its own partial results; `parts` says which
partials make up a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tail launches are cut where padding to the longest of a launch would cost more than a launch of its own.
TAIL_PADDING = 1024  # tokens of padding per launch
TAIL_LIMIT = 512  # tokens; a longer lone tail whose blocks are neighbours is read in place rather than gathered
STRIP_GAP = 3  # zones in a row without a tail that a strip reads in vain rather than ending
STRIP_WASTE = 3  # times as many tokens as count may be read by a strip: a gather moves each token three times


class Item(NamedTuple):
    """Rows `row_begin..row_end` of the batch against tokens `begin..end` of `blocks` (counted from the first block's
    start).
    """

    row_begin: int
    row_end: int
    blocks: Sequence[int]
    begin: int
    end: int
    causal: bool = False  # row `row_begin + j` sees only tokens `begin..begin + j`


@dataclass(frozen=True, eq=False)
class NodeLaunch:
    """One item on its own: all its rows against keys that are a slice of the cache, or a gathered copy of it."""

    rows: slice
    keys: slice | Tensor  # slots: a slice where blocks are neighbours, otherwise `[keys]` int64
    causal: bool
    partial: int  # first partial slot


@dataclass(frozen=True, eq=False)
class TailLaunch:
    """Many one-row items at once, gathered by block and padded to the longest of this launch."""

    rows: Tensor  # [items] int64
    blocks: Tensor  # [items * width] int64, padded with block 0
    bias: Tensor  # [1, items, 1, width * block_size] float32: 0 where a key counts, -inf in the padding
    width: int  # blocks per item
    partial: int  # first partial slot


@dataclass(frozen=True, eq=False)
class StripLaunch:
    """Many one-row items at once, read in place: their tokens begin at slots that are a fixed stride apart.

    The strip has `places` places, `stride` slots apart, from slot `first` on; an item sits at each place in `at`.
    """

    rows: Tensor  # [places] int64; places without an item repeat a row, and their result is dropped
    at: Tensor  # [items] int64, rising
    bias: Tensor  # [1, places, 1, length] float32: 0 where a key counts, -inf elsewhere
    first: int
    stride: int
    length: int
    partial: int  # first partial slot


@dataclass(frozen=True, eq=False)
class WorkList:
    """Items of one step, in the order of their partial results: many-row items, strips, then one-row items by length.

    Build it with `WorkList.of`. `table` and `blocks` are the same list as tensors, for kernels that take it whole.
    """

    items: tuple[Item, ...]
    rows: int  # rows of the batch
    block_size: int
    device: torch.device
    strips: tuple[tuple[int, int], ...] = ()  # ranges of items, each a strip
    zone: int = 0  # blocks

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        rows: int,
        block_size: int,
        device: torch.device | str = "cpu",
        zone: int = 0,
        cache_blocks: int = 0,
    ) -> "WorkList":
        """Order `items`, leave out those without keys, and find strips.

        Args:
            items: in any order.
            rows: of the batch.
            block_size: tokens per block.
            device: of the tensors.
            zone: blocks between the places where the cache puts the tails of different sequences; 0: there is no such
                rule.
            cache_blocks: size of the cache; needed with `zone`, for a strip must not reach past the cache's end.

        Raises:
            ValueError: an item reaches past its blocks or past the batch, or a causal one is not as long as its rows.
        """
        many: list[Item] = []
        single: list[Item] = []
        for item in items:
            count = item.row_end - item.row_begin
            if count < 1 or item.begin < 0 or item.row_end > rows or item.end > len(item.blocks) * block_size:
                raise ValueError(f"work item out of range: {item} in a batch of {rows} rows")
            if item.causal and item.end - item.begin != count:
                raise ValueError(f"a causal item needs as many keys as rows: {item}")
            if item.end > item.begin:
                (single if count == 1 else many).append(item)
        strips = _find_strips(single, zone, block_size, cache_blocks) if zone else []
        ranges = []
        for strip in strips:
            ranges.append((len(many), len(many) + len(strip)))
            many.extend(strip)
        taken = {id(item) for strip in strips for item in strip}
        rest = [item for item in single if id(item) not in taken]
        rest.sort(key=lambda item: item.end - item.begin, reverse=True)
        return cls((*many, *rest), rows, block_size, torch.device(device), tuple(ranges), zone)

    @cached_property
    def partials(self) -> int:
        """Number of partial results, not counting the empty one at the end that unused places of `parts` point to."""
        return sum(item.row_end - item.row_begin for item in self.items)

    @cached_property
    def parts(self) -> Tensor:
        """`[rows, width]` int64: the partials of each row; unused places hold `partials`, the empty one."""
        filled = np.zeros(self.rows, dtype=np.int64)
        first = 0
        places: list[tuple[Item, int]] = []
        for item in self.items:
            places.append((item, first))
            filled[item.row_begin : item.row_end] += 1
            first += item.row_end - item.row_begin
        parts = np.full((self.rows, max(1, int(filled.max(initial=0)))), first, dtype=np.int64)
        filled[:] = 0
        for item, partial in places:
            count = item.row_end - item.row_begin
            if count == 1:
                parts[item.row_begin, filled[item.row_begin]] = partial
                filled[item.row_begin] += 1
            else:
                rows = np.arange(item.row_begin, item.row_end)
                parts[rows, filled[rows]] = np.arange(partial, partial + count)
                filled[rows] += 1
        return torch.from_numpy(parts).to(self.device)

    @cached_property
    def table(self) -> Tensor:
        """`[items, 7]` int32: row_begin, row_end, first entry in `blocks`, begin, end, causal, first partial."""
        rows = []
        first_block = partial = 0
        for item in self.items:
            entry = (item.row_begin, item.row_end, first_block, item.begin, item.end, int(item.causal), partial)
            rows.append(entry)
            first_block += len(item.blocks)
            partial += item.row_end - item.row_begin
        return torch.tensor(rows, dtype=torch.int32, device=self.device).reshape(-1, 7)

    @cached_property
    def blocks(self) -> Tensor:
        """`[entries]` int32: the blocks of all items, one after the other."""
        return torch.tensor([b for item in self.items for b in item.blocks], dtype=torch.int32, device=self.device)

    @cached_property
    def launches(self) -> tuple[NodeLaunch | StripLaunch | TailLaunch, ...]:
        """The items as the torch implementation runs them."""
        launches: list[NodeLaunch | StripLaunch | TailLaunch] = []
        ends = dict(self.strips)
        strip_end = 0
        tails: list[Item] = []
        first = 0  # partial of the first item in `tails`
        partial = 0
        padding = 0
        for index, item in enumerate(self.items):
            count = item.row_end - item.row_begin
            length = item.end - item.begin
            if index in ends:
                strip_end = ends[index]
                launches.append(self._strip(self.items[index:strip_end], partial))
            if index < strip_end:
                partial += count
                continue
            slots = self._slots(item) if count > 1 or item.begin or length > TAIL_LIMIT else None
            if slots is not None and (count > 1 or item.begin or isinstance(slots, slice)):
                launches.append(NodeLaunch(slice(item.row_begin, item.row_end), slots, item.causal, partial))
            else:
                if tails and (padding > TAIL_PADDING or partial != first + len(tails)):
                    launches.append(self._tails(tails, first))
                    tails, padding = [], 0
                if not tails:
                    first = partial
                tails.append(item)
                padding += tails[0].end - item.end
            partial += count
        if tails:
            launches.append(self._tails(tails, first))
        return tuple(launches)

    def _tails(self, items: Sequence[Item], partial: int) -> NodeLaunch | TailLaunch:
        """One launch; a lone tail whose blocks are neighbours is read in place."""
        slots = self._slots(items[0]) if len(items) == 1 else None
        if isinstance(slots, slice):
            return NodeLaunch(slice(items[0].row_begin, items[0].row_end), slots, False, partial)
        return self._tail(items, partial)

    def _slots(self, item: Item) -> slice | Tensor:
        """Slots of an item's keys: a slice where its blocks are neighbours in the cache."""
        size = self.block_size
        used = np.asarray(item.blocks[item.begin // size : (item.end - 1) // size + 1], dtype=np.int64)
        offset = item.begin % size
        length = item.end - item.begin
        if used.size == 1 or bool((np.diff(used) == 1).all()):
            start = int(used[0]) * size + offset
            return slice(start, start + length)
        slots = (used[:, None] * size + np.arange(size)).reshape(-1)[offset : offset + length]
        return torch.from_numpy(slots).to(self.device)

    def _strip(self, items: Sequence[Item], partial: int) -> StripLaunch:
        first = items[0].blocks[0]
        at = [(item.blocks[0] - first) // self.zone for item in items]
        rows = np.full(at[-1] + 1, items[0].row_begin, dtype=np.int64)
        lengths = np.zeros(at[-1] + 1, dtype=np.int64)
        rows[at] = [item.row_begin for item in items]
        lengths[at] = [item.end for item in items]
        longest = int(lengths.max())
        return StripLaunch(
            torch.from_numpy(rows).to(self.device),
            torch.tensor(at, device=self.device),
            self._bias(lengths, longest),
            first * self.block_size,
            self.zone * self.block_size,
            longest,
            partial,
        )

    def _bias(self, lengths: "np.ndarray[Any, Any]", longest: int) -> Tensor:
        """`[1, items, 1, longest]`: 0 for the first tokens of each item, -inf behind them."""
        hidden = np.arange(longest)[None, :] >= lengths[:, None]
        bias = np.where(hidden, np.float32(-np.inf), np.float32(0))
        return torch.from_numpy(bias).to(self.device)[None, :, None, :]

    def _tail(self, items: Sequence[Item], partial: int) -> TailLaunch:
        size = self.block_size
        width = -(-items[0].end // size)  # longest first
        blocks = np.zeros((len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            used = -(-item.end // size)
            blocks[row, :used] = item.blocks[:used]
        lengths = np.fromiter((item.end for item in items), dtype=np.int64, count=len(items))
        rows = np.fromiter((item.row_begin for item in items), dtype=np.int64, count=len(items))
        return TailLaunch(
            torch.from_numpy(rows).to(self.device),
            torch.from_numpy(blocks.reshape(-1)).to(self.device),
            self._bias(lengths, width * size),
            width,
            partial,
        )


def _find_strips(items: Sequence[Item], zone: int, block_size: int, cache_blocks: int) -> list[list[Item]]:
    """Groups of one-row items whose blocks are neighbours and begin at places `zone` blocks apart, in order of
    place.
    """
    classes: dict[int, list[Item]] = {}
    for item in items:
        used = -(-item.end // block_size)
        start = item.blocks[0]
        inside = used <= zone <= cache_blocks - start
        if item.begin == 0 and inside and list(item.blocks[:used]) == list(range(start, start + used)):
            classes.setdefault(start % zone, []).append(item)
    strips: list[list[Item]] = []
    for found in classes.values():
        found.sort(key=lambda item: item.blocks[0])
        group: list[Item] = []
        for item in found:
            step = (item.blocks[0] - group[-1].blocks[0]) // zone if group else 0
            if group and not 1 <= step <= STRIP_GAP + 1:
                strips.append(group)
                group = []
            group.append(item)
        strips.append(group)
    return [strip for strip in strips if _worth_a_strip(strip, zone)]


def _worth_a_strip(strip: Sequence[Item], zone: int) -> bool:
    places = (strip[-1].blocks[0] - strip[0].blocks[0]) // zone + 1
    counted = sum(item.end for item in strip)
    return len(strip) > 1 and places * max(item.end for item in strip) <= STRIP_WASTE * counted
