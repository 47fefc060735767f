"""Work items: what attention computes, as rows of the batch against tokens of the cache."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Item(NamedTuple):
    """Rows `row_begin..row_end` of the batch against tokens `begin..end` of `blocks` (counted from the first block's
    start).
    """

    row_begin: int
    row_end: int
    blocks: Sequence[int]
    begin: int
    end: int
    causal: bool = False  # row `row_begin + j` sees only tokens up to `end - (row_end - row_begin) + j`
    offset: int = 0  # position of the first block's first token, in each sequence of the rows

    @property
    def rows(self) -> int:
        """Rows."""
        return self.row_end - self.row_begin

    @property
    def length(self) -> int:
        """Tokens."""
        return self.end - self.begin


@dataclass(eq=False)
class ItemTable:
    """Items with keys as columns: planned without a look at each, and changed in place where their ends move on."""

    row_begin: Numbers
    row_end: Numbers
    begin: Numbers
    end: Numbers
    causal: Numbers
    length: Numbers  # blocks
    offset: Numbers
    entry: Numbers  # of an item's first block in `blocks`
    blocks: np.ndarray[Any, np.dtype[np.int32]]  # of all items, each with what it uses and its spare room
    used: Numbers  # blocks that an item lists
    room: Numbers  # of which it has at most

    @classmethod
    def of(cls, items: Sequence[Item], block_size: int, spare: int = 0) -> "ItemTable":
        """Columns of items; those without keys are left out. `spare`: blocks that each of one row may grow by."""
        found = [item for item in items if item.end > item.begin]
        rows = [(i.row_begin, i.row_end, i.begin, i.end, i.causal, len(i.blocks), i.offset) for i in found]
        row_begin, row_end, begin, end, causal, length, offset = np.array(rows, dtype=np.int64).reshape(-1, 7).T.copy()
        used = -(-end // block_size)
        room = used + np.where(row_end - row_begin == 1, spare, 0)
        entry = np.cumsum(room) - room
        lists = itertools.chain.from_iterable(i.blocks[: -(-i.end // block_size)] for i in found)
        flat = np.fromiter(lists, dtype=np.int32)
        if spare:
            blocks = np.zeros(int(room.sum()), dtype=np.int32)
            blocks[np.repeat(entry - (np.cumsum(used) - used), used) + np.arange(len(flat))] = flat
        else:
            blocks = flat
        return cls(row_begin, row_end, begin, end, causal, length, offset, entry, blocks, used, room)

    def __len__(self) -> int:
        return len(self.end)

    def items(self) -> list[Item]:
        """The same one by one."""
        columns = (self.row_begin, self.row_end, self.entry, self.used, self.begin, self.end, self.causal, self.offset)
        return [
            Item(first, last, self.blocks[entry : entry + used].tolist(), begin, end, bool(causal), offset)
            for first, last, entry, used, begin, end, causal, offset in zip(*(c.tolist() for c in columns), strict=True)
        ]

    def within(self, floors: np.ndarray[Any, Any], block_size: int) -> "ItemTable":
        """See `kernels.tree_attention.reach.within`."""
        bounds = np.stack((self.row_begin, self.row_end), axis=1).reshape(-1)
        padded = np.append(floors, 0)  # `reduceat` takes no bound behind the last
        low = np.minimum.reduceat(padded, bounds)[::2] - self.offset if len(self) else self.offset
        start = np.maximum(self.begin, low)
        gone = np.maximum(0, np.minimum(low, np.where(self.causal, self.begin, start))) // block_size
        tokens = gone * block_size
        changed = replace(
            self,
            begin=np.maximum(self.begin - tokens, 0),
            end=self.end - tokens,
            length=self.length - gone,
            offset=self.offset + tokens,
            entry=self.entry + gone,
            used=self.used - gone,
            room=self.room - gone,
        )
        kept = (start < self.end) | (self.causal != 0)
        return changed if kept.all() else changed._only(kept)

    def _only(self, kept: np.ndarray[Any, Any]) -> "ItemTable":
        """Some of the items."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: column[kept] for name, column in columns.items() if name != "blocks"})

    def moved(self, where: np.ndarray[Any, Any]) -> "ItemTable":
        """The same where each block is at `where`, `[blocks]`; block 0 is listed where that is -1."""
        return replace(self, blocks=np.maximum(where[self.blocks], 0).astype(np.int32))

    def lengthen(self, items: Numbers, blocks: Numbers) -> bool:
        """Give each of some items one block more; whether they have room."""
        if (self.used[items] >= self.room[items]).any():
            return False
        self.blocks[self.entry[items] + self.used[items]] = blocks
        self.used[items] += 1
        self.length[items] = np.maximum(self.length[items], self.used[items])
        return True
