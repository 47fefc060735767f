"""The work list: what one step's attention has to compute, for every layer alike.

An item is (queries, keys): a range of rows of the packed batch against a range of tokens in a list of cache blocks.
The batch is in tree order, so the queries of all sequences below a node of the prefix tree are neighbours, and a node
is one item however many sequences share it. `kernels.tree_attention.launches` says how torch runs the list,
`kernels.tree_attention.plan` how a GPU does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from kernels.tree_attention.items import Item
from kernels.tree_attention.launches import Launches, Place, plan_launches
from kernels.tree_attention.reach import Floors, within


@dataclass(frozen=True, eq=False)
class WorkList:
    """The items of one step, without those that have no keys. Build it with `WorkList.of`."""

    items: tuple[Item, ...]
    rows: int  # rows of the batch
    block_size: int
    device: torch.device
    zone: int = 0  # blocks
    cache_blocks: int = 0
    floors: Floors | None = None  # [rows], the first position that each row sees; `None`: all see everything

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        rows: int,
        block_size: int,
        device: torch.device | str = "cpu",
        zone: int = 0,
        cache_blocks: int = 0,
        floors: Floors | None = None,
    ) -> "WorkList":
        """Check `items`, and leave out those without keys.

        Args:
            items: parents before children, where there are such.
            rows: of the batch.
            block_size: tokens per block.
            device: of the tensors.
            zone: blocks between the places where the cache puts the tails of different sequences; 0: there is no such
                rule.
            cache_blocks: size of the cache; needed with `zone`, because nothing may be read past the cache's end.
            floors: `[rows]`, the first position that each row sees, see `kernels.tree_attention.reach`; what no row
                of an item sees is left out of it.

        Raises:
            ValueError: an item reaches past its blocks or past the batch, or a causal one is not as long as its rows.
        """
        for item in items:
            count = item.row_end - item.row_begin
            if count < 1 or item.begin < 0 or item.row_end > rows or item.end > len(item.blocks) * block_size:
                raise ValueError(f"work item out of range: {item} in a batch of {rows} rows")
            if item.causal and item.end - item.begin != count:
                raise ValueError(f"a causal item needs as many keys as rows: {item}")
        kept = [item for item in items if item.end > item.begin]
        if floors is not None:
            kept = within(kept, floors, block_size)
        return cls(tuple(kept), rows, block_size, torch.device(device), zone, cache_blocks, floors)

    @cached_property
    def plan(self) -> Launches:
        """The items as the torch implementation runs them."""
        place = Place(self.block_size, self.device, self.zone, self.cache_blocks)
        return plan_launches(self.items, self.rows, place, self.floors)
