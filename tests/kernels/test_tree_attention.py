"""Tree attention against plain attention, sequence by sequence, over random trees in a shuffled cache."""

import itertools
import random
from dataclasses import dataclass

import pytest
import torch

from kernels.attention.reference import plain
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.items import Item
from kernels.tree_attention.launches import NodeLaunch, StripLaunch, TailLaunch
from kernels.tree_attention.reference import tree_attention, tree_attention_output
from kernels.tree_attention.worklist import WorkList

POISON = 1e4  # in every slot that no sequence owns: finite, as the contract asks, and ruinous if it ever counts


@dataclass
class Tree:
    spans: list[Span]
    shared: list[int]
    blocks: int


def grow(levels: int, width: int, block_size: int, seed: int, chunk: int = 1, scatter: bool = True) -> Tree:
    """A tree with `levels` levels of shared nodes, each with 1 to `width` children, and a private tail per leaf."""
    rng = random.Random(seed)
    count = 4000
    order = list(range(1, count))
    if scatter:
        rng.shuffle(order)
    fresh = iter(order)
    tables: list[list[int]] = []

    def visit(table: list[int], level: int) -> None:
        if level == levels:
            tables.append(table + [next(fresh) for _ in range(rng.randint(1, 3 + chunk // block_size + 1))])
            return
        for _ in range(rng.randint(1, width)):
            visit(table + [next(fresh) for _ in range(rng.randint(1, 9))], level + 1)

    visit([next(fresh) for _ in range(rng.randint(1, 9))] if levels else [], 0)
    tables.sort()
    shared = [0]
    spans: list[Span] = []
    for one, other in itertools.pairwise(tables):
        common = 0
        while one[common] == other[common]:
            common += 1
        shared.append(common)
    for index, table in enumerate(tables):
        deepest = max(shared[index], shared[index + 1] if index + 1 < len(shared) else 0)
        length = rng.randint(deepest * block_size + 1, len(table) * block_size)
        spans.append(Span(table, min(rng.randint(1, chunk), length - deepest * block_size), length))
    return Tree(spans, shared, count)


def check(
    tree: Tree, block_size: int, heads: int, kv_heads: int, dim: int, cost: CutCost, dtype=torch.float32, zone: int = 0
) -> None:
    rows = sum(span.new for span in tree.spans)
    caches = torch.full((2, kv_heads, tree.blocks * block_size, dim), POISON, dtype=dtype)
    slots = []
    for span in tree.spans:
        at = (torch.tensor(span.table)[:, None] * block_size + torch.arange(block_size)).reshape(-1)[: span.length]
        slots.append(at)
        caches[:, :, at] = torch.randn(2, kv_heads, span.length, dim, dtype=dtype)
    query = torch.randn(heads, rows, dim, dtype=dtype).transpose(0, 1)  # not contiguous, as it comes from the model
    scale = dim**-0.5
    items = cut(tree.spans, tree.shared, block_size, cost)
    work = WorkList.of(items, rows, block_size, zone=zone, cache_blocks=tree.blocks)
    output, lse = tree_attention(query, caches[0], caches[1], work, scale)
    again = tree_attention_output(query, caches[0], caches[1], work, scale)
    assert torch.equal(output, again), "nothing of an earlier layer counts"
    assert output.dtype == dtype
    assert lse.dtype == torch.float32
    row = 0
    tolerance = 3e-5 if dtype == torch.float32 else 2e-2
    for span, at in zip(tree.spans, slots, strict=True):
        key, value = caches[0][:, at].transpose(0, 1), caches[1][:, at].transpose(0, 1)
        expected, expected_lse = plain(query[row : row + span.new], key, value, scale, diagonal=span.length - span.new)
        torch.testing.assert_close(output[row : row + span.new].float(), expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(lse[row : row + span.new], expected_lse, atol=tolerance, rtol=tolerance)
        row += span.new


HEADS = [(8, 4, 32), (4, 1, 64), (3, 3, 80), (8, 2, 128), (2, 1, 256)]
COSTS = [CutCost(0), CutCost(200), CutCost(10**9)]


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), HEADS, ids=str)
@pytest.mark.parametrize("cost", COSTS, ids=["each-node", "by-cost", "no-sharing"])
def test_decode_over_trees(levels: int, heads: int, kv_heads: int, dim: int, cost: CutCost):
    check(grow(levels, 3, 8, seed=levels), 8, heads, kv_heads, dim, cost)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", COSTS, ids=["each-node", "by-cost", "no-sharing"])
def test_chunks_and_decode_rows_together(seed: int, cost: CutCost):
    check(grow(seed % 3, 3, 4, seed=seed, chunk=13), 4, 6, 2, 32, cost)


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("scatter", [False, True], ids=["neighbours", "scattered"])
def test_block_sizes_and_places(block_size: int, scatter: bool):
    check(grow(2, 4, block_size, seed=5, chunk=5, scatter=scatter), block_size, 4, 2, 64, CutCost(0))


def test_bfloat16():
    check(grow(2, 3, 8, seed=3, chunk=4), 8, 8, 2, 64, CutCost(0), torch.bfloat16)


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 1), (4, 2)], ids=str)
@pytest.mark.parametrize("sinks", [False, True], ids=["no-sinks", "sinks"])
@pytest.mark.parametrize("blind", [0, 1], ids=["all-rows", "rows-without-keys"])
def test_rows_with_one_result_are_not_merged(heads: int, kv_heads: int, sinks: bool, blind: int):
    """The same bits as through a merge in float32, of each layer for itself."""
    dim, kind = 32, torch.bfloat16
    items = [Item(row, row + 1, [2 * row, 2 * row + 1], 0, 9 + row) for row in range(5 - blind)]
    alone = WorkList.of(items, 5, 8)
    halves = [Item(*item[:3], begin, end) for item in items for begin, end in ((0, 4), (4, item.end))]
    merged = WorkList.of(halves, 5, 8)
    assert alone.plan.levels == 1
    assert merged.plan.levels == 2
    more = {"sinks": torch.randn(heads)} if sinks else {}
    cases = [(torch.randn(5, heads, dim), torch.randn(2, kv_heads, 80, dim)) for _ in range(2)]
    outputs = [tree_attention(q.to(kind), *c.to(kind), alone, 0.2, **more) for q, c in cases]
    for (query, caches), (output, lse) in zip(cases, outputs, strict=True):
        query, caches = query.to(kind), caches.to(kind)
        wide, wide_lse = tree_attention(query.float(), *caches.float(), alone, 0.2, **more)
        assert output.dtype == kind
        assert output.is_contiguous()
        torch.testing.assert_close(output.float(), wide, atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(lse, wide_lse, atol=2e-2, rtol=2e-2)
        other = tree_attention(query, *caches, merged, 0.2, **more)[0]
        torch.testing.assert_close(output.float(), other.float(), atol=2e-2, rtol=2e-2)
        assert (output[5 - blind :] == 0).all()


def test_rows_without_items_are_zero_even_over_nan():
    cache = torch.full((1, 8, 16), torch.nan)
    work = WorkList.of([], 2, 4)
    output, lse = tree_attention(torch.randn(2, 3, 16), cache, cache, work, 1.0)
    assert (output == 0).all()
    assert (lse == -torch.inf).all()


def test_shared_node_is_one_launch_that_reads_the_cache_in_place():
    """64 sequences over one prefix: one launch for the prefix, one for all the tails, no copy of the prefix."""
    prefix = list(range(10, 138))
    spans = [Span([*prefix, 200 + i], 1, 128 * 16 + 1 + i % 16) for i in range(64)]
    work = WorkList.of(cut(spans, [0] + [128] * 63, 16), 64, 16)
    node, tails = work.plan.launches
    assert isinstance(node, NodeLaunch)
    assert node.keys == slice(160, 160 + 2048)
    assert isinstance(tails, TailLaunch)
    assert tails.blocks.tolist() == list(range(200, 264))
    assert tails.rows == slice(0, 64), "queries and results are not copied row by row"
    assert isinstance(tails.place, slice)
    assert work.plan.levels == 2


def test_tails_of_very_different_lengths_are_not_padded_to_the_longest():
    spans = [Span(list(range(100 * i, 100 * i + 64)), 1, 512 if i == 0 else 3) for i in range(40)]
    launches = WorkList.of(cut(spans, [0] * 40, 8), 40, 8).plan.launches
    padded = sum(len(launch.blocks) * 8 for launch in launches if isinstance(launch, TailLaunch))
    assert len(launches) > 1
    assert padded < 4 * (512 + 39 * 3)


def test_short_trees_are_left_to_plain_attention():
    """The crossover: a node is an item only where re-reading it would cost more than a launch."""
    table = list(range(1, 5))
    spans = [Span([*table, 10 + i], 1, 33) for i in range(2)]
    assert len(cut(spans, [0, 4], 8)) == 2
    assert len(cut(spans, [0, 4], 8, CutCost(32))) == 3


def test_a_long_prompt_of_one_sequence_is_read_in_place_though_its_tail_lies_elsewhere():
    table = [*range(50, 90), 7, 3]
    work = WorkList.of(cut([Span(table, 1, 42 * 16 - 5)], [0], 16), 1, 16)
    prompt, tail = work.plan.launches
    assert isinstance(prompt, NodeLaunch)
    assert prompt.keys == slice(50 * 16, 90 * 16)
    assert isinstance(tail, TailLaunch)
    check(Tree([Span(table, 1, 42 * 16 - 5), Span([1, 2], 2, 20)], [0, 0], 100), 16, 4, 2, 32, CutCost())
    check(Tree([Span(table, 30, 42 * 16 - 5)], [0], 100), 16, 4, 2, 32, CutCost())


@pytest.mark.parametrize("lengths", [[9, 30, 1, 17], [32, 32, 32]], ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), HEADS, ids=str)
def test_tails_in_zones_are_read_in_place(lengths: list[int], heads: int, kv_heads: int, dim: int):
    """Tails a fixed stride apart, one place empty, beside one that lies elsewhere; the last reaches the cache's end."""
    zone, size, count = 8, 4, 64
    places = [1, 2, 4, 5][: len(lengths)] if len(lengths) > 3 else [3, 5, 7]
    spans = [Span(list(range(p * zone, p * zone + 8)), 1, n) for p, n in zip(places, lengths, strict=True)]
    spans.append(Span([60 - 25, 2, 0], 1, 11))
    items = cut(spans, [0] * len(spans), size)
    work = WorkList.of(items, len(spans), size, zone=zone, cache_blocks=count)
    strip = work.plan.launches[0]
    assert isinstance(strip, StripLaunch)
    assert strip.items == len(lengths)
    caches = torch.full((2, kv_heads, count * size, dim), POISON)
    query = torch.randn(len(spans), heads, dim)
    slots = [(torch.tensor(s.table)[:, None] * size + torch.arange(size)).reshape(-1)[: s.length] for s in spans]
    for at in slots:
        caches[:, :, at] = torch.randn(2, kv_heads, len(at), dim)
    output, lse = tree_attention(query, caches[0], caches[1], work, 0.2)
    for row, at in enumerate(slots):
        key, value = (cache[:, at].transpose(0, 1) for cache in caches)
        expected, expected_lse = plain(query[row : row + 1], key, value, 0.2)
        torch.testing.assert_close(output[row : row + 1], expected, atol=3e-5, rtol=3e-5)
        torch.testing.assert_close(lse[row : row + 1], expected_lse, atol=3e-5, rtol=3e-5)


