"""How much memory there is, and how much some work takes at its peak: on a GPU, or in this process."""

import contextlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def size(count: int) -> str:
    """Bytes in words: `1.5 GiB`."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that, on the host, take no memory before they are written to: torch's own do."""
    if device.type != "cpu" or not math.prod(shape):
        return torch.zeros(shape, dtype=dtype, device=device)
    raw = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)


def available(device: torch.device) -> int | None:
    """Bytes that could still be allocated: on the host within this container's limit; `None` where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [
        amount
        for amount in (_field(PROC / "meminfo", "MemAvailable", 1024), _left_in_container())
        if amount is not None
    ]
    return min(found, default=None)


def _left_in_container() -> int | None:
    """Of the container's limit (cgroup v2), where one is set. Unused file pages count as free."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return None
    return max(0, limit - used + (_field(CGROUP / "memory.stat", "inactive_file", 1) or 0))


def _field(file: Path, name: str, unit: int) -> int | None:
    """The number behind `name` in a file of lines, times `unit`."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    values = [line.replace(":", " ").split() for line in lines]
    return next((int(words[1]) * unit for words in values if words[:1] == [name]), None)


class Watch:
    """Peak memory since it was made. On the host it is that of the whole process, where the kernel tells."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):
                (PROC / "self" / "clear_refs").write_text("5")  # proc(5): resets the peak, VmHWM
            self._before = _field(PROC / "self" / "status", "VmRSS", 1024) or 0

    def peak(self) -> int:
        """Bytes above what was in use when the watch began."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, (_field(PROC / "self" / "status", "VmHWM", 1024) or 0) - self._before)
