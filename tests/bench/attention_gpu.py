"""Tree attention timed on a GPU, checked first, against what others offer in the same run. Never run on one so far."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.model.backends import TritonBackend, calibrate, use_tiles
from kernels.attention.reference import plain
from kernels.tree_attention.buffers import WorkBuffers
from kernels.tree_attention.cost import MeasuredCost
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import Tiling
from kernels.tree_attention.triton import tree_attention
from tests.bench import gpu_timing as timing
from tests.bench.attention_trees import BLOCK, SHARE_ALL, SHARE_NONE, Shape, floor_bytes, useful_flops

GATHER_LIMIT = 16 << 30  # bytes of keys copied per sequence, for kernels that take no pages
CHECKED_ROWS = 8
WORKSPACE = 256 << 20  # bytes
TOLERANCE = 2e-2  # of the output's norm: four times what 16-bit weights and outputs explain


@dataclass(frozen=True)
class Rates:
    """What this GPU reaches at best."""

    bytes: float  # per second, of a copy, read and written both counted
    flops: float  # per second, of a square bfloat16 product

    @classmethod
    def measure(cls) -> "Rates":
        gpu, size = timing.gpu, timing.gpu.square
        source = torch.zeros(gpu.copied, dtype=torch.uint8, device=gpu.device)
        target = torch.empty_like(source)
        square = torch.randn(size, size, dtype=gpu.dtype, device=gpu.device)
        moved = 2 * source.numel() / gpu.seconds(lambda: target.copy_(source))
        return cls(moved, 2 * size**3 / gpu.seconds(lambda: square @ square))

    def floor(self, shape: Shape) -> float:
        """Seconds that no kernel can beat."""
        return max(floor_bytes(shape) / self.bytes, useful_flops(shape) / self.flops)


@functools.cache
def calibrated(heads: Heads) -> MeasuredCost:
    """What a calibration finds on this GPU, as the engine's does: once for each shape of heads."""
    gpu = timing.gpu
    return calibrate(TritonBackend(heads, gpu.device), gpu.dtype, gpu.device, BLOCK)


def tiling(heads: Heads) -> Tiling | None:
    """The tiles that it chooses."""
    backend = TritonBackend(heads, timing.gpu.device)
    use_tiles(backend, calibrated(heads).queries)
    return backend.tiling


class Bed:
    """One shape's queries and cache, and every kernel over them."""

    def __init__(self, shape: Shape) -> None:
        heads = shape.heads
        self.shape, self.scale = shape, heads.dim**-0.5
        kind: dict[str, Any] = {"dtype": timing.gpu.dtype, "device": timing.gpu.device}
        self.query = torch.randn(shape.sequences, heads.query, heads.dim, **kind)
        self.caches = torch.randn(1 if heads.shared else 2, heads.kv, shape.blocks * BLOCK, heads.dim, **kind)
        self.keys, self.values = self.caches[0], self.caches[-1][..., : heads.value]
        self.spans = shape.spans

    def ours(self, shared: bool) -> Callable[[], Tensor]:
        items = self.shape.items(SHARE_ALL if shared else SHARE_NONE)
        heads = self.shape.heads
        work = WorkBuffers.of(items, self.shape.sequences, heads, BLOCK, timing.gpu.device, tiling(heads))
        return lambda: tree_attention(self.query, self.keys, self.values, work, self.scale)[0]

    def error(self, output: Tensor) -> float:
        """The error's norm over that of attention by the book, over some rows: the worst row. NaN stays NaN."""
        errors = []
        step = max(1, self.shape.sequences // CHECKED_ROWS)
        for row in range(0, self.shape.sequences, step):
            key, value = (cache[:, self._slots(row)].transpose(0, 1) for cache in (self.keys, self.values))
            expected = plain(self.query[row : row + 1], key, value, self.scale)[0][0]
            errors.append((output[row].float() - expected).norm() / expected.norm())
        return float(torch.stack(errors).amax())

    def _slots(self, row: int) -> Tensor:
        table = torch.tensor(self.spans[row].table, device=timing.gpu.device)[:, None] * BLOCK
        return (table + torch.arange(BLOCK, device=timing.gpu.device)).reshape(-1)[: self.spans[row].length]

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
        room = torch.empty(WORKSPACE, dtype=torch.uint8, device=timing.gpu.device)
        wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(len(queries), room, "NHD")
        sizes = (heads.query, heads.kv, heads.dim, BLOCK)
        wrapper.plan(queries, indptr, indices, last, *sizes, sm_scale=self.scale, q_data_type=timing.gpu.dtype)
        pages = self._pages()
        return lambda: wrapper.run(self.query, pages)

    def flashinfer_paged(self) -> Callable[[], Tensor]:
        """Plain paged decode."""
        import flashinfer

        heads = self.shape.heads
        tables = [span.table for span in self.spans]
        room = torch.empty(WORKSPACE, dtype=torch.uint8, device=timing.gpu.device)
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(room, "NHD", use_tensor_cores=True)
        indptr = _ints([0, *torch.tensor([len(table) for table in tables]).cumsum(0).tolist()])
        indices = _ints([block for table in tables for block in table])
        last = _ints([(span.length - 1) % BLOCK + 1 for span in self.spans])
        sizes = (heads.query, heads.kv, heads.dim, BLOCK)
        wrapper.plan(indptr, indices, last, *sizes, sm_scale=self.scale, q_data_type=timing.gpu.dtype)
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
        more: dict[str, Any] = {"scale": self.scale}
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # torch 2.11 has no such argument, and groups
            more["enable_gqa"] = heads.group > 1
        return lambda: varlen_attn(self.query, keys, values, *limits, **more)


def _ints(values: Any) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32, device=timing.gpu.device)


def ours(bed: Bed, rates: Rates) -> dict[str, Any]:
    """Seconds of our kernel, shared and as plain paged decode, and of the floor.

    Raises:
        ArithmeticError: it does not agree with the reference.
    """
    times: dict[str, Any] = {"floor": rates.floor(bed.shape)}
    for name, shared in (("ours", True), ("ours, plain paged", False)):
        run = bed.ours(shared)
        error = bed.error(run())
        if not error < TOLERANCE:
            raise ArithmeticError(f"{name}: {error:.3g} of the reference's norm off it on {bed.shape.name}")
        times[name] = timing.gpu.seconds(run)
        if shared:
            times["ours, in a graph"] = timing.gpu.seconds(timing.gpu.recorded(run))
    return times


def others(bed: Bed) -> dict[str, Any]:
    """Seconds of what others offer; of what is not installed, or fails, the reason instead."""
    times: dict[str, Any] = {}
    kernels = {
        "flashinfer cascade": bed.flashinfer_cascade,
        "flashinfer paged": bed.flashinfer_paged,
        "torch varlen": bed.torch_varlen,
    }
    for name, make in kernels.items():
        try:
            run = make()
            if run is None:
                times[name] = "keys of all sequences do not fit"
            elif (error := bed.error(run())) < TOLERANCE:
                times[name] = timing.gpu.seconds(run)
            else:
                times[name] = f"{error:.3g} off the reference"
        except ModuleNotFoundError as missing:
            times[name] = f"{missing.name} is not installed"
        except Exception as failure:  # whatever another's library raises is told, and not ours
            times[name] = f"{type(failure).__name__}: {failure}"
    return times
