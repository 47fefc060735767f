"""Merged linears: q, k and v in one product, gate and up in one, under the model's own forward code.

`transformers` computes `q_proj(x)`, `k_proj(x)`, `v_proj(x)` one after the other. The first is replaced by a product
with all three weights stacked; the others then return their slice of it. Small steps spend their time in calls, not
in arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _Shared:
    """The last product of one merged group, and the input it belongs to."""

    __slots__ = ("parts", "source")

    def __init__(self) -> None:
        self.source: Tensor | None = None
        self.parts: Sequence[Tensor] = ()


class _First(nn.Module):
    """Computes the product of the whole group and returns the first part."""

    def __init__(self, linears: list[nn.Linear], shared: _Shared) -> None:
        super().__init__()
        with torch.no_grad():
            weights: list[Tensor] = [linear.weight for linear in linears]
            biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
            self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
            self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self._sizes: list[int] = [linear.out_features for linear in linears]
        self._shared = shared

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(nn.functional.linear(x, self.weight, self.bias), self._sizes, dim=-1)
        self._shared.source, self._shared.parts = x, parts
        return parts[0]


class _Next(nn.Module):
    """Returns its part of the product that `_First` computed from the same input."""

    def __init__(self, place: int, last: bool, shared: _Shared) -> None:
        super().__init__()
        self._place = place
        self._last = last
        self._shared = shared

    def forward(self, x: Tensor) -> Tensor:
        shared = self._shared
        if x is not shared.source:
            raise RuntimeError("merged linears were called with different inputs")
        part = shared.parts[self._place]
        if self._last:
            shared.source, shared.parts = None, ()
        return part


def merge_linears(model: nn.Module) -> int:
    """Replace mergeable groups of linears in place, wherever they stand; return the number of merged groups.

    Groups with quantised, differently biased or differently shaped members are left as they are.
    """
    merged = 0
    for module in list(model.modules()):
        for names in GROUPS:
            linears = [getattr(module, name, None) for name in names]
            if not all(type(linear) is nn.Linear for linear in linears):
                continue
            found = [linear for linear in linears if isinstance(linear, nn.Linear)]
            if not all(type(linear.weight) is nn.Parameter for linear in found):
                continue
            if len({(linear.in_features, linear.bias is None, linear.weight.dtype) for linear in found}) != 1:
                continue
            shared = _Shared()
            setattr(module, names[0], _First(found, shared))
            for place, name in enumerate(names[1:], start=1):
                setattr(module, name, _Next(place, place == len(names) - 1, shared))
            merged += 1
    return merged


class _FusedRMSNorm(nn.Module):
    """torch's RMS norm, one call instead of six."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self._eps)


def fuse_norms(model: nn.Module) -> int:
    """Replace RMS norms by torch's, in float32 only and only where both give the same on random input."""
    replaced = 0
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            weight = getattr(norm, "weight", None)
            eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
            if not type(norm).__name__.endswith("RMSNorm") or weight is None or eps is None:
                continue
            if weight.dtype != torch.float32 or weight.ndim != 1:
                continue
            fused = _FusedRMSNorm(weight, eps)
            sample = torch.randn(4, weight.shape[0], device=weight.device, generator=_generator(weight.device))
            if torch.allclose(fused(sample), norm(sample), atol=1e-6, rtol=1e-5):
                setattr(parent, name, fused)
                replaced += 1
    return replaced


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)
