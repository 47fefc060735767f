"""How far back a token sees: sliding windows and chunks, as a lowest position for every row of a step.

Layers that see less than everything get a work list of their own, made from the items of all tokens: what is older than
every row of an item needs is cut off, whole blocks at a time, also where sequences share it. What remains is masked row
by row, since the rows of a shared node end at different positions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.tree_attention.items import Item

Floors = np.ndarray[Any, np.dtype[np.int32]]


class Reach(NamedTuple):
    """Which tokens up to itself a token sees; the default is all of them."""

    window: int = 0  # the last that many tokens, itself included; 0: no window
    chunk: int = 0  # those of its own chunk, where chunks of that many tokens follow one another; 0: no chunks
    most: int = 0  # of these, so many that are chosen for it, see `kernels.sparse_attention`; 0: all

    @property
    def from_floor(self) -> bool:
        """Whether tokens do not see those before some position."""
        return bool(self.window or self.chunk)

    @property
    def passes(self) -> bool:
        """Whether what a token does not see is seen by none behind it, so that layers need not keep it."""
        return self.from_floor and not self.most

    @property
    def span(self) -> int:
        """Tokens that a token sees at most, itself included; 0: there is no bound."""
        return self.window or self.chunk

    def floor(self, position: int) -> int:
        """The first position that the token at `position` sees."""
        if self.chunk:
            return position // self.chunk * self.chunk
        return max(0, position - self.window + 1) if self.window else 0

    def floors(self, positions: Sequence[int] | np.ndarray[Any, Any]) -> Floors | None:
        """`[rows]` int32: the first position that tokens at `positions` see; `None`: they all see everything."""
        at = np.asarray(positions, dtype=np.int32)
        if self.chunk:
            found = at // self.chunk * self.chunk
        elif self.window:
            found = np.maximum(at - self.window + 1, 0)
        else:
            return None
        return found if found.any() else None


FULL = Reach()


def within(items: Sequence[Item], floors: Floors, block_size: int) -> list[Item]:
    """Items without the blocks that none of their rows sees, and without those items that no row sees.

    Args:
        items: as of `kernels.tree_attention.cut`.
        floors: `[rows]`, the first position that each row sees.
        block_size: tokens per block.
    """
    found: list[Item] = []
    sliced: dict[tuple[int, int], Sequence[int]] = {}  # items that list the same blocks still do afterwards
    for item in items:
        low = int(floors[item.row_begin : item.row_end].min()) - item.offset
        start = max(item.begin, low)
        if start >= item.end and not item.causal:
            continue
        gone = max(0, min(low, item.begin if item.causal else start)) // block_size
        if gone:
            key = (id(item.blocks), gone)
            blocks = sliced.setdefault(key, item.blocks[gone:])
            tokens = gone * block_size
            begin = item.begin - tokens if item.causal else max(item.begin - tokens, 0)
            item = Item(
                item.row_begin, item.row_end, blocks, begin, item.end - tokens, item.causal, item.offset + tokens
            )
        found.append(item)
    return found


def moved(items: Sequence[Item], floors: Floors | None, block_size: int, where: np.ndarray[Any, Any]) -> list[Item]:
    """Items of layers that keep their blocks elsewhere, without what none of their rows sees.

    Args:
        items: as of `kernels.tree_attention.cut`.
        floors: `[rows]`, the first position that each row sees; `None`: they see everything.
        block_size: tokens per block.
        where: `[blocks]`, the place of each block; -1: it has none, and no row sees it. Block 0 is listed for it.
    """
    found: list[Item] = []
    lists: dict[int, Sequence[int]] = {}  # items that list the same blocks still do afterwards
    kept = items if floors is None else within(items, floors, block_size)
    for item in kept:
        blocks = lists.get(id(item.blocks))
        if blocks is None:
            blocks = lists[id(item.blocks)] = np.maximum(where[list(item.blocks)], 0).tolist()
        found.append(item._replace(blocks=blocks))
    return found
