"""Rotary embedding and the cache's update in torch: the definition, and the path of the CPU.

Su et al., "RoFormer" (2021), in the form with halves that Llama uses: number `i` of a head pairs with `i + half`. Every
scaling of the positions (linear, dynamic, YaRN, Llama 3, ...) is in the tables already, which `transformers` makes.
"""

import torch
from torch import Tensor

from kernels.kv_store.reference import store


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first `rotary` numbers of every head; the others are unchanged.

    Args:
        x: `[heads, tokens, head_dim]`, any strides.
        cos, sin: `[tokens, rotary]`, `rotary` even and at most `head_dim`; both halves are read.

    Returns:
        `[heads, tokens, head_dim]` in `x`'s dtype, computed in float32; strides in the order of `x`'s.
    """
    if x.dtype != torch.float32:
        return rotate(x.float(), cos.float(), sin.float()).to(x.dtype)
    rotary = cos.shape[-1]
    if rotary < x.shape[-1]:
        return torch.cat((rotate(x[..., :rotary], cos, sin), x[..., rotary:]), dim=-1)
    out = x * cos
    first, second = x.chunk(2, dim=-1)
    out_first, out_second = out.chunk(2, dim=-1)
    sin_first, sin_second = sin.chunk(2, dim=-1)
    out_first.addcmul_(second, sin_first, value=-1)
    out_second.addcmul_(first, sin_second)
    return out


def rope_store(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: tuple[Tensor, Tensor],
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
) -> Tensor:
    """Rotate one step's queries and keys; write keys and values into the cache, in place.

    Args:
        query: `[heads, tokens, head_dim]`, any strides.
        key, value: `[kv_heads, tokens, head_dim]`, any strides.
        tables: cosines and sines `[tokens, rotary]`, see `rotate`.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, changed at `slots` and nowhere else.
        slots: `[tokens]` int64, distinct.

    Returns:
        the rotated queries, `[heads, tokens, head_dim]`, of any strides.
    """
    store(rotate(key, *tables), value, key_cache, value_cache, slots)
    return rotate(query, *tables)
