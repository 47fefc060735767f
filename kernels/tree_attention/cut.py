"""Cuts the running sequences' prefix tree into work items, with the rule that says which nodes are worth one. Sequences
are in tree order: sorted by block table, so that those below a node are neighbours. The tree follows from the numbers
of leading blocks that neighbours' tables have in common (its nodes are the intervals of the longest-common-prefix
array).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.items import Item

# A sequence's own tokens, if they begin with a run of neighbouring blocks at least this long (its prompt was
# allocated at once), are cut after it: the run is then read in place, and only what was added block by block is
# gathered.
RUN_TOKENS = 256


@dataclass(frozen=True)
class CutCost:
    """When shared nodes get items of their own rather than being read again in the tail of each sequence below them.

    Items cost a launch and one more partial result to merge; re-reading costs every sequence but the first the nodes'
    tokens. Sibling nodes are one launch on a CPU (`kernels.tree_attention.launches`), so they are weighed together. The
    default is the break-even on a CPU with caches cold, as between a model's products, and is about the same for 4 kv
    heads of 32 as for 2 of 128: what a launch costs grows with the rows that it merges (`make bench`,
    `bench_attention`).
    """

    item_tokens: int = 500  # re-read tokens that cost as much as one launch

    def keeps(self, sequences: int, tokens: int, siblings: int = 1) -> bool:
        """See `kernels.tree_attention.cost.CutRule`."""
        return (sequences - 1) * tokens * siblings >= self.item_tokens


class Span(NamedTuple):
    """One sequence's part of a step: `new` rows of the batch, the last of `length` tokens whose blocks `table`
    lists.
    """

    table: Sequence[int]
    new: int
    length: int


class _Node(NamedTuple):
    begin: int  # first block
    end: int  # block after the last
    first: int  # first sequence
    last: int  # sequence after the last


def cut(
    spans: Sequence[Span], shared: Sequence[int], block_size: int, cost: CutRule | None = None, in_place: bool = True
) -> list[Item]:
    """Items of one step.

    Args:
        spans: the batch in tree order; the rows of `spans[i]` follow those of `spans[i - 1]`.
        shared: `shared[i]` leading blocks are common to the tables of `spans[i - 1]` and `spans[i]`; `shared[0]` is
            0. Shared blocks must be full of tokens older than any new row.
        block_size: tokens per block.
        cost: the rule that keeps or merges nodes.
        in_place: whether a long run of neighbouring blocks at a sequence's beginning gets an item of its own.

    Returns:
        Items for `WorkList.of`: every row meets each token of its sequence up to its own position exactly once.
    """
    rule = cost or CutCost()
    starts = [0]
    for span in spans:
        starts.append(starts[-1] + span.new)
    items: list[Item] = []
    covered = [0] * len(spans)  # blocks of each sequence that items already cover
    nodes = _nodes(shared, len(spans))
    levels = _levels(nodes, len(spans))
    alike = Counter((level, node.last - node.first) for node, level in zip(nodes, levels, strict=True))
    for node, level in zip(nodes, levels, strict=True):
        begin = covered[node.first]
        tokens = (node.end - begin) * block_size
        sequences = node.last - node.first
        if not rule.keeps(sequences, tokens, alike[level, sequences]):
            continue
        blocks = spans[node.first].table[begin : node.end]
        items.append(Item(starts[node.first], starts[node.last], blocks, 0, tokens, offset=begin * block_size))
        covered[node.first : node.last] = [node.end] * (node.last - node.first)
    for index, span in enumerate(spans):
        skipped = covered[index] * block_size
        blocks = span.table[covered[index] :] if skipped else span.table
        row = starts[index]
        known = span.length - skipped - (span.new if span.new > 1 else 0)
        run = _first_run(blocks, -(-known // block_size)) if in_place and known > RUN_TOKENS else 0
        if RUN_TOKENS <= run * block_size < known:
            items.append(Item(row, row + span.new, blocks[:run], 0, run * block_size, offset=skipped))
            blocks, known = blocks[run:], known - run * block_size
            skipped += run * block_size
        if known:
            items.append(Item(row, row + span.new, blocks, 0, known, offset=skipped))
        if span.new > 1:
            items.append(Item(row, row + span.new, blocks, known, known + span.new, True, skipped))
    return items


def _first_run(blocks: Sequence[int], count: int) -> int:
    """How many of the first `count` blocks follow one another in the cache."""
    first = np.asarray(blocks[:count], dtype=np.int64)
    breaks = np.flatnonzero(np.diff(first) != 1)
    return int(breaks[0]) + 1 if breaks.size else count


def _levels(nodes: Sequence[_Node], count: int) -> list[int]:
    """How many nodes are above each of `nodes`, which are in the order of `_nodes`."""
    above = np.zeros(count, dtype=np.int64)
    levels = []
    for node in nodes:
        levels.append(int(above[node.first]))
        above[node.first : node.last] += 1
    return levels


def _nodes(shared: Sequence[int], count: int) -> list[_Node]:
    """Nodes that at least two sequences share, parents before children."""
    nodes: list[_Node] = []
    open_nodes: list[tuple[int, int]] = []  # (depth in blocks, first sequence), depths rising
    for index in range(1, count + 1):
        depth = shared[index] if index < count else 0
        first = index - 1
        while open_nodes and open_nodes[-1][0] > depth:
            end, first = open_nodes.pop()
            begin = max(depth, open_nodes[-1][0] if open_nodes else 0)
            nodes.append(_Node(begin, end, first, index))
        if depth and (not open_nodes or open_nodes[-1][0] < depth):
            open_nodes.append((depth, first))
    nodes.sort()
    return nodes