def test_strips_end_where_they_would_read_mostly_in_vain_or_past_the_cache():
    def strips(starts: list[int], lengths: list[int], cache_blocks: int = 800) -> list[int]:
        spans = [Span(list(range(b, b + 8)), 1, n) for b, n in zip(starts, lengths, strict=True)]
        work = WorkList.of(cut(spans, [0] * len(spans), 4), len(spans), 4, zone=8, cache_blocks=cache_blocks)
        return [launch.items for launch in work.plan.launches if isinstance(launch, StripLaunch)]

    assert strips([0, 8, 16, 24], [20, 20, 20, 20]) == [4]
    assert strips([0, 8, 400, 408], [20, 20, 20, 20]) == [2, 2], "a gap"
    assert strips([0, 8, 17, 24], [20, 20, 20, 20]) == [3], "another residue"
    assert strips([0, 8, 16, 24], [32, 1, 1, 1]) == [], "padding"
    assert strips([0, 8, 16, 25], [20, 20, 20, 20], cache_blocks=20) == [2], "the end"


def grouped(groups: int, each: int, blocks: int, new: int = 1, stride: int = 0) -> Tree:
    """A root of 10 blocks, `groups` nodes of `blocks` blocks below it, `each` sequences below each of them."""
    root, tables, first = list(range(10)), [], 40
    for group in range(groups):
        begin = 40 + group * stride if stride else 300 + 17 * group
        node = list(range(begin, begin + blocks))
        tables += [[*root, *node, 2000 + 3 * (first := first + 1), 2001 + 3 * first] for _ in range(each)]
    shared = [0] + [10 if i % each == 0 else 10 + blocks for i in range(1, len(tables))]
    spans = [Span(table, new, (10 + blocks) * 4 + 2 + index % 3 + new - 1) for index, table in enumerate(tables)]
    return Tree(spans, shared, 4000)


