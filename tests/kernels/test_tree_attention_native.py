"""Tree attention in C against the definition, over random trees in a shuffled cache."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.attention.reference import plain
from kernels.native import ways
from kernels.tree_attention import native, reference
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from kernels.tree_attention.worklist import WorkList
from tests.kernels.poison import poisoned
from tests.kernels.test_tree_attention import COSTS, POISON, Tree, grow

HEADS = [(8, 4, 32), (4, 1, 64), (3, 3, 96), (12, 2, 128), (2, 1, 256), (48, 1, 32), (20, 1, 576)]
pytestmark = pytest.mark.skipif(
    not native.supports(Heads(1, 1, 32, 2)), reason="this processor lacks AVX-512 BF16, or no compiler"
)


def attend(way: int, query: Tensor, keys: Tensor, values: Tensor, work: WorkList, *score: Any, **more: Any) -> Tensor:
    """As `native.tree_attention_output`, by one of the ways that this machine has."""
    heads = Heads(query.shape[1], keys.shape[0], keys.shape[2], 2)
    return native.NativeWork.of(work, heads, way).attend(query, keys, values, *score, **more)


def check(tree: Tree, block_size: int, heads: int, kv_heads: int, dim: int, cost: CutCost) -> None:
    rows = sum(span.new for span in tree.spans)
    caches = torch.full((2, kv_heads, tree.blocks * block_size, dim), POISON, dtype=torch.bfloat16)
    slots = []
    for span in tree.spans:
        at = (torch.tensor(span.table)[:, None] * block_size + torch.arange(block_size)).reshape(-1)[: span.length]
        slots.append(at)
        caches[:, :, at] = torch.randn(2, kv_heads, span.length, dim).to(torch.bfloat16)
    query = torch.randn(heads, rows, dim).to(torch.bfloat16).transpose(0, 1)
    scale = dim**-0.5
    for in_place in (False, True):
        work = WorkList.of(cut(tree.spans, tree.shared, block_size, cost, in_place), rows, block_size)
        outputs = []
        for way in ways():
            with poisoned():
                outputs.append(attend(way, query, caches[0], caches[1], work, scale))
        row = 0
        for span, at in zip(tree.spans, slots, strict=True):
            key, value = caches[0][:, at].transpose(0, 1), caches[1][:, at].transpose(0, 1)
            expected, _ = plain(query[row : row + span.new], key, value, scale, diagonal=span.length - span.new)
            for output in outputs:
                torch.testing.assert_close(output[row : row + span.new].float(), expected, atol=2e-2, rtol=2e-2)
            row += span.new


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), HEADS, ids=str)
@pytest.mark.parametrize("cost", COSTS, ids=["each-node", "by-cost", "no-sharing"])
def test_decode_over_trees(levels: int, heads: int, kv_heads: int, dim: int, cost: CutCost):
    check(grow(levels, 3, 8, seed=levels), 8, heads, kv_heads, dim, cost)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", COSTS, ids=["each-node", "by-cost", "no-sharing"])
def test_chunks_and_decode_rows_together(seed: int, cost: CutCost):
    check(grow(seed % 3, 3, 4, seed=seed, chunk=70), 4, 6, 2, 32, cost)


@pytest.mark.parametrize("block_size", [1, 3, 16, 100])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 700, 2050])
def test_block_sizes_and_lengths(block_size: int, length: int):
    count = -(-length // block_size) + 1
    tables = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    for new in {1, min(length, 30)}:
        check(Tree([Span(tables, new, length)], [0], count), block_size, 12, 2, 64, CutCost())


def test_large_scores_keep_their_order():
    """Maxima that rise from block to block, and scores far below them."""
    keys = torch.randn(1, 256, 32).to(torch.bfloat16) * torch.linspace(1, 60, 256)[:, None].to(torch.bfloat16)
    values, query = torch.randn(1, 256, 32).to(torch.bfloat16), torch.randn(3, 2, 32).to(torch.bfloat16)
    work = WorkList.of([Item(0, 3, list(range(16)), 0, 256)], 3, 16)
    expected = reference.tree_attention_output(query.float(), keys.float(), values.float(), work, 1.0)
    for way in ways():
        found = attend(way, query, keys, values, work, 1.0)
        torch.testing.assert_close(found.float(), expected, atol=3e-2, rtol=3e-2)


def test_what_is_no_number_is_seen():
    keys, values = torch.randn(2, 1, 64, 32).to(torch.bfloat16)
    query = torch.randn(2, 1, 32).to(torch.bfloat16)
    query[1] = torch.nan
    work = WorkList.of([Item(0, 2, list(range(4)), 0, 64)], 2, 16)
    for way in ways():
        found = attend(way, query, keys, values, work, 1.0)
        assert torch.isfinite(found[0]).all()
        assert torch.isnan(found[1]).all()


def test_rows_without_items_are_zero():
    cache = torch.zeros(1, 8, 32, dtype=torch.bfloat16)
    work = WorkList.of([], 2, 4)
    with poisoned():
        output = native.tree_attention_output(torch.randn(2, 3, 32).to(torch.bfloat16), cache, cache, work, 1.0)
    assert (output == 0).all()


def test_a_work_list_serves_layer_after_layer():
    caches = torch.randn(2, 2, 64, 32).to(torch.bfloat16)
    query = torch.randn(2, 4, 32).to(torch.bfloat16)
    items = [Item(0, 2, [0, 1], 0, 32), Item(0, 1, [2], 0, 9), Item(1, 2, [3], 0, 16)]
    work = native.NativeWork.of(WorkList.of(items, 2, 16), Heads(4, 2, 32, 2))
    first = work.attend(query, caches[0], caches[1], 0.2)
    work.attend(query * 3, caches[1], caches[0], 0.2)
    assert torch.equal(work.attend(query, caches[0], caches[1], 0.2), first)


def test_other_heads_are_left_to_torch():
    assert not native.supports(Heads(4, 2, 80, 2))
    assert not native.supports(Heads(4, 2, 64, 4))
    assert not native.supports(Heads(4, 2, 608, 2))
