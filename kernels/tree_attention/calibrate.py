"""The calibration run: attention timed on the device at hand, with and without sharing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.tree_attention.cost import Sample
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item

COLD = 16 << 20  # bytes written before each run on a CPU: in a model, the caches are full of other data by then
OWN_TOKENS = 24  # of each sequence, after the shared ones
RECORDED = 10  # runs in a row in one graph


@dataclass(frozen=True)
class Grid:
    """What is timed: each number of sequences over each number of shared tokens."""

    sequences: tuple[int, ...] = (2, 6, 24, 96)
    tokens: tuple[int, ...] = (32, 160, 640, 2048)
    repeats: int = 5  # of each measurement; the fastest counts
    recorded: bool = False  # as a CUDA graph, as decoding steps run: the host's launches would hide the GPU's time
    in_place: bool = True  # as of `kernels.tree_attention.cut`: items as the engine's steps have them


GRID = Grid()


Prepare = Callable[[Sequence[Item], int], Callable[[Tensor, Tensor, Tensor], object]]


def measure(
    prepare: Prepare,
    heads: Heads,
    dtype: torch.dtype,
    device: torch.device,
    block_size: int = 16,
    grid: Grid = GRID,
    cache: torch.dtype | None = None,
) -> list[Sample]:
    """Time one layer's attention of decode steps over trees of one shared node.

    Args:
        prepare: from items and the number of rows to the function that attends, given query `[rows, heads, head_dim]`
            and caches `[kv_heads, slots, head_dim]`.
        heads: shape of the attention.
        dtype, device: of queries and caches.
        block_size: tokens per block.
        grid: what is timed.
        cache: dtype of the caches, where it is another.
    """
    most, times = max(grid.sequences), RECORDED if grid.recorded else 0
    shared_blocks = -(-max(grid.tokens) // block_size)
    own_blocks = -(-OWN_TOKENS // block_size)
    slots = (shared_blocks + most * own_blocks) * block_size
    caches = torch.randn(2, heads.kv, slots, heads.dim, device=device, dtype=torch.float32).to(cache or dtype)
    if heads.shared:
        caches = caches[:1].expand_as(caches)
    query = torch.randn(most, heads.query, heads.dim, device=device, dtype=torch.float32).to(dtype)
    samples = []
    for count in grid.sequences:
        for length in grid.tokens:
            blocks = -(-length // block_size)
            spans = []
            for index in range(count):
                first = shared_blocks + index * own_blocks
                table = [*range(blocks), *range(first, first + own_blocks)]
                spans.append(Span(table, 1, blocks * block_size + OWN_TOKENS))
            for shared in (True, False):
                rule = CutCost(0 if shared else 1 << 60)
                items = cut(spans, [0, *[blocks] * (count - 1)], block_size, rule, grid.in_place)
                attend = prepare(items, count)
                seconds = _time(lambda run=attend, rows=count: run(query[:rows], *caches), device, grid.repeats, times)  # type: ignore[misc]
                samples.append(Sample(count, blocks * block_size, shared, seconds))
    return samples


def _time(run: Callable[[], object], device: torch.device, repeats: int, times: int) -> float:
    """Seconds of the fastest of several runs, after one that does not count. If `times` is not 0, a GPU runs it that
    often in one graph.
    """
    cold = torch.zeros(COLD if device.type == "cpu" else 0, dtype=torch.uint8)
    run()
    if times:
        run = _recorded(run, times)
        run()
    best = float("inf")
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            run()
            end.record()
            end.synchronize()
            best = min(best, begin.elapsed_time(end) / 1e3 / max(1, times))
        else:
            cold.add_(1)
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
    return best


def _recorded(run: Callable[[], object], times: int) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(times):
            run()
    return graph.replay
