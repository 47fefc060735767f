"""Who computes attention over the cache: torch (the CPU's way) or our Triton kernel.

Both take a step's items once, as work, and then attend with it in every layer.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.errors import LoadError
from kernels.tree_attention import reference
from kernels.tree_attention.buffers import Heads, WorkBuffers
from kernels.tree_attention.calibrate import measure
from kernels.tree_attention.cost import MeasuredCost, fit
from kernels.tree_attention.worklist import Item, WorkList

Work = WorkList | WorkBuffers


class Backend(Protocol):
    """One implementation of tree attention for one model on one device."""

    name: str
    heads: Heads
    in_place: bool  # runs of neighbouring blocks are read faster than scattered ones, see `kernels.tree_attention.cut`

    def prepare(
        self, items: Sequence[Item], rows: int, block_size: int, device: torch.device, zone: int, cache_blocks: int
    ) -> Work:
        """A step's items in the form that `attend` takes; arguments as of `WorkList.of`."""
        ...

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, scale: float) -> Tensor:
        """`[rows, heads, head_dim]` and caches `[kv_heads, slots, head_dim]` -> `[rows, heads, head_dim]`."""
        ...


class TorchBackend:
    """Plain torch, any device: made for the CPU."""

    name = "torch"
    in_place = True

    def __init__(self, heads: Heads) -> None:
        self.heads = heads

    def prepare(
        self, items: Sequence[Item], rows: int, block_size: int, device: torch.device, zone: int, cache_blocks: int
    ) -> Work:
        """See `Backend`."""
        return WorkList.of(items, rows, block_size, device, zone, cache_blocks)

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, scale: float) -> Tensor:
        """See `Backend`."""
        assert isinstance(work, WorkList)
        return reference.tree_attention(query, key_cache, value_cache, work, scale)[0]


class TritonBackend:
    """The Triton kernel: on a GPU, or in Triton's interpreter for tests."""

    name = "triton"
    in_place = False

    def __init__(self, heads: Heads) -> None:
        from kernels.tree_attention import triton  # not there on every machine

        self.heads = heads
        self._attend = triton.tree_attention

    def prepare(
        self, items: Sequence[Item], rows: int, block_size: int, device: torch.device, zone: int, cache_blocks: int
    ) -> Work:
        """See `Backend`."""
        return WorkBuffers.of(items, rows, self.heads, block_size, device)

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, scale: float) -> Tensor:
        """See `Backend`."""
        return self._attend(query, key_cache, value_cache, work, scale)[0]


def choose(name: str, device: torch.device, heads: Heads) -> Backend:
    """The backend for an operator's choice.

    Args:
        name: `auto`, `torch` or `triton`; `auto` is Triton on a GPU.
        device: of the model.
        heads: of its attention, as this process computes it.

    Raises:
        LoadError: it can't be had here.
    """
    if name == "torch" or (name == "auto" and device.type != "cuda"):
        return TorchBackend(heads)
    if importlib.util.find_spec("triton") is None:
        raise LoadError("attention on a GPU needs triton: install troop[gpu], or choose --attention-backend torch")
    if device.type != "cuda" and not _interpreted():
        raise LoadError(f"triton attention needs a GPU, the model is on {device}: choose --attention-backend torch")
    try:
        return TritonBackend(heads)
    except ImportError as error:
        raise LoadError(f"triton can't be used ({error}): choose --attention-backend torch") from error


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def calibrate(backend: Backend, dtype: torch.dtype, device: torch.device, block_size: int) -> MeasuredCost:
    """Measure what attention costs, see `kernels.tree_attention.cost`. Takes about a second."""

    def prepare(items: Sequence[Item], rows: int) -> Callable[[Tensor, Tensor, Tensor], object]:
        work = backend.prepare(items, rows, block_size, device, 0, 0)
        scale = backend.heads.dim**-0.5
        return lambda query, keys, values: backend.attend(query, keys, values, work, scale)

    with torch.inference_mode():
        samples = measure(prepare, backend.heads, dtype, device, block_size)
    heads = backend.heads
    if backend.name == "torch":  # no tiles: what a row costs is as good as one
        return fit(samples, heads.group, heads.group)
    tiling = WorkBuffers.of([], 1, heads, block_size, device).tiling
    return fit(samples, heads.group, tiling.large)