@pytest.mark.parametrize("stride", [0, 20])
def test_sibling_nodes_are_one_launch(stride: int):
    """In place where they lie a fixed stride apart, gathered elsewhere; those too long to copy, one by one."""
    tree = grouped(5, 3, 12, stride=stride)
    items = cut(tree.spans, tree.shared, 4, CutCost(0))
    work = WorkList.of(items, 15, 4, zone=stride, cache_blocks=4000)
    root, nodes, tails = work.plan.launches
    assert isinstance(root, NodeLaunch)
    assert isinstance(nodes, StripLaunch if stride else TailLaunch)
    assert (nodes.count, nodes.rows, nodes.bias.shape[1]) == (3, slice(0, 15), 5)
    assert isinstance(tails, TailLaunch)
    assert work.plan.levels == 3
    check(tree, 4, 4, 2, 32, CutCost(0), zone=stride)
    long = grouped(2, 3, 70)
    launches = WorkList.of(cut(long.spans, long.shared, 4, CutCost(0)), 6, 4).plan.launches
    assert [type(launch) for launch in launches] == [NodeLaunch] * 3 + [TailLaunch]


@pytest.mark.parametrize("zone", [0, 3])
def test_drafts_are_one_launch(zone: int):
    """Each sequence's rows see one token more than the row before; what its rows share is not told apart from it."""
    tree = grouped(4, 4, 6, new=4)
    work = WorkList.of(cut(tree.spans, tree.shared, 4, CutCost(0)), 64, 4, zone=zone, cache_blocks=4000)
    *nodes, tails = work.plan.launches
    assert len(nodes) == 2
    assert isinstance(tails, StripLaunch if zone else TailLaunch)
    assert (tails.count, tails.rows, tails.bias.shape[1:3]) == (4, slice(0, 64), (16, 4))
    check(tree, 4, 4, 2, 32, CutCost(0), zone=zone)


@pytest.mark.parametrize(
    "item",
    [Item(0, 3, [1], 0, 4), Item(0, 1, [1], 0, 5), Item(1, 1, [1], 0, 1), Item(0, 2, [1], 0, 1, causal=True)],
    ids=["rows", "keys", "empty", "causal"],
)
def test_items_out_of_range_are_refused(item: Item):
    with pytest.raises(ValueError, match="item"):
        WorkList.of([item], 2, 4)
