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
        `[..., size]` in `x`'s dtype; strides in the order of `x`'s.
    """
    wide = x.float()
    scale: Tensor = (
        torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(weight.shape[0]).add_(eps).rsqrt_()
    )
    normed = (wide * scale).mul_(weight.float())
    return normed.to(x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of `x + residual`, and that sum, which is the next residual.

    Args:
        x, residual: `[..., size]` of one shape and dtype, any strides.
        weight, eps: see `rms_norm`.

    Returns:
        norm and sum, `[..., size]`, in `x`'s dtype. The sum is rounded to it before it is normalised.
    """
    total = x + residual
    return rms_norm(total, weight, eps), total
