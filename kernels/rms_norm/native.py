"""RMS norm of bfloat16 on a CPU in one pass, in C. Signatures as in `kernels.rms_norm.reference`, which is used for
other dtypes and where the kernels are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.rms_norm import reference
from kernels.rows import rows_of


class _Norm(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "residual", "total", "y", "weight")),
        *((name, ctypes.c_int64) for name in ("rows", "inner", "outer_stride", "inner_stride", "size")),
        ("eps", ctypes.c_float),
        ("pool", native.Pool),
    ]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See the reference; the result is contiguous."""
    call = native.function("rms_norm", _Norm)
    if call is None or not _fits(x, weight):
        return reference.rms_norm(x, weight, eps)
    rows = rows_of(x)
    y = torch.empty(x.shape, dtype=x.dtype)
    job = _Norm(
        rows.data.data_ptr(),
        None,
        None,
        y.data_ptr(),
        weight.data_ptr(),
        rows.count,
        rows.inner,
        rows.outer_stride,
        rows.inner_stride,
        x.shape[-1],
        eps,
        native.pool(),
    )
    call(job)
    return y


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See the reference; the results are contiguous."""
    call = native.function("rms_norm", _Norm)
    if call is None or not _fits(x, weight) or residual.dtype != x.dtype or residual.shape != x.shape:
        return reference.add_rms_norm(x, residual, weight, eps)
    x, residual = x.contiguous(), residual.contiguous()
    y, total = torch.empty(x.shape, dtype=x.dtype), torch.empty(x.shape, dtype=x.dtype)
    size = x.shape[-1]
    job = _Norm(
        x.data_ptr(),
        residual.data_ptr(),
        total.data_ptr(),
        y.data_ptr(),
        weight.data_ptr(),
        x.numel() // size,
        1,
        size,
        0,
        size,
        eps,
        native.pool(),
    )
    call(job)
    return y, total


def _fits(x: Tensor, weight: Tensor) -> bool:
    same = x.dtype == weight.dtype == torch.bfloat16 and x.device.type == "cpu"
    return same and x.numel() > 0 and weight.is_contiguous()
