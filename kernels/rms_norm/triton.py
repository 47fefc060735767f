"""RMS norm in one pass over memory, by Triton. Same functions as `reference`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rows import Rows, rows_of

LONGEST = 32768  # numbers in a row; it is held in registers


@triton.jit(do_not_specialize=["rows"])
def _rms_norm(
    x,
    residual,
    weight,
    out,
    total,
    rows,
    inner,  # rows of one outer row
    outer_stride,
    inner_stride,
    residual_outer_stride,
    residual_inner_stride,
    eps,
    SIZE: tl.constexpr,  # numbers in a row
    BLOCK: tl.constexpr,  # power of two, at least SIZE
    ROWS: tl.constexpr,  # of one program
    ADD: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < SIZE)
    values = tl.load(x + row // inner * outer_stride + row % inner * inner_stride + column, mask=mask, other=0.0)
    values = values.to(tl.float32)
    if ADD:
        other = residual + row // inner * residual_outer_stride + row % inner * residual_inner_stride + column
        values += tl.load(other, mask=mask, other=0.0).to(tl.float32)
        rounded = values.to(total.dtype.element_ty)
        tl.store(total + row * SIZE + column, rounded, mask=mask)
        values = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / SIZE + eps)
    factor = tl.load(weight + column, mask=column < SIZE, other=0.0).to(tl.float32)
    tl.store(out + row * SIZE + column, (values * scale[:, None] * factor).to(out.dtype.element_ty), mask=mask)


def tiling(size: int) -> tuple[int, int, int]:
    """How rows of `size` numbers are cut: block, rows of one program, warps."""
    block = triton.next_power_of_2(size)
    rows = max(1, 1024 // block)  # short rows (heads) share a program
    return block, rows, min(16, max(1, block * rows // 512))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See `reference.rms_norm`. The device is a GPU (or Triton's interpreter), rows are at most `LONGEST` long."""
    _check(x, weight)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(rows_of(x), None, weight, out, None, eps)
    return out


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `reference.add_rms_norm` and `rms_norm`."""
    _check(x, weight)
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError(f"x and residual differ: {x.dtype} {tuple(x.shape)}, {residual.dtype} {tuple(residual.shape)}")
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = torch.empty_like(out)
    first, second = rows_of(x), rows_of(residual)
    if first.inner != second.inner:
        first, second = rows_of(x.contiguous()), rows_of(residual.contiguous())
    _launch(first, second, weight, out, total, eps)
    return out, total


def _check(x: Tensor, weight: Tensor) -> None:
    if weight.ndim != 1 or x.shape[-1:] != weight.shape:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit rows of {tuple(x.shape)}: both must end alike")
    if weight.shape[0] > LONGEST:
        raise ValueError(f"rows of {weight.shape[0]} numbers are longer than {LONGEST}: use the reference")


def _launch(x: Rows, residual: Rows | None, weight: Tensor, out: Tensor, total: Tensor | None, eps: float) -> None:
    if not x.count:
        return
    size = weight.shape[0]
    block, rows, warps = tiling(size)
    second = x if residual is None else residual
    _rms_norm[(triton.cdiv(x.count, rows),)](
        x.data,
        second.data,
        weight.contiguous(),
        out,
        out if total is None else total,
        x.count,
        x.inner,
        x.outer_stride,
        x.inner_stride,
        second.outer_stride,
        second.inner_stride,
        eps,
        SIZE=size,
        BLOCK=block,
        ROWS=rows,
        ADD=residual is not None,
        num_warps=warps,
        enable_fp_fusion=True,  # a multiplication and an addition round once; the default may change
    )
