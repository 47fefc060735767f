"""Tree attention timed on a GPU, checked first, against what others offer in the same run. Never run on one so far."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.attention.reference import plain
from kernels.tree_attention.buffers import WorkBuffers
from kernels.tree_attention.triton import tree_attention
from tests.bench.attention_trees import BLOCK, SHARE_ALL, SHARE_NONE, Shape, floor_bytes, useful_flops

GATHER_LIMIT = 16 << 30  # bytes of keys copied per sequence, for kernels that take no pages
CHECKED_ROWS = 8
WORKSPACE = 256 << 20  # bytes


@dataclass(frozen=True)
class Rates:
    """What this GPU reaches at best."""

    bytes: float  # per second, of a copy, read and written both counted
    flops: float  # per second, of a square bfloat16 product

    @classmethod
    def measure(cls) -> "Rates":
        source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        square = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
        moved = 2 * source.numel() / seconds(lambda: target.copy_(source))
        return cls(moved, 2 * 8192**3 / seconds(lambda: square @ square))

    def floor(self, shape: Shape) -> float:
        """Seconds that no kernel can beat."""
        return max(floor_bytes(shape) / self.bytes, useful_flops(shape) / self.flops)


def seconds(run: Callable[[], Any], repeats: int = 20) -> float:
    """Median of several runs between events, after three that do not count."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def recorded(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same in a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


class Bed:
    """One shape's queries and cache, and every kernel over them."""

    def __init__(self, shape: Shape) -> None:
        heads = shape.heads
        self.shape, self.scale = shape, heads.dim**-0.5
        kind: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
        self.query = torch.randn(shape.sequences, heads.query, heads.dim, **kind)
        self.caches = torch.randn(2, heads.kv, shape.blocks * BLOCK, heads.dim, **kind)
        self.spans = shape.spans

    def ours(self, shared: bool) -> Callable[[], Tensor]:
        items = self.shape.items(SHARE_ALL if shared else SHARE_NONE)
        work = WorkBuffers.of(items, self.shape.sequences, self.shape.heads, BLOCK, "cuda")
        return lambda: tree_attention(self.query, *self.caches, work, self.scale)[0]

    def error(self, output: Tensor) -> float:
        """Largest difference from attention by the book, over some rows."""
        worst = 0.0
        step = max(1, self.shape.sequences // CHECKED_ROWS)
        for row in range(0, self.shape.sequences, step):
            key, value = (cache[:, self._slots(row)].transpose(0, 1) for cache in self.caches)
            expected, _ = plain(self.query[row : row + 1], key, value, self.scale)
            worst = max(worst, float((output[row].float() - expected[0]).abs().max()))
        return worst

    def _slots(self, row: int) -> Tensor:
        table = torch.tensor(self.spans[row].table, device="cuda")[:, None] * BLOCK
        return (table + torch.arange(BLOCK, device="cuda")).reshape(-1)[: self.spans[row].length]

    def _pages(self) -> Tensor:
        """`[pages, 2, page_size, kv_heads, head_dim]`, FlashInfer's NHD."""
        heads = self.shape.heads
        return self.caches.view(2, heads.kv, -1, BLOCK, heads.dim).permute(2, 0, 3, 1, 4).contiguous()

    def flashinfer_cascade(self) -> Callable[[], Tensor]:
        """https://docs.flashinfer.ai/api/cascade.html"""
        import flashinfer

        shape, heads, begin = self.shape, self.shape.heads, 0
        queries, indptr, indices, last = [], [], [], []
        for nodes, tokens in (*shape.levels, (shape.sequences, max(1, shape.suffix))):
            blocks = -(-tokens // BLOCK)
            per_node = shape.sequences // nodes
            queries.append(_ints(range(0, shape.sequences + 1, per_node)))
            indptr.append(_ints(range(0, nodes * blocks + 1, blocks)))
            indices.append(_ints(range(begin, begin + nodes * blocks)))
            last.append(_ints([(tokens - 1) % BLOCK + 1] * nodes))
            begin += nodes * blocks
        room = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
        wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(len(queries), room, "NHD")
        sizes = (heads.query, heads.kv, heads.dim, BLOCK)
        wrapper.plan(queries, indptr, indices, last, *sizes, sm_scale=self.scale, q_data_type=torch.bfloat16)
        pages = self._pages()
        return lambda: wrapper.run(self.query, pages)

    def flashinfer_paged(self) -> Callable[[], Tensor]:
        """Plain paged decode."""
        import flashinfer

        heads = self.shape.heads
        tables = [span.table for span in self.spans]
        room = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(room, "NHD", use_tensor_cores=True)
        indptr = _ints([0, *torch.tensor([len(table) for table in tables]).cumsum(0).tolist()])
        indices = _ints([block for table in tables for block in table])
        last = _ints([(span.length - 1) % BLOCK + 1 for span in self.spans])
        sizes = (heads.query, heads.kv, heads.dim, BLOCK)
        wrapper.plan(indptr, indices, last, *sizes, sm_scale=self.scale, q_data_type=torch.bfloat16)
        pages = self._pages()
        return lambda: wrapper.run(self.query, pages)

    def torch_varlen(self) -> Callable[[], Tensor] | None:
        """torch's variable-length attention over a copy of each sequence's keys; `None` where that is too much."""
        from torch.nn.attention.varlen import varlen_attn

        heads = self.shape.heads
        lengths = [span.length for span in self.spans]
        if sum(lengths) * 2 * heads.kv * heads.dim * 2 > GATHER_LIMIT:
            return None
        slots = torch.cat([self._slots(row) for row in range(len(lengths))])
        keys, values = (cache[:, slots].transpose(0, 1).contiguous() for cache in self.caches)
        starts = _ints([0, *torch.tensor(lengths).cumsum(0).tolist()])
        rows = _ints(range(len(lengths) + 1))
        limits = (rows, starts, 1, max(lengths))
        return lambda: varlen_attn(self.query, keys, values, *limits, scale=self.scale, enable_gqa=heads.group > 1)


def _ints(values: Any) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32, device="cuda")


def measure(shape: Shape, rates: Rates) -> tuple[dict[str, Any], str]:
    """Times of every kernel over one shape.

    Returns:
        Seconds by kernel, with the floor; and what is wrong with ours, empty where nothing is. Others that are not
        installed, or fail, are left out with the reason.
    """
    bed = Bed(shape)
    times: dict[str, Any] = {"floor": rates.floor(shape)}
    for name, shared in (("ours", True), ("ours, plain paged", False)):
        run = bed.ours(shared)
        error = bed.error(run())
        if not error < 2e-2:
            return times, f"{name}: {error:.3g} off the reference on {shape.name}"
        times[name] = seconds(run)
        if shared:
            times["ours, in a graph"] = seconds(recorded(run))
    others = {
        "flashinfer cascade": bed.flashinfer_cascade,
        "flashinfer paged": bed.flashinfer_paged,
        "torch varlen": bed.torch_varlen,
    }
    for name, make in others.items():
        try:
            run_other = make()
            if run_other is None:
                times[name] = "keys of all sequences do not fit"
            elif (error := bed.error(run_other())) < 2e-2:
                times[name] = seconds(run_other)
            else:
                times[name] = f"{error:.3g} off the reference"
        except Exception as failure:  # whatever another's library raises is told, and not ours
            times[name] = f"{type(failure).__name__}: {failure}"
    return times, ""
