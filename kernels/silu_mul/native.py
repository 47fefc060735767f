"""SwiGLU's gate of bfloat16 on a CPU in one pass, in C. Signature as in `kernels.silu_mul.reference`, which is used for
other dtypes and where the kernels are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.silu_mul import reference


class _Gate(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "y")),
        *((name, ctypes.c_int64) for name in ("rows", "stride", "size")),
        ("pool", native.Pool),
    ]


def silu_mul(gate_up: Tensor) -> Tensor:
    """See the reference; the result is contiguous."""
    call = native.function("silu_mul", _Gate)
    if call is None or gate_up.dtype != torch.bfloat16 or gate_up.device.type != "cpu" or not gate_up.numel():
        return reference.silu_mul(gate_up)
    gate_up = gate_up.contiguous()
    both = gate_up.shape[-1]
    y = torch.empty((*gate_up.shape[:-1], both // 2), dtype=gate_up.dtype)
    call(_Gate(gate_up.data_ptr(), y.data_ptr(), gate_up.numel() // both, both, both // 2, native.pool()))
    return y
