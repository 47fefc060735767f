"""SwiGLU's gate in one pass over memory, by Triton. Same function as `reference`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rows import rows_of

BLOCK = 1024


@triton.jit
def _silu_mul(
    gate_up,
    out,
    inner,
    outer_stride,
    inner_stride,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < SIZE
    start = gate_up + row // inner * outer_stride + row % inner * inner_stride
    gate = tl.load(start + column, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(start + SIZE + column, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + row * SIZE + column, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=mask)


def silu_mul(gate_up: Tensor) -> Tensor:
    """See `reference.silu_mul`. The device is a GPU (or Triton's interpreter)."""
    size, odd = divmod(gate_up.shape[-1], 2)
    if odd:
        raise ValueError(f"gate and up cannot both be of one size in a row of {gate_up.shape[-1]} numbers")
    out = torch.empty((*gate_up.shape[:-1], size), dtype=gate_up.dtype, device=gate_up.device)
    rows = rows_of(gate_up)
    if out.numel():
        block = min(BLOCK, triton.next_power_of_2(size))
        _silu_mul[(rows.count, triton.cdiv(size, block))](
            rows.data,
            out,
            rows.inner,
            rows.outer_stride,
            rows.inner_stride,
            SIZE=size,
            BLOCK=block,
            num_warps=max(1, block // 256),
            enable_fp_fusion=True,  # see `kernels.rms_norm`
        )
    return out
