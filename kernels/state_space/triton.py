"""A selective state space by Triton. Same function as `reference.advance`.

A program holds some values of one head's state in registers, `[values, keys]`: it is read once and written once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.places import Places
from kernels.rows import dense
from kernels.state_space import reference
from kernels.state_space.reference import Token

HELD = 4096  # numbers of a state that a program holds; 128 features of a key are 32 values


@triton.jit
def _softplus(x):
    # log(1 + e^x), exact also where e^x is small (Goldberg 1991, theorem 4). Above 20 it is x.
    power = tl.exp(tl.minimum(x, 20.0))
    more = 1.0 + power
    found = tl.where(more == 1.0, power, tl.log(more) * (power / tl.where(more == 1.0, 1.0, more - 1.0)))
    return tl.where(x > 20.0, x, found)


@triton.jit
def _state_space(
    value,
    time,
    rate,
    key,
    query,
    skip,
    bias,
    gate,
    states,
    slots,
    out,
    value_text_stride,
    value_head_stride,
    time_text_stride,
    time_head_stride,
    rate_head_stride,
    rate_value_stride,
    key_text_stride,
    key_head_stride,
    query_text_stride,
    query_head_stride,
    skip_head_stride,
    skip_value_stride,
    bias_head_stride,
    gate_text_stride,
    gate_head_stride,
    HEADS: tl.constexpr,
    SHARE: tl.constexpr,  # heads that a key serves
    VALUES: tl.constexpr,
    WIDTH: tl.constexpr,  # of a key
    VALUE_BLOCK: tl.constexpr,  # values of a program
    WIDTH_BLOCK: tl.constexpr,  # power of two, at least WIDTH
    ALIKE: tl.constexpr,  # all of a head's values decay alike
    SKIP: tl.constexpr,
    BIAS: tl.constexpr,
    GATE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    KEPT: tl.constexpr,
):
    text = (tl.program_id(0) // HEADS).to(tl.int64)
    head = tl.program_id(0) % HEADS
    feature = tl.arange(0, WIDTH_BLOCK)
    row = tl.program_id(1) * VALUE_BLOCK + tl.arange(0, VALUE_BLOCK)
    wide, narrow = feature < WIDTH, row < VALUES
    slot = tl.load(slots + text)
    place = (slot * HEADS + head) * (VALUES * WIDTH) + row[:, None] * WIDTH + feature[None, :]
    known = row < tl.where(slot >= 0, VALUES, 0)  # Triton's interpreter widens a mask of one element wrongly
    mask = known[:, None] & wide[None, :]
    state = tl.load(states + place, mask=mask, other=0.0)

    source = text * key_text_stride + head // SHARE * key_head_stride
    k = tl.load(key + source + feature, mask=wide, other=0.0).to(tl.float32)
    source = text * query_text_stride + head // SHARE * query_head_stride
    q = tl.load(query + source + feature, mask=wide, other=0.0).to(tl.float32)
    source = text * value_text_stride + head * value_head_stride
    v = tl.load(value + source + row, mask=narrow, other=0.0).to(tl.float32)
    source = text * time_text_stride + head * time_head_stride
    if ALIKE:
        passed = tl.load(time + source).to(tl.float32)
        if BIAS:
            passed += tl.load(bias + head * bias_head_stride).to(tl.float32)
        if SOFTPLUS:
            passed = _softplus(passed)
        state *= tl.exp(passed * tl.load(rate + head * rate_head_stride).to(tl.float32))
    else:
        passed = tl.load(time + source + row, mask=narrow, other=0.0).to(tl.float32)
        if BIAS:
            passed += tl.load(bias + head * bias_head_stride + row, mask=narrow, other=0.0).to(tl.float32)
        if SOFTPLUS:
            passed = _softplus(passed)
        source = head * rate_head_stride + row[:, None] * rate_value_stride + feature[None, :]
        rates = tl.load(rate + source, mask=narrow[:, None] & wide[None, :], other=0.0).to(tl.float32)
        state *= tl.exp(passed[:, None] * rates)

    state += (passed * v)[:, None] * k[None, :]
    if KEPT:
        tl.store(states + place, state, mask=mask)
    read = tl.sum(state * q[None, :], axis=1)
    if SKIP:
        source = head * skip_head_stride + row * skip_value_stride
        read += v * tl.load(skip + source, mask=narrow, other=0.0).to(tl.float32)
    if GATE:
        source = text * gate_text_stride + head * gate_head_stride
        z = tl.load(gate + source + row, mask=narrow, other=0.0).to(tl.float32)
        read *= z * tl.sigmoid(z)
    place = (text * HEADS + head) * VALUES + row
    tl.store(out + place, read.to(out.dtype.element_ty), mask=narrow)


def blocks(values: int, width: int) -> dict[str, int]:
    """The kernel's block sizes for states `[values, width]`."""
    block = triton.next_power_of_2(width)
    return {"VALUE_BLOCK": min(triton.next_power_of_2(values), max(4, HELD // block)), "WIDTH_BLOCK": block}


def advance(token: Token, places: Places) -> Tensor:
    """See the reference. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: see `reference.check`.
    """
    reference.check(token, places)
    states, slots, kept = places
    texts, heads, values = token.value.shape
    groups, width = token.key.shape[1:]
    out = torch.empty((texts, heads, values), dtype=token.value.dtype, device=token.value.device)
    if not texts:
        return out
    value, time, rate, key, query = (dense(x) for x in token[:5])
    skip = value if token.skip is None else token.skip
    bias = value if token.bias is None else dense(token.bias)
    gate = value if token.gate is None else dense(token.gate)
    sizes = blocks(values, width)
    _state_space[(texts * heads, triton.cdiv(values, sizes["VALUE_BLOCK"]))](
        value,
        time,
        rate,
        key,
        query,
        skip,
        bias,
        gate,
        states,
        slots.contiguous(),
        out,
        *value.stride()[:2],
        *time.stride()[:2],
        *rate.stride()[:2],
        *key.stride()[:2],
        *query.stride()[:2],
        *skip.stride()[-2:],
        bias.stride(-2),
        *gate.stride()[:2],
        HEADS=heads,
        SHARE=heads // groups,
        VALUES=values,
        WIDTH=width,
        **sizes,
        ALIKE=token.alike,
        SKIP=token.skip is not None,
        BIAS=token.bias is not None,
        GATE=token.gate is not None,
        SOFTPLUS=token.softplus,
        KEPT=kept,
        num_warps=4,
        enable_fp_fusion=True,  # see `kernels.rms_norm`
    )
    return out
