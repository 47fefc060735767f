"""The GPU that `bench_gpu` measures on: its clock and its graphs. A test puts another in its place, so that everything
but these calls runs on a CPU as well.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

from engine.run.graphs import Capture, record

LEAD = 2_000_000  # cycles of the GPU, about a millisecond: the host has launched everything when it begins
CACHE = 256 << 20  # bytes, more than any GPU's second-level cache


class Gpu:
    """The first CUDA device."""

    device = torch.device("cuda")
    dtype = torch.bfloat16
    copied = 1 << 30  # bytes, of the copy whose rate is a floor
    square = 8192  # of the product whose rate is one
    capture: Capture = staticmethod(record)

    def seconds(self, run: Callable[[], Any], repeats: int = 10) -> float:
        """Median of the GPU's time for several runs, after two that do not count. The host's time to launch does not
        show, and nothing is left in the GPU's caches from the run before: in a model other layers come between.
        """
        for _ in range(2):
            run()
        other, times = torch.empty(CACHE, dtype=torch.uint8, device=self.device), []
        for _ in range(repeats):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            other.zero_()
            torch.cuda._sleep(LEAD)
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return sorted(times)[len(times) // 2]

    def recorded(self, run: Callable[[], Any]) -> Callable[[], Any]:
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

    def watched(self, run: Callable[[], Any], times: list[Callable[[], float]]) -> Callable[[], Any]:
        """The same; each call adds to `times` what gives its milliseconds on the GPU, once it is over."""

        def call() -> Any:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            found = run()
            end.record()
            times.append(lambda: begin.elapsed_time(end))
            return found

        return call

    def wait(self) -> float:
        """Until all is done; the time then, in seconds."""
        torch.cuda.synchronize()
        return time.perf_counter()

    def free(self) -> None:
        """What nobody holds any more, graphs among it."""
        gc.collect()
        torch.cuda.empty_cache()

    def works(self) -> bool:
        """Whether the process can still use it: after an illegal access, for one, it can't."""
        try:
            torch.cuda.synchronize()
            return int(torch.ones(2, device=self.device).sum()) == 2
        except RuntimeError:
            return False


gpu = Gpu()
