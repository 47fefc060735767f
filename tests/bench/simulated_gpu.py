"""A GPU that is none, and FlashInfer beside it: all of `bench_gpu` but the GPU's own calls, on a CPU in seconds."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from engine.run.graphs import call_again
from kernels.attention.reference import plain
from tests.bench.gpu_timing import Gpu


class SimulatedGpu(Gpu):
    """Kernels run in Triton's interpreter; graphs are calls; the clock is the host's."""

    device = torch.device("cpu")
    dtype = torch.float32
    copied = 1 << 12
    square = 16
    capture = staticmethod(call_again)

    def seconds(self, run: Callable[[], Any], repeats: int = 1) -> float:
        """Of one call."""
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    def recorded(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Itself."""
        return run

    def watched(self, run: Callable[[], Any], times: list[Callable[[], float]]) -> Callable[[], Any]:
        """By the host's clock."""

        def call() -> Any:
            begin = time.perf_counter()
            found = run()
            took = 1e3 * (time.perf_counter() - begin)
            times.append(lambda: took)
            return found

        return call

    def wait(self) -> float:
        """All is done already."""
        return time.perf_counter()

    def free(self) -> None:
        """Nothing is kept."""

    def works(self) -> bool:
        """Always."""
        return True


class _Paged:
    """Rows `indptr` of queries over pages: what FlashInfer's wrappers are told, computed by the book."""

    def __init__(self, queries: Tensor, indptr: Tensor, indices: Tensor, last: Tensor, page: int, scale: float) -> None:
        self.queries, self.indptr, self.indices, self.last = queries, indptr, indices, last
        self.page, self.scale = page, scale

    def keys(self, row: int) -> Tensor:
        """Places of a row's keys in the pages put one behind the other."""
        group = int(torch.searchsorted(self.queries, torch.tensor(row), right=True)) - 1
        pages = self.indices[self.indptr[group] : self.indptr[group + 1]].long()
        places = (pages[:, None] * self.page + torch.arange(self.page)).reshape(-1)
        return places[: (len(pages) - 1) * self.page + int(self.last[group])]


def _attend(query: Tensor, pages: Tensor, levels: list[_Paged]) -> Tensor:
    keys, values = (pages[:, at].reshape(-1, *pages.shape[3:]) for at in (0, 1))  # [slots, kv_heads, head_dim]
    found = []
    for row in range(len(query)):
        places = torch.cat([level.keys(row) for level in levels])
        found.append(plain(query[row : row + 1], keys[places], values[places], levels[0].scale)[0])
    return torch.cat(found)


class Cascade:
    """`flashinfer.MultiLevelCascadeAttentionWrapper`."""

    def __init__(self, num_levels: int, float_workspace_buffer: Tensor, kv_layout: str) -> None:
        assert kv_layout == "NHD"
        self._count = num_levels

    def plan(
        self, qo_indptr_arr: Any, paged_kv_indptr_arr: Any, paged_kv_indices_arr: Any, paged_kv_last_page_len: Any,
        num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int, *, sm_scale: float, q_data_type: Any,
    ) -> None:  # fmt: skip
        """As theirs."""
        columns = zip(qo_indptr_arr, paged_kv_indptr_arr, paged_kv_indices_arr, paged_kv_last_page_len, strict=True)
        self._levels = [_Paged(*column, page_size, sm_scale) for column in columns]
        assert len(self._levels) == self._count

    def run(self, query: Tensor, pages: Tensor) -> Tensor:
        """As theirs."""
        return _attend(query, pages, self._levels)


class Decode:
    """`flashinfer.BatchDecodeWithPagedKVCacheWrapper`."""

    def __init__(self, float_workspace_buffer: Tensor, kv_layout: str, use_tensor_cores: bool) -> None:
        assert kv_layout == "NHD"

    def plan(
        self, indptr: Tensor, indices: Tensor, last_page_len: Tensor, num_qo_heads: int, num_kv_heads: int,
        head_dim: int, page_size: int, *, sm_scale: float, q_data_type: Any,
    ) -> None:  # fmt: skip
        """As theirs."""
        rows = torch.arange(len(indptr), dtype=torch.int32)
        self._level = _Paged(rows, indptr, indices, last_page_len, page_size, sm_scale)

    def run(self, query: Tensor, pages: Tensor) -> Tensor:
        """As theirs."""
        return _attend(query, pages, [self._level])


FLASHINFER: Any = SimpleNamespace(MultiLevelCascadeAttentionWrapper=Cascade, BatchDecodeWithPagedKVCacheWrapper=Decode)
