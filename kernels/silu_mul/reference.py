"""SwiGLU's gate in torch: the definition, and the path of the CPU.

Shazeer, "GLU Variants Improve Transformer" (2020). Arithmetic in float32, rounded once at the end.
"""

import torch
from torch import Tensor


def silu_mul(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up`.

    Args:
        gate_up: `[..., 2 * size]`, gate first, any strides.

    Returns:
        `[..., size]`, contiguous, in the same dtype.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    if gate_up.dtype == torch.float32:
        return torch.nn.functional.silu(gate).mul_(up)
    return torch.nn.functional.silu(gate.float()).mul_(up).to(gate_up.dtype)
