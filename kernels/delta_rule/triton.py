"""The gated delta rule by Triton. Same function as `reference.advance`.

A program holds some values of one head's state in registers, `[key, values]`: it is read once and written once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.delta_rule import reference
from kernels.delta_rule.reference import EPS, Token
from kernels.places import Places
from kernels.rows import dense

HELD = 4096  # numbers of a state that a program holds; 128 features of a key are 32 values, a line of memory each


@triton.jit
def _delta_rule(
    query,
    key,
    value,
    decay,
    beta,
    states,
    slots,
    out,
    query_text_stride,
    query_head_stride,
    key_text_stride,
    key_head_stride,
    value_text_stride,
    value_head_stride,
    decay_text_stride,
    decay_head_stride,
    beta_text_stride,
    beta_head_stride,
    scale,
    eps,
    HEADS: tl.constexpr,
    SHARE: tl.constexpr,  # heads that a key serves
    WIDTH: tl.constexpr,  # of a key
    VALUES: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,  # power of two, at least WIDTH
    VALUE_BLOCK: tl.constexpr,  # values of a program
    EACH: tl.constexpr,  # features of a key decay on their own
    NORMED: tl.constexpr,
    KEPT: tl.constexpr,
):
    text = (tl.program_id(0) // HEADS).to(tl.int64)
    head = tl.program_id(0) % HEADS
    feature = tl.arange(0, WIDTH_BLOCK)
    column = tl.program_id(1) * VALUE_BLOCK + tl.arange(0, VALUE_BLOCK)
    wide, narrow = feature < WIDTH, column < VALUES
    slot = tl.load(slots + text)
    place = (slot * HEADS + head) * (WIDTH * VALUES) + feature[:, None] * VALUES + column[None, :]
    known = feature < tl.where(slot >= 0, WIDTH, 0)  # Triton's interpreter widens a mask of one element wrongly
    mask = known[:, None] & narrow[None, :]
    state = tl.load(states + place, mask=mask, other=0.0)

    source = text * query_text_stride + head // SHARE * query_head_stride
    q = tl.load(query + source + feature, mask=wide, other=0.0).to(tl.float32)
    source = text * key_text_stride + head // SHARE * key_head_stride
    k = tl.load(key + source + feature, mask=wide, other=0.0).to(tl.float32)
    if NORMED:
        q *= tl.rsqrt(tl.sum(q * q, axis=0) + eps)
        k *= tl.rsqrt(tl.sum(k * k, axis=0) + eps)
    source = text * value_text_stride + head * value_head_stride
    v = tl.load(value + source + column, mask=narrow, other=0.0).to(tl.float32)
    source = text * decay_text_stride + head * decay_head_stride
    if EACH:
        state *= tl.exp(tl.load(decay + source + feature, mask=wide, other=0.0).to(tl.float32))[:, None]
    else:
        state *= tl.exp(tl.load(decay + source).to(tl.float32))
    rate = tl.load(beta + text * beta_text_stride + head * beta_head_stride).to(tl.float32)

    moved = (v - tl.sum(state * k[:, None], axis=0)) * rate
    state += k[:, None] * moved[None, :]
    if KEPT:
        tl.store(states + place, state, mask=mask)
    read = tl.sum(state * q[:, None], axis=0) * scale
    place = (text * HEADS + head) * VALUES + column
    tl.store(out + place, read.to(out.dtype.element_ty), mask=narrow)


def blocks(width: int, values: int) -> dict[str, int]:
    """The kernel's block sizes for states `[width, values]`."""
    block = triton.next_power_of_2(width)
    return {"WIDTH_BLOCK": block, "VALUE_BLOCK": min(triton.next_power_of_2(values), max(4, HELD // block))}


def advance(token: Token, places: Places) -> Tensor:
    """See the reference. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: see `reference.check`.
    """
    reference.check(token, places)
    states, slots, kept = places
    texts, key_heads, width = token.query.shape
    heads, values = token.value.shape[1:]
    out = torch.empty((texts, heads, values), dtype=token.query.dtype, device=token.query.device)
    if not texts:
        return out
    query, key, value = (dense(x) for x in token[:3])
    decay = token.decay if token.decay.ndim == 2 else dense(token.decay)
    sizes = blocks(width, values)
    _delta_rule[(texts * heads, triton.cdiv(values, sizes["VALUE_BLOCK"]))](
        query,
        key,
        value,
        decay,
        token.beta,
        states,
        slots.contiguous(),
        out,
        *query.stride()[:2],
        *key.stride()[:2],
        *value.stride()[:2],
        *decay.stride()[:2],
        *token.beta.stride(),
        width**-0.5,
        EPS,
        HEADS=heads,
        SHARE=heads // key_heads,
        WIDTH=width,
        VALUES=values,
        **sizes,
        EACH=decay.ndim == 3,
        NORMED=token.normed,
        KEPT=kept,
        num_warps=4,
        enable_fp_fusion=True,  # see `kernels.rms_norm`
    )
    return out
