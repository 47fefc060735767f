"""The implementation of the fused operations for a device, and whether one pays there.

Triton's on CUDA, C's for bfloat16 on a CPU that has what they need, the definitions in torch elsewhere. A fused
operation replaces a model's own code only where both give the same on random input (`close`), and on CUDA only where
it is faster for a decoding batch (`pays`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import kernels.kv_store.reference as kv_store
import kernels.rms_norm.reference as rms_norm
import kernels.rope_store.reference as rope_store
import kernels.silu_mul.reference as silu_mul
from kernels import native

ROWS = 128  # of a decoding batch, for the measurement
TOLERANCE = {  # relative, and to what was summed
    torch.float32: (1e-5, 5e-6),
    torch.float16: (4e-3, 3e-3),
    torch.bfloat16: (3e-2, 2e-2),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ops:
    """One implementation of every fused operation; signatures as in `kernels.*.reference`."""

    name: str
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    silu_mul: Callable[[Tensor], Tensor]
    rope_store: Callable[[Tensor, Tensor, Tensor, tuple[Tensor, Tensor], Tensor, Tensor, Tensor], Tensor]
    store: Callable[..., None]  # with scales, into a cache of 8-bit numbers
    one_pass: bool  # `add_rms_norm` reads and writes memory once: worth changing a layer


REFERENCE = Ops(
    "torch",
    rms_norm.rms_norm,
    rms_norm.add_rms_norm,
    silu_mul.silu_mul,
    rope_store.rope_store,
    kv_store.store,
    one_pass=False,
)


def _one_pass(name: str, rms_norm: ModuleType, silu_mul: ModuleType, rope_store: ModuleType) -> Ops:
    """What these modules compute; keys and values alone are still stored by torch."""
    return replace(
        REFERENCE,
        name=name,
        rms_norm=rms_norm.rms_norm,
        add_rms_norm=rms_norm.add_rms_norm,
        silu_mul=silu_mul.silu_mul,
        rope_store=rope_store.rope_store,
        one_pass=True,
    )


def triton_ops() -> Ops:
    """Triton's. Imports triton."""
    import kernels.kv_store.triton as kv_store
    import kernels.rms_norm.triton as rms_norm
    import kernels.rope_store.triton as rope_store
    import kernels.silu_mul.triton as silu_mul

    return replace(_one_pass("triton", rms_norm, silu_mul, rope_store), store=kv_store.store)


def native_ops() -> Ops:
    """In C, for a CPU."""
    import kernels.rms_norm.native as rms_norm
    import kernels.rope_store.native as rope_store
    import kernels.silu_mul.native as silu_mul

    return _one_pass("C", rms_norm, silu_mul, rope_store)


def ops_for(device: torch.device, dtype: torch.dtype) -> Ops:
    """The implementation that a model of `dtype` gets on `device`."""
    if device.type == "cuda" and find_spec("triton") is not None:
        return triton_ops()
    if device.type == "cpu" and dtype == torch.bfloat16 and native.library() is not None:
        return native_ops()
    return REFERENCE


def close(found: Tensor, expected: Tensor, scale: Tensor | None = None) -> bool:
    """Whether two results differ by no more than their dtype's rounding explains, each number for itself.

    Args:
        found, expected: of one shape and dtype.
        scale: of the same shape, the size of what was summed for each number; `None`: nothing was.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype or found.dtype not in TOLERANCE:
        return False
    relative, absolute = TOLERANCE[found.dtype]
    allowed = relative * expected.float().abs() + torch.finfo(found.dtype).tiny
    if scale is not None:
        allowed += absolute * scale
    return bool(((found.float() - expected.float()).abs() <= allowed).all())  # nor is NaN


def random(*shape: int, like: Tensor) -> Tensor:
    """Normal random numbers, always the same, on `like`'s device and in its dtype."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(shape, device=like.device, generator=generator).to(like.dtype)


class Trials:
    """Measurements at load, each kind and size once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[tuple[str, int], bool] = {}

    def pays(self, name: str, size: int, make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]) -> bool:
        """Whether the fused one of the two functions that `make` returns is faster than the second, the model's own.

        Measured on a GPU, replayed from CUDA graphs as decoding steps are. Elsewhere nothing is measured: the faster
        one was chosen beforehand.
        """
        if self._device.type != "cuda":
            return True
        if (name, size) not in self._known:
            from triton.testing import do_bench_cudagraph

            ours, theirs = (do_bench_cudagraph(function, rep=10) * 1000 for function in make())
            better = ours < theirs
            words = "used" if better else "left to the model's own code, which is faster"
            _log.info("fused %s of %d numbers: %.1f us, unfused %.1f us: %s", name, size, ours, theirs, words)
            self._known[name, size] = better
        return self._known[name, size]
