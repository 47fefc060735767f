"""RMS norm in torch: the definition, and the path of the CPU.

Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019). All arithmetic in float32, rounded once at the end;
`transformers`' Llama also rounds before it multiplies with the weight, which is within one unit of the last place.
"""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension.

    Args:
        x: `[..., size]`, any strides.
        weight: `[size]`, of any floating dtype.
        eps: added to the mean square.

    Returns:
        `[..., size]`, contiguous, in `x`'s dtype.
    """
    if x.dtype == weight.dtype == torch.float32:
        return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)
    wide = torch.nn.functional.rms_norm(x.float(), weight.shape, weight.float(), eps)
    return wide.to(x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of `x + residual`, and that sum, which is the next residual.

    Args:
        x, residual: `[..., size]` of one shape and dtype, any strides.
        weight, eps: see `rms_norm`.

    Returns:
        norm and sum, `[..., size]`, contiguous, in `x`'s dtype. The sum is rounded to it before it is normalised.
    """
    total = x + residual
    return rms_norm(total, weight, eps), total
