"""Rotary embedding and the cache's update in one launch, by Triton. Same function as `reference.rope_store`.

A program takes one token and a few heads of either the queries, the keys or the values.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.kv_store.reference import LARGEST, UNSCALED, Scales
from kernels.rows import dense

HEADS = 8  # of one program, at most


@triton.jit
def _rotate(
    source,
    head_stride,
    target,
    target_stride,
    cos,
    sin,
    heads,
    DIM: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    REST_BLOCK: tl.constexpr,
    first_head,
    HEADS: tl.constexpr,
    factor,
    largest,
):
    """Heads of one token from `source` to `target`; the first `ROTARY` numbers rotated. Of 8-bit numbers, no more than
    `largest` of them times `factor`.
    """
    head = (first_head + tl.arange(0, HEADS)[:, None]).to(tl.int64)  # a cache's heads may be billions of numbers apart
    if ROTARY > 0:
        half: tl.constexpr = ROTARY // 2
        column = tl.arange(0, HALF_BLOCK)[None, :]
        inside = column < half
        mask = (head < heads) & inside
        low = tl.load(source + head * head_stride + column, mask=mask, other=0.0).to(tl.float32)
        high = tl.load(source + head * head_stride + half + column, mask=mask, other=0.0).to(tl.float32)
        cos_low = tl.load(cos + column, mask=inside, other=0.0).to(tl.float32)
        cos_high = tl.load(cos + half + column, mask=inside, other=0.0).to(tl.float32)
        sin_low = tl.load(sin + column, mask=inside, other=0.0).to(tl.float32)
        sin_high = tl.load(sin + half + column, mask=inside, other=0.0).to(tl.float32)
        kind: tl.constexpr = target.dtype.element_ty
        tl.store(target + head * target_stride + column, (low * cos_low - high * sin_low).to(kind), mask=mask)
        tl.store(target + head * target_stride + half + column, (high * cos_high + low * sin_high).to(kind), mask=mask)
    if ROTARY < DIM:
        rest = ROTARY + tl.arange(0, REST_BLOCK)[None, :]
        mask = (head < heads) & (rest < DIM)
        passed = tl.load(source + head * head_stride + rest, mask=mask, other=0.0)
        if target.dtype.element_ty == tl.float8e4nv:
            scaled = passed.to(tl.float32) * factor
            passed = tl.minimum(tl.maximum(scaled, -largest), largest)
        tl.store(target + head * target_stride + rest, passed.to(target.dtype.element_ty), mask=mask)


@triton.jit
def _rope_store(
    query,
    key,
    value,
    cos,
    sin,
    key_cache,
    value_cache,
    slots,
    out,
    query_token_stride,
    query_head_stride,
    key_token_stride,
    key_head_stride,
    value_token_stride,
    value_head_stride,
    cos_stride,
    sin_stride,
    cache_head_stride,
    key_factor,  # 1 / scale, of a cache of 8-bit numbers
    value_factor,
    largest,
    QUERY_HEADS: tl.constexpr,  # 0: only keys and values
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    ROTARY: tl.constexpr,  # 0: only store
    HALF_BLOCK: tl.constexpr,  # power of two, at least ROTARY / 2
    REST_BLOCK: tl.constexpr,  # power of two, at least DIM - ROTARY
    DIM_BLOCK: tl.constexpr,  # power of two, at least DIM
    HEADS: tl.constexpr,  # of one program
):
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    query_parts: tl.constexpr = (QUERY_HEADS + HEADS - 1) // HEADS
    kv_parts: tl.constexpr = (KV_HEADS + HEADS - 1) // HEADS
    cos += token * cos_stride
    sin += token * sin_stride
    if part < query_parts:
        _rotate(
            query + token * query_token_stride,
            query_head_stride,
            out + token * QUERY_HEADS * DIM,
            DIM,
            cos,
            sin,
            QUERY_HEADS,
            DIM,
            ROTARY,
            HALF_BLOCK,
            REST_BLOCK,
            part * HEADS,
            HEADS,
            1.0,
            largest,
        )
    else:
        slot = tl.load(slots + token)
        if part < query_parts + kv_parts:
            _rotate(
                key + token * key_token_stride,
                key_head_stride,
                key_cache + slot * DIM,
                cache_head_stride,
                cos,
                sin,
                KV_HEADS,
                DIM,
                ROTARY,
                HALF_BLOCK,
                REST_BLOCK,
                (part - query_parts) * HEADS,
                HEADS,
                key_factor,
                largest,
            )
        else:
            _rotate(
                value + token * value_token_stride,
                value_head_stride,
                value_cache + slot * DIM,
                cache_head_stride,
                cos,
                sin,
                KV_HEADS,
                DIM,
                0,
                1,
                DIM_BLOCK,
                (part - query_parts - kv_parts) * HEADS,
                HEADS,
                value_factor,
                largest,
            )


def rope_store(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: tuple[Tensor, Tensor],
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
) -> Tensor:
    """See `reference.rope_store`. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: the tables do not fit the heads, or keys and caches differ in shape or layout.
    """
    cos, sin = tables
    rotary, dim = cos.shape[-1], query.shape[-1]
    if cos.shape != sin.shape or rotary % 2 or not 0 < rotary <= dim or cos.shape[0] != query.shape[1]:
        raise ValueError(f"tables {tuple(cos.shape)} and {tuple(sin.shape)} do not fit queries {tuple(query.shape)}")
    if query.shape[1:] != key.shape[1:]:
        raise ValueError(f"queries {tuple(query.shape)} and keys {tuple(key.shape)} differ in tokens or head size")
    heads, tokens, _ = query.shape
    out = torch.empty((tokens, heads, dim), dtype=query.dtype, device=query.device)
    launch(key, value, key_cache, value_cache, slots, Rotation(query, cos, sin, out))
    return out.transpose(0, 1)


def blocks(dim: int, rotary: int) -> dict[str, int]:
    """The kernel's block sizes for heads of `dim` numbers."""
    return {
        "HALF_BLOCK": triton.next_power_of_2(max(rotary // 2, 1)),
        "REST_BLOCK": triton.next_power_of_2(max(dim - rotary, 1)),
        "DIM_BLOCK": triton.next_power_of_2(dim),
    }


class Rotation(NamedTuple):
    """Queries to rotate together with the keys."""

    query: Tensor  # [heads, tokens, head_dim]
    cos: Tensor  # [tokens, rotary]
    sin: Tensor  # [tokens, rotary]
    out: Tensor  # [tokens, heads, head_dim], the rotated queries


def launch(
    key: Tensor,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor | None,
    slots: Tensor,
    rotation: Rotation | None = None,
    scales: Scales = UNSCALED,
) -> None:
    """Start the kernel; without a rotation, keys and values are only written into the cache, which then may hold 8-bit
    numbers. Without values, keys alone are.
    """
    kinds = 2
    if value is None or value_cache is None:  # whose programs are not started then
        kinds, value, value_cache = 1, key, key_cache
    kv_heads, tokens, dim = key.shape
    wanted = (kv_heads, key_cache.shape[1], dim)
    if key.shape != value.shape or key_cache.shape != wanted or value_cache.shape != wanted:
        shapes = [tuple(each.shape) for each in (key, value, key_cache, value_cache)]
        raise ValueError(f"keys, values and their caches must agree in heads and head size: {shapes}")
    if key_cache.stride() != value_cache.stride() or key_cache.stride()[1:] != (dim, 1):
        raise ValueError(f"caches must be [kv_heads, slots, {dim}] with neighbouring slots: {key_cache.stride()}")
    if not tokens:
        return
    key, value = dense(key), dense(value)
    query = cos = sin = out = key  # never read where nothing is rotated
    heads = rotary = 0
    if rotation is not None:
        query, cos, sin, out = (dense(each) for each in rotation)
        heads, rotary = query.shape[0], cos.shape[-1]
    group = min(HEADS, triton.next_power_of_2(max(heads, kv_heads)))
    parts = triton.cdiv(heads, group) + kinds * triton.cdiv(kv_heads, group)
    _rope_store[(tokens, parts)](
        query,
        key,
        value,
        cos,
        sin,
        key_cache,
        value_cache,
        slots,
        out,
        query.stride(1),
        query.stride(0),
        key.stride(1),
        key.stride(0),
        value.stride(1),
        value.stride(0),
        cos.stride(0),
        sin.stride(0),
        key_cache.stride(0),
        1 / scales.key,
        1 / scales.value,
        LARGEST,
        QUERY_HEADS=heads,
        KV_HEADS=kv_heads,
        DIM=dim,
        ROTARY=rotary,
        **blocks(dim, rotary),
        HEADS=group,
        num_warps=4 if group * dim >= 512 else 1,
        enable_fp_fusion=True,  # see `kernels.rms_norm`
    )
