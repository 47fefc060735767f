"""Plans of steps: every query meets every key it should exactly once, and the GPU is full."""

import collections
import random

import numpy as np
import pytest

from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item, ItemTable
from kernels.tree_attention.plan import SEES_ALL, CapacityError, Most, Plan, Tiling, plan
from tests.kernels.test_tree_attention import grow

TILING = Tiling(small=4, large=10, keys=8)
ONE_HEAD = Heads(1, 1, 128, 2)


def met(found: Plan, group: int, block_size: int) -> tuple[collections.Counter, dict[tuple[int, int], set[int]]]:
    """How often each (row, head of the group, block, offset) is computed, and the partials that each query has."""
    pairs: collections.Counter = collections.Counter()
    partials: dict[tuple[int, int], set[int]] = collections.defaultdict(set)
    for first, last, begin, end, entry, diagonal, offset, _ in found.tiles.tolist():
        for query in range(first, last):
            row, head = divmod(query, group)
            assert row + offset not in partials[row, head], "two tiles write one partial"
            partials[row, head].add(row + offset)
            for token in range(begin, min(end, row + diagonal + 1)):
                pairs[row, head, int(found.blocks[entry + token // block_size]), token % block_size] += 1
    return pairs, partials


@pytest.mark.parametrize("programs", [1, 20, 1000])
@pytest.mark.parametrize("group", [1, 3, 8])
def test_every_query_meets_every_key_once(programs: int, group: int):
    for seed in range(4):
        block_size = random.Random(seed).choice([1, 3, 8])
        tree = grow(seed, 3, block_size, seed=seed, chunk=1 + 6 * (seed % 2))
        rows = sum(span.new for span in tree.spans)
        items = cut(tree.spans, tree.shared, block_size, CutCost(0))
        found = plan(items, rows + 2, block_size, Heads(2 * group, 2, 64, 2), TILING, programs)
        pairs, partials = met(found, group, block_size)
        expected: collections.Counter = collections.Counter()
        row = 0
        for span in tree.spans:
            for new in range(span.new):
                for token in range(span.length - span.new + new + 1):
                    for head in range(group):
                        expected[row, head, span.table[token // block_size], token % block_size] += 1
                row += 1
        assert pairs == expected
        for row in range(rows + 2):
            listed = found.slots[found.starts[row] : found.starts[row + 1]].tolist()
            assert len(set(listed)) == len(listed)
            for head in range(group):
                assert partials.get((row, head), set()) == set(listed)
        assert sorted(found.slots.tolist()) == list(range(len(found.slots)))


@pytest.mark.parametrize(
    ("rows", "tokens", "group", "kv_heads"),
    [(1, 32_768, 8, 1), (4, 8192, 7, 4), (1024, 16_384, 8, 1), (256, 1024, 1, 8), (64, 4096, 6, 2)],
    ids=str,
)
def test_the_gpu_is_full(rows: int, tokens: int, group: int, kv_heads: int):
    """The longest program does little more than its fair share, and no more programs run than that takes."""
    blocks = list(range(tokens // 16))
    spans = [Span([*blocks, 10**6 + row], 1, tokens + 1 + row % 16) for row in range(rows)]
    items = cut(spans, [0, *[len(blocks)] * (rows - 1)], 16, CutCost(0))
    programs = 2 * 132
    found = plan(items, rows, 16, Heads(group * kv_heads, kv_heads, 128, 2), Tiling(), programs)
    lengths = (found.tiles[:, 3] - found.tiles[:, 2]) * np.where(found.tiles[:, 1] - found.tiles[:, 0] > 16, 2, 1)
    share = lengths.sum() * kv_heads / programs
    assert lengths.max() <= share + 128
    nodes = (lengths > 16).sum() * kv_heads
    assert nodes >= 0.7 * programs  # splits are rounded up to whole steps
    assert list(lengths) == sorted(lengths, reverse=True), "costliest first"


def test_tiles_of_one_split_are_neighbours():
    """They read the same keys, which the second then finds in the GPU's cache."""
    found = plan([Item(0, 64, range(64), 0, 1024)], 64, 16, Heads(4, 1, 128, 2), Tiling(), 32)
    order = [(begin, first) for first, _, begin, *_ in found.tiles.tolist()]
    assert order == sorted(order)
    assert len({begin for begin, _ in order}) > 1


def test_splits_are_given_up_for_want_of_room():
    items = [Item(0, 3, range(100), 0, 1600)]
    assert len(plan(items, 3, 16, ONE_HEAD, Tiling(), 50).slots) > 9
    assert len(plan(items, 3, 16, ONE_HEAD, Tiling(), 50, Most(partials=9)).slots) <= 9
    with pytest.raises(CapacityError, match="3 partial results, its buffers have room for 2"):
        plan(items, 3, 16, ONE_HEAD, Tiling(), 50, Most(partials=2))


@pytest.mark.parametrize(
    "item",
    [Item(0, 3, [1], 0, 4), Item(0, 1, [1], 0, 5), Item(1, 1, [1], 0, 1), Item(0, 2, [1], 0, 1, causal=True)],
    ids=["rows", "keys", "empty", "causal"],
)
def test_items_out_of_range_are_refused(item: Item):
    with pytest.raises(ValueError, match="item"):
        plan([item], 2, 4, ONE_HEAD, TILING, 1)


def test_tiles_of_items_that_are_not_causal_see_all():
    found = plan([Item(0, 2, [5], 0, 3), Item(0, 2, [6], 1, 3, causal=True)], 2, 4, ONE_HEAD, TILING, 1)
    assert sorted(found.tiles[:, 5].tolist()) == [1, SEES_ALL]
    assert (found.tiles[:, 3] - found.tiles[:, 2]).sum() == 5  # tokens whose keys and values are read


def test_no_head_is_too_wide_in_silence():
    with pytest.raises(ValueError, match="320"):
        Tiling.of(Heads(1, 1, 320, 2))


def test_items_as_columns_are_planned_alike():
    """With room to grow, and after growing."""
    for seed in range(4):
        tree = grow(seed, 3, 3, seed=seed, chunk=1)
        rows = sum(span.new for span in tree.spans)
        items = [item for item in cut(tree.spans, tree.shared, 3, CutCost(0)) if item.end > item.begin]
        table = ItemTable.of(items, 3, spare=2)
        tails = np.array([at for at, item in enumerate(items) if item.rows == 1])
        longer = [item._replace(blocks=[*item.blocks[: -(-item.end // 3)], 900 + at]) for at, item in enumerate(items)]
        assert table.lengthen(tails, 900 + tails)
        table.end[tails] = -(-table.end[tails] // 3) * 3 + 1
        expected = [
            longer[at]._replace(end=-(-item.end // 3) * 3 + 1) if item.rows == 1 else item
            for at, item in enumerate(items)
        ]
        one, other = (plan(each, rows, 3, Heads(4, 2, 64, 2), TILING, 20) for each in (table, expected))
        assert met(one, 2, 3) == met(other, 2, 3)
        assert np.array_equal(one.starts, other.starts)
        assert table.lengthen(tails, tails)
        assert not table.lengthen(tails, tails)
