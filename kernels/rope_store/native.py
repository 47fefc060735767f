"""Rotary embedding and the cache's update in bfloat16 on a CPU in one pass, in C. Signature as in
`kernels.rope_store.reference`, which is used for other dtypes and where the kernels are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.rope_store import reference


class _Rope(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "cos", "sin", "rotated")),
        *((name, ctypes.c_void_p) for name in ("key_cache", "value_cache", "slots")),
        *((name, ctypes.c_int64) for name in ("tokens", "heads", "kv_heads", "dim", "rotary", "cached")),
        *((name, ctypes.c_int64 * 2) for name in ("query_strides", "key_strides", "value_strides")),
        ("table_stride", ctypes.c_int64),
        ("pool", native.Pool),
    ]


_Pair = ctypes.c_int64 * 2


def rope_store(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: tuple[Tensor, Tensor],
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
) -> Tensor:
    """See the reference; `transpose(0, 1)` of the result is contiguous."""
    call = native.function("rope_store", _Rope)
    cos, sin = tables
    tensors = (query, key, value, cos, sin, key_cache, value_cache)
    if call is None or not query.numel() or not all(_fits(x) for x in tensors):
        return reference.rope_store(query, key, value, tables, key_cache, value_cache, slots)
    if cos.stride(0) != sin.stride(0) or not key_cache.is_contiguous() or not value_cache.is_contiguous():
        return reference.rope_store(query, key, value, tables, key_cache, value_cache, slots)
    heads, tokens, dim = query.shape
    slots = slots.contiguous()
    rotated = torch.empty(tokens, heads, dim, dtype=query.dtype)
    call(
        _Rope(
            *(x.data_ptr() for x in (*tensors[:5], rotated, key_cache, value_cache, slots)),
            tokens,
            heads,
            key.shape[0],
            dim,
            cos.shape[-1],
            key_cache.shape[1],
            _Pair(*query.stride()[:2]),
            _Pair(*key.stride()[:2]),
            _Pair(*value.stride()[:2]),
            cos.stride(0),
            native.pool(),
        )
    )
    return rotated.transpose(0, 1)


def _fits(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.stride(-1) == 1
