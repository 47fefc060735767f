"""A short convolution by Triton. Same function as `reference.advance`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.places import Places
from kernels.short_conv import reference
from kernels.short_conv.reference import Input

BLOCK = 256  # features of a program


@triton.jit
def _short_conv(
    x,
    weight,
    bias,
    states,
    slots,
    out,
    text_stride,
    feature_stride,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,  # inputs that a state holds
    TAPS: tl.constexpr,
    BIAS: tl.constexpr,
    SILU: tl.constexpr,
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    text = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = feature < FEATURES
    slot = tl.load(slots + text)
    owned = feature < tl.where(slot >= 0, FEATURES, 0)  # Triton's interpreter widens a mask of one element wrongly
    place = states + slot * (FEATURES * WIDTH) + feature * WIDTH
    total = tl.zeros([BLOCK], tl.float32)
    for at in tl.static_range(WIDTH + 1):  # the last one is new; a feature's inputs move on by one place
        if at < WIDTH:
            known = tl.load(place + at, mask=owned, other=0.0)
        else:
            known = tl.load(x + text * text_stride + feature * feature_stride, mask=mask, other=0.0)
            known = known.to(states.dtype.element_ty)
        if at + TAPS > WIDTH:
            tap = tl.load(weight + feature * TAPS + (at + TAPS - WIDTH - 1), mask=mask, other=0.0)
            total += tap.to(tl.float32) * known.to(tl.float32)
        if KEPT and at > 0:
            tl.store(place + at - 1, known, mask=owned)
    if BIAS:
        total += tl.load(bias + feature, mask=mask, other=0.0).to(tl.float32)
    if SILU:
        total = total * tl.sigmoid(total)
    tl.store(out + text * FEATURES + feature, total.to(out.dtype.element_ty), mask=mask)


def advance(given: Input, places: Places) -> Tensor:
    """See the reference. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: see `reference.check`.
    """
    reference.check(given, places)
    x, weight, bias, silu = given
    texts, features = x.shape
    out = torch.empty((texts, features), dtype=x.dtype, device=x.device)
    if not texts:
        return out
    _short_conv[(texts, triton.cdiv(features, BLOCK))](
        x,
        weight.contiguous(),
        weight if bias is None else bias,
        places.states,
        places.slots.contiguous(),
        out,
        *x.stride(),
        FEATURES=features,
        WIDTH=places.states.shape[-1],
        TAPS=weight.shape[-1],
        BIAS=bias is not None,
        SILU=silu,
        KEPT=places.kept,
        BLOCK=BLOCK,
        num_warps=4,
        enable_fp_fusion=True,  # see `kernels.rms_norm`
    )
    return out
