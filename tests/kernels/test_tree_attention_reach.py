"""Windows, chunks, soft caps and sinks: every implementation against plain attention, sequence by sequence.

What no row may see is ruinous if it ever counts: keys older than every window of a sequence are huge in the cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from kernels.attention.reference import plain
from kernels.native import ways
from kernels.tree_attention import reference, triton
from kernels.tree_attention.buffers import Capacity, WorkBuffers
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import ItemTable
from kernels.tree_attention.plan import Tiling
from kernels.tree_attention.reach import FULL, Reach, moved, within
from kernels.tree_attention.worklist import WorkList
from tests.kernels.interpreting import DEVICE
from tests.kernels.test_tree_attention import Tree, grow
from tests.kernels.test_tree_attention_native import attend

pytestmark = pytest.mark.gpu

IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], torch.dtype, float]] = {
    "torch": (reference.tree_attention_output, torch.float32, 3e-5),
    "triton": (lambda *args, **more: triton.tree_attention(*args, **more)[0], torch.float32, 3e-5),
}
for way in ways():
    IMPLEMENTATIONS[f"native-{way}"] = (partial(attend, way), torch.bfloat16, 2e-2)
EVERYWHERE = pytest.mark.parametrize("name", IMPLEMENTATIONS)


def positions(tree: Tree) -> list[int]:
    """Of the rows."""
    return [at for span in tree.spans for at in range(span.length - span.new, span.length)]


def check(
    name: str,
    tree: Tree,
    reach: Reach,
    size: int = 8,
    cap: float | None = None,
    sinks: bool = False,
    cost: CutCost | None = None,
) -> None:
    compute, dtype, tolerance = IMPLEMENTATIONS[name]
    heads, kv_heads, dim = 6, 2, 32
    generator = torch.Generator().manual_seed(0)
    rows, count = positions(tree), len(positions(tree))
    caches = torch.randn(2, kv_heads, tree.blocks * size, dim, generator=generator)
    floors = reach.floors(rows)
    spans = [(torch.tensor(s.table)[:, None] * size + torch.arange(size)).reshape(-1)[: s.length] for s in tree.spans]
    lowest: dict[int, int] = {}  # of each slot, by how much it lies above the lowest floor of its sequences
    row = 0
    for span, at in zip(tree.spans, spans, strict=True):
        first = 0 if floors is None else int(floors[row])
        for place, slot in enumerate(at.tolist()):
            lowest[slot] = max(lowest.get(slot, -1), place - first)
        row += span.new
    caches[:, :, [slot for slot, above in lowest.items() if above < 0]] = 1e4
    caches = caches.to(dtype)
    query = (torch.randn(heads, count, dim, generator=generator) * (4 if cap else 1)).to(dtype).transpose(0, 1)
    items = cut(tree.spans, tree.shared, size, cost or CutCost(0))
    sink = torch.linspace(-2, 3, heads) if sinks else None
    device = DEVICE if name == "triton" else "cpu"
    work = WorkList.of(items, count, size, device, floors=floors)
    query, keys, values = (x.to(device) for x in (query, *caches))
    found = compute(query, keys, values, work, 0.2, cap=cap, sinks=None if sink is None else sink.to(device)).cpu()
    row = 0
    for span, at in zip(tree.spans, spans, strict=True):
        key, value = caches[0][:, at].transpose(0, 1), caches[1][:, at].transpose(0, 1)
        bounds = None if floors is None else torch.from_numpy(floors[row : row + span.new])
        asked = query.cpu()[row : row + span.new]
        expected, lse = plain(asked, key, value, 0.2, span.length - span.new, cap, bounds)
        if sink is not None:
            expected = expected * torch.sigmoid(lse - sink)[..., None]
        torch.testing.assert_close(found[row : row + span.new].float(), expected, atol=tolerance, rtol=tolerance)
        row += span.new


@EVERYWHERE
@pytest.mark.parametrize("reach", [Reach(window=1), Reach(window=7), Reach(window=40), Reach(chunk=16)], ids=str)
@pytest.mark.parametrize("cost", [0, 10**9], ids=["each-node", "no-sharing"])
def test_windows_over_trees_with_chunks(name: str, reach: Reach, cost: int):
    for levels in range(2 if name == "triton" else 4):
        check(name, grow(levels, 2, 8, seed=levels), reach, cost=CutCost(cost))
        check(name, grow(levels, 2, 4, seed=levels, chunk=23), reach, 4, cost=CutCost(cost))


@EVERYWHERE
@pytest.mark.parametrize("window", [0, 9], ids=str)
@pytest.mark.parametrize(("cap", "sinks"), [(5.0, False), (None, True), (5.0, True)], ids=str)
def test_caps_and_sinks(name: str, window: int, cap: float | None, sinks: bool):
    for levels in (0, 2):
        check(name, grow(levels, 2, 8, seed=levels, chunk=6), Reach(window), cap=cap, sinks=sinks)


@pytest.mark.parametrize(
    ("name", "window"),
    [(name, w) for name in IMPLEMENTATIONS for w in (1, 64, 130, 600) if w == 64 or name != "triton"],
)
def test_long_prefixes_and_chunks(name: str, window: int):
    """Tiles that are wholly seen, in part, and not at all: 150 rows behind 700 tokens, and decode rows over 400."""
    prefix = list(range(100, 125))
    spans = [Span([*prefix, 10 + i, 30 + i], 1, 401 + 5 * i) for i in range(6)]
    spans.append(Span(list(range(130, 184)), 150, 850))
    check(name, Tree(spans, [0, *[25] * 5, 0], 200), Reach(window), 16, sinks=True)


@EVERYWHERE
def test_drafts_beside_decode_rows(name: str):
    """Few new rows are joined to the tokens before them, and gathered beside others."""
    spans = [Span([5 * i, 5 * i + 1, 5 * i + 2], 4, 20 + i % 3) for i in range(5)]
    check(name, Tree(spans, [0] * 5, 40), Reach(window=6))


@EVERYWHERE
def test_a_sink_far_above_all_scores_leaves_nothing(name: str):
    compute, dtype, _ = IMPLEMENTATIONS[name]
    device = DEVICE if name == "triton" else "cpu"
    caches = torch.ones(2, 1, 32, 32, dtype=dtype, device=device)
    work = WorkList.of(cut([Span([0], 1, 9), Span([1], 1, 3)], [0, 0], 16), 2, 16, device)
    sinks = torch.tensor([1000.0, -1000.0], device=device)
    query = torch.ones(2, 2, 32, dtype=dtype, device=device)
    found = compute(query, caches[0], caches[1], work, 0.1, sinks=sinks)
    assert found[:, 0].abs().max() == 0
    torch.testing.assert_close(found[:, 1].float().cpu(), torch.ones(2, 32), atol=1e-2, rtol=0)


def test_blocks_that_no_row_sees_are_not_read():
    """64 sequences over 2,048 shared tokens and a window of 100: what is planned is the end of the prefix."""
    prefix = list(range(10, 138))
    spans = [Span([*prefix, 200 + i], 1, 128 * 16 + 1 + i % 16) for i in range(64)]
    items = cut(spans, [0] + [128] * 63, 16)
    floors = Reach(window=100).floors([span.length - 1 for span in spans])
    work = WorkList.of(items, 64, 16, floors=floors)
    assert next((item.rows, item.length) for item in work.items) == (64, 112)
    assert WorkList.of(items, 64, 16, floors=Reach(window=1).floors([2063] * 64)).items[0].rows == 1
    buffers = WorkBuffers.of(items, 64, Heads(1, 1, 32, 4), 16, floors=floors)
    read = buffers.tiles[: int(buffers.count.sum())]
    assert int((read[:, 3] - read[:, 2]).sum()) < 64 * 17 + 4 * 112


def test_buffers_with_floors_serve_steps_with_and_without():
    """A graph's buffers: the window begins to matter when sequences outgrow it."""
    size, heads = 8, Heads(4, 2, 32, 4)
    capacity = Capacity(4, 40, 100, 200, floors=True)
    buffers = WorkBuffers.empty(capacity, heads, size, DEVICE, tiling=Tiling.of(heads), programs=8)
    caches = torch.randn(2, 2, 100 * size, 32)
    query = torch.randn(2, 4, 32)
    for length in (5, 60, 7):
        spans = [Span(list(range(1, 9)), 1, length), Span(list(range(10, 18)), 1, length)]
        floors = Reach(window=20).floors([length - 1] * 2)
        buffers.fill(cut(spans, [0, 0], size), 2, floors)
        found = triton.tree_attention(query.to(DEVICE), *caches.to(DEVICE), buffers, 0.3)[0].cpu()
        for row, span in enumerate(spans):
            key, value = (cache[:, span.table[0] * size :][:, :length].transpose(0, 1) for cache in caches)
            bounds = torch.tensor([max(0, length - 20)])
            expected, _ = plain(query[row : row + 1], key, value, 0.3, floors=bounds)
            torch.testing.assert_close(found[row : row + 1], expected, atol=3e-5, rtol=3e-5)
    plainer = WorkBuffers.empty(Capacity(4, 40, 100, 200), heads, size, DEVICE, programs=8)
    with pytest.raises(ValueError, match="no room for floors"):
        plainer.fill([], 2, np.zeros(2, dtype=np.int32))


