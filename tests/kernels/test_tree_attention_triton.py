"""The Triton kernel against plain attention, sequence by sequence: in the interpreter, or natively on a GPU.

Everything that a kernel must not read is NaN: slots of the cache that no sequence owns, partial results before the
step, and what `torch.empty` returns.
"""

import math
import pickle

import pytest
import torch
from torch import Tensor

from kernels.attention.reference import plain
from kernels.tree_attention.buffers import Capacity, Scratch, WorkBuffers
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from kernels.tree_attention.plan import CapacityError, Tiling
from kernels.tree_attention.reference import tree_attention as reference
from kernels.tree_attention.triton import tree_attention
from kernels.tree_attention.worklist import WorkList
from tests.kernels.interpreting import DEVICE, DTYPES
from tests.kernels.test_tree_attention import Tree, grow

pytestmark = pytest.mark.gpu

TOLERANCE = {torch.float32: 3e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan():
    torch.use_deterministic_algorithms(True)  # fills what `torch.empty` returns
    yield
    torch.use_deterministic_algorithms(False)


class Case:
    """Random keys, values and queries for a tree; NaN wherever no sequence has a token. The first `shared` numbers of a
    key are its value, if that is not 0.
    """

    def __init__(
        self, tree: Tree, block_size: int, heads: int, kv_heads: int, dim: int, dtype: torch.dtype, shared: int = 0
    ):
        self.tree, self.block_size = tree, block_size
        self.rows = sum(span.new for span in tree.spans)
        self.heads = Heads(heads, kv_heads, dim, dtype.itemsize, shared)
        self.scale = dim**-0.5
        self.caches = torch.full((2, kv_heads, tree.blocks * block_size, dim), torch.nan, dtype=dtype)
        for span in tree.spans:
            at = self._slots(span)
            fresh = self.caches[0, 0, at, 0].isnan()
            self.caches[:, :, at[fresh]] = torch.randn(2, kv_heads, int(fresh.sum()), dim).to(dtype)
        if shared:
            self.caches[1] = torch.nan
        self.query = torch.randn(heads, self.rows, dim).to(dtype).transpose(0, 1)  # as it comes from the model

    def _slots(self, span: Span) -> Tensor:
        table = torch.tensor(span.table)[:, None] * self.block_size
        return (table + torch.arange(self.block_size)).reshape(-1)[: span.length]

    def items(self, cost: CutCost) -> list[Item]:
        return cut(self.tree.spans, self.tree.shared, self.block_size, cost)

    def buffers(
        self, items: list[Item], programs: int = 8, capacity: Capacity | None = None, tiling: Tiling | None = None
    ) -> WorkBuffers:
        room = capacity or Capacity(self.rows + 3, 300, 5000, 2000)
        scratch = Scratch.empty(room.partials, self.heads, torch.device(DEVICE))
        assert scratch.partials.isnan().all()
        found = WorkBuffers.empty(room, self.heads, self.block_size, DEVICE, scratch, programs, tiling)
        found.fill(items, self.rows)
        return found

    def run(self, work: WorkList | WorkBuffers, query: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, keys, values = ((self.query if query is None else query).to(DEVICE), *self.caches.to(DEVICE))
        if self.heads.shared:
            values = keys[..., : self.heads.shared]
        output, lse = tree_attention(query, keys, values, work, self.scale)
        return output.cpu(), lse.cpu()

    def expected(self) -> tuple[Tensor, Tensor]:
        """By the book, in float32."""
        row, outputs, levels = 0, [], []
        for span in self.tree.spans:
            key, value = (cache[:, self._slots(span)].transpose(0, 1) for cache in self.caches)
            if self.heads.shared:
                value = key[..., : self.heads.shared]
            query = self.query[row : row + span.new]
            output, lse = plain(query, key, value, self.scale, diagonal=span.length - span.new)
            outputs.append(output)
            levels.append(lse)
            row += span.new
        return torch.cat(outputs), torch.cat(levels)

    def check(self, work: WorkList | WorkBuffers) -> None:
        output, lse = self.run(work)
        dtype = self.query.dtype
        assert output.dtype == dtype
        assert lse.dtype == torch.float32
        assert output.is_contiguous()
        assert lse.is_contiguous()
        expected, expected_lse = self.expected()
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(output.float(), expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(lse, expected_lse, atol=tolerance, rtol=tolerance)


EACH_NODE, NO_SHARING = CutCost(0), CutCost(10**9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("levels", "heads", "kv_heads", "dim"),
    [(1, 4, 2, 32), (2, 7, 1, 80), (3, 3, 3, 96), (4, 4, 1, 128), (1, 2, 1, 256), (2, 5, 1, 48)],
    ids=str,
)
def test_decode_over_trees(levels: int, heads: int, kv_heads: int, dim: int, dtype: torch.dtype):
    case = Case(grow(levels, 2, 8, seed=levels), 8, heads, kv_heads, dim, dtype)
    case.check(WorkList.of(case.items(EACH_NODE), case.rows, 8, DEVICE))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("levels", "heads", "dim", "shared"),
    [(1, 5, 40, 32), (3, 4, 96, 80), (2, 20, 576, 512), (1, 7, 288, 256), (2, 3, 32, 16)],
    ids=str,
)
def test_values_that_are_the_first_numbers_of_keys(levels: int, heads: int, dim: int, shared: int, dtype: torch.dtype):
    """As latent attention has them, all heads with one key; GLM-4.7-Flash's and MiniCPM 3's sizes among them."""
    case = Case(grow(levels, 2, 8, seed=levels, chunk=9), 8, heads, 1, dim, dtype, shared)
    case.check(WorkList.of(case.items(EACH_NODE), case.rows, 8, DEVICE))


def test_values_elsewhere_that_are_narrower_than_keys():
    keys, values, query = torch.zeros(1, 8, 32), torch.zeros(1, 8, 16), torch.zeros(1, 2, 32)
    work = WorkList.of([Item(0, 1, [0], 0, 8)], 1, 8, DEVICE)
    with pytest.raises(ValueError, match="first of these"):
        tree_attention(query.to(DEVICE), keys.to(DEVICE), values.to(DEVICE), work, 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cost", [EACH_NODE, NO_SHARING], ids=["each-node", "no-sharing"])
def test_chunks_and_decode_rows_together(seed: int, cost: CutCost):
    case = Case(grow(seed, 2, 5, seed=seed + 1, chunk=17), 5, 6, 2, 32, torch.float32)
    case.check(WorkList.of(case.items(cost), case.rows, 5, DEVICE))


@pytest.mark.parametrize("programs", [1, 7, 400])
def test_splits_of_the_keys_with_grouped_heads(programs: int):
    """One chunk of a prompt behind 590 tokens, one decode row behind 333: more programs, more splits, same result."""
    spans = [Span(list(range(3, 43)), 21, 611), Span(list(range(50, 72)), 1, 333)]
    case = Case(Tree(spans, [0, 0], 80), 16, 6, 2, 32, torch.float32)
    buffers = case.buffers(case.items(EACH_NODE), programs)
    parts = int(buffers.starts[22] - buffers.starts[21])
    assert parts == {1: 1, 7: 1, 400: 6}[programs]
    case.check(buffers)


@pytest.mark.parametrize("tiling", [Tiling(large=64), Tiling(large=128, warps=8, programs=1)], ids=["64", "128"])
def test_tiles_that_begin_in_the_middle_of_a_row(tiling: Tiling):
    """13 rows of 7 heads are 91 queries, one and a half tiles of 64; and a causal chunk of as many."""
    shared = list(range(1, 9))
    spans = [Span([*shared, 20 + 2 * i, 21 + 2 * i], 1, 67 + i % 9) for i in range(13)]
    spans.append(Span(list(range(60, 64)), 13, 30))
    case = Case(Tree(spans, [0, *[8] * 12, 0], 70), 8, 7, 1, 32, torch.float32)
    case.check(case.buffers(case.items(EACH_NODE), programs=1, tiling=tiling))


def test_strides_of_the_queries_do_not_matter():
    case = Case(grow(1, 3, 8, seed=3), 8, 4, 2, 32, torch.float32)
    work = WorkList.of(case.items(EACH_NODE), case.rows, 8, DEVICE)
    expected = case.run(work, case.query.contiguous())
    wide = torch.full((case.rows * 2, 32, 4), torch.nan)[::2].transpose(1, 2)  # no dimension contiguous
    wide.copy_(case.query)
    assert wide.stride(2) != 1
    for query in (case.query, wide):
        output, lse = case.run(work, query)
        torch.testing.assert_close(output, expected[0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(lse, expected[1], atol=1e-6, rtol=1e-6)


def test_rows_without_keys_are_zero():
    items = [Item(1, 2, [0], 0, 0), Item(2, 3, [1], 1, 3)]
    cache = torch.full((1, 8, 32), torch.nan, device=DEVICE)
    cache[:, 5:7] = 1.0
    work = WorkList.of(items, 4, 4, DEVICE)
    output, lse = tree_attention(torch.zeros(4, 2, 32, device=DEVICE), cache, cache, work, 1.0)
    for row, level in enumerate((-math.inf, -math.inf, math.log(2), -math.inf)):
        assert output[row].unique().item() == (1.0 if row == 2 else 0.0)
        assert lse[row].tolist() == pytest.approx([level] * 2)
    output, lse = tree_attention(torch.zeros(3, 2, 32, device=DEVICE), cache, cache, WorkList.of([], 3, 4, DEVICE), 1.0)
    assert output.unique().item() == 0
    assert (lse == -math.inf).all()


def test_lse_is_a_natural_logarithm_under_splits():
    """300 equal scores: the log-sum-exp is ln 300, and would be 8.2 rather than 5.7 in base 2."""
    case = Case(Tree([Span(list(range(19)), 1, 300)], [0], 19), 16, 4, 2, 32, torch.float32)
    for programs in (1, 400):
        buffers = case.buffers(case.items(EACH_NODE), programs)
        _, lse = case.run(buffers, torch.zeros_like(case.query))
        assert lse[0].tolist() == pytest.approx([math.log(300)] * 4)
        partial = buffers.scratch.lse[: len(case.items(EACH_NODE)) if programs == 1 else 2]
        assert partial.isfinite().all()
        assert (partial <= math.log(300) + 1e-5).all()


def test_scores_of_any_size_stay_finite():
    case = Case(grow(1, 2, 8, seed=9), 8, 2, 1, 32, torch.float32)
    case.caches[0] *= 1000
    case.check(WorkList.of(case.items(EACH_NODE), case.rows, 8, DEVICE))


def test_buffers_serve_one_tree_after_another():
    """The launch stays as it is (its grid is the capacity) while the tree grows, shrinks and grows again."""
    cases = [Case(grow(levels, 2, 8, seed=levels), 8, 4, 2, 32, torch.float32) for levels in (3, 0, 2)]
    capacity = Capacity(max(case.rows for case in cases) + 2, 60, 400, 200)
    buffers = cases[0].buffers([], capacity=capacity)
    for case in (*cases, cases[0]):
        buffers.fill(case.items(EACH_NODE), case.rows)
        assert int(buffers.count.sum()) < capacity.tiles
        case.check(buffers)
        padded = torch.cat((case.query, torch.full((2, 4, 32), torch.nan)))
        output, lse = case.run(buffers, padded)  # rows past the batch: what a padded graph computes
        torch.testing.assert_close(output[: case.rows], case.expected()[0], atol=3e-5, rtol=3e-5)
        assert (output[case.rows :] == 0).all()
        assert (lse[case.rows :] == -math.inf).all()


def test_a_step_too_large_for_its_buffers_is_refused_and_changes_nothing():
    case = Case(grow(2, 3, 8, seed=5), 8, 4, 2, 32, torch.float32)
    assert case.rows > 2
    items = case.items(EACH_NODE)
    found = Capacity.of(case.buffers(items).fill(items, case.rows))
    for small, what in (
        (Capacity(case.rows - 1, 99, 999, 99), "rows"),
        (Capacity(case.rows, 1, 999, 2000), "tiles"),
        (Capacity(case.rows, 99, found.blocks - 1, 2000), "blocks"),
        (Capacity(case.rows, 99, 999, case.rows), "partial results"),
    ):
        buffers = WorkBuffers.empty(small, case.heads, 8, DEVICE, programs=8)
        with pytest.raises(CapacityError, match=what):
            buffers.fill(items, case.rows)
        assert int(buffers.count.sum()) == 0
    with pytest.raises(ValueError, match="planned for"):
        tree_attention(case.query.to(DEVICE)[:, :2], *case.caches.to(DEVICE), case.buffers(items), 1.0)
    with pytest.raises(ValueError, match="room for"):
        tree_attention(case.query.to(DEVICE).repeat(3, 1, 1), *case.caches.to(DEVICE), case.buffers(items), 1.0)


def test_buffers_sent_to_another_process_do_the_same():
    case = Case(grow(1, 2, 8, seed=1), 8, 2, 1, 32, torch.float32)
    sent = pickle.dumps(case.buffers(case.items(EACH_NODE), capacity=Capacity(case.rows, 20, 100, 1000)))
    assert len(sent) < 20_000, "without the partial results"
    case.check(pickle.loads(sent))


def test_same_signature_and_result_as_the_reference():
    torch.use_deterministic_algorithms(False)  # cuBLAS would want a workspace set in the environment for it
    case = Case(grow(2, 2, 4, seed=4, chunk=6), 4, 4, 2, 64, torch.float32)
    case.caches = case.caches.nan_to_num(1e4)  # the reference may read what it masks
    work = WorkList.of(case.items(CutCost(30)), case.rows, 4, DEVICE)
    query, keys, values = (x.to(DEVICE) for x in (case.query, *case.caches))
    for found, expected in zip(
        tree_attention(query, keys, values, work, 0.1), reference(query, keys, values, work, 0.1), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=3e-5, rtol=3e-5)
