"""The work list: what one step's attention has to compute, for every layer alike.

An item is (queries, keys): a range of rows of the packed batch against a range of tokens in a list of cache blocks.
The batch stands in tree order, so the queries of all sequences below a node of the prefix tree are neighbours, and a
node is one item however many sequences share it. Every item writes its own partial results; `parts` says which
partials make up a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tail launches are cut where padding to the longest of a launch would cost more than a launch of its own.
TAIL_PADDING = 1024  # tokens of padding per launch
TAIL_LIMIT = 512  # tokens; a longer lone tail whose blocks are neighbours is read in place rather than gathered


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
class WorkList:
    """Items of one step, in the order of their partial results: many-row items first, then one-row items, longest
    first.

    Build it with `WorkList.of`. `table` and `blocks` are the same list as tensors, for kernels that take it whole.
    """

    items: tuple[Item, ...]
    rows: int  # rows of the batch
    block_size: int
    device: torch.device

    @classmethod
    def of(cls, items: Sequence[Item], rows: int, block_size: int, device: torch.device | str = "cpu") -> "WorkList":
        """Order `items` and leave out those without keys.

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
        single.sort(key=lambda item: item.end - item.begin, reverse=True)
        return cls((*many, *single), rows, block_size, torch.device(device))

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
    def launches(self) -> tuple[NodeLaunch | TailLaunch, ...]:
        """The items as the torch implementation runs them."""
        launches: list[NodeLaunch | TailLaunch] = []
        tails: list[Item] = []
        first = 0  # partial of the first item in `tails`
        partial = 0
        padding = 0
        for item in self.items:
            count = item.row_end - item.row_begin
            length = item.end - item.begin
            slots = self._slots(item) if count > 1 or item.begin or length > TAIL_LIMIT else None
            if slots is not None and (count > 1 or item.begin or isinstance(slots, slice)):
                launches.append(NodeLaunch(slice(item.row_begin, item.row_end), slots, item.causal, partial))
            else:
                if tails and (padding > TAIL_PADDING or partial != first + len(tails)):
                    launches.append(self._tail(tails, first))
                    tails, padding = [], 0
                if not tails:
                    first = partial
                tails.append(item)
                padding += tails[0].end - item.end
            partial += count
        if tails:
            launches.append(self._tail(tails, first))
        return tuple(launches)

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

    def _tail(self, items: Sequence[Item], partial: int) -> TailLaunch:
        size = self.block_size
        width = -(-items[0].end // size)  # longest first
        blocks = np.zeros((len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            used = -(-item.end // size)
            blocks[row, :used] = item.blocks[:used]
        lengths = np.fromiter((item.end for item in items), dtype=np.int64, count=len(items))
        hidden = np.arange(width * size)[None, :] >= lengths[:, None]
        bias = np.where(hidden, np.float32(-np.inf), np.float32(0))
        rows = np.fromiter((item.row_begin for item in items), dtype=np.int64, count=len(items))
        return TailLaunch(
            torch.from_numpy(rows).to(self.device),
            torch.from_numpy(blocks.reshape(-1)).to(self.device),
            torch.from_numpy(bias).to(self.device)[None, :, None, :],
            width,
            partial,
        )