def test_what_a_reach_says():
    assert FULL.floors([0, 5, 900]) is None
    assert Reach(window=4).floors([0, 2, 3]) is None, "it does not matter yet"
    assert Reach(window=4).floors([0, 3, 4, 9]).tolist() == [0, 0, 1, 6]  # type: ignore[union-attr]
    assert Reach(chunk=4).floors([0, 3, 4, 9]).tolist() == [0, 0, 4, 8]  # type: ignore[union-attr]


@EVERYWHERE
@pytest.mark.parametrize("cap", [0.5, 30.0, 1000.0], ids=str)
def test_caps_of_any_size(name: str, cap: float):
    check(name, grow(1, 2, 8, seed=2), FULL, cap=cap)


@pytest.mark.parametrize("reach", [Reach(window=9), Reach(window=40), Reach(chunk=24)], ids=str)
@pytest.mark.parametrize("spare", [0, 8])
def test_items_as_columns_are_cut_off_alike(reach: Reach, spare: int):
    """And blocks that no row sees may have no place."""
    tree = grow(2, 3, 8, seed=4, chunk=20)
    items = cut(tree.spans, tree.shared, 8, CutCost(0))
    floors = reach.floors(positions(tree))
    assert floors is not None
    expected = ItemTable.of(within(items, floors, 8), 8)
    found = ItemTable.of(items, 8, spare).within(floors, 8)
    assert len(expected.blocks) < len(ItemTable.of(items, 8).blocks)
    assert found.items() == expected.items()
    seen = {block for item in expected.items() for block in item.blocks}
    where = np.full(tree.blocks, -1, dtype=np.int32)
    where[list(seen)] = np.random.default_rng(0).permutation(len(seen))
    elsewhere = [item._replace(blocks=where[item.blocks].tolist()) for item in expected.items()]
    assert found.moved(where).items() == elsewhere
    listed = ItemTable.of(moved(items, floors, 8, where), 8)
    assert listed.items() == elsewhere
