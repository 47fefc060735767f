"""The paged cache: `[kv_heads, slots, head_dim]` for keys and for values of one layer.

Block `b` of `block_size` tokens owns slots `b * block_size` to `(b + 1) * block_size - 1`. A head's slots are
neighbours in memory, so that blocks that follow one another are, for each head, one matrix that needs no copy to be
multiplied.

A cache may hold 8-bit numbers (`torch.float8_e4m3fn`): what is stored is divided by a scale, and set to the largest of
them where it is larger. Scales are powers of two, so that dividing and multiplying by them rounds nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 448.0  # of float8_e4m3fn


class Scales(NamedTuple):
    """What the keys and the values of a layer are divided by before they are stored."""

    key: float = 1.0
    value: float = 1.0


UNSCALED = Scales()


def store(
    key: Tensor,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor | None,
    slots: Tensor,
    scales: Scales = UNSCALED,
) -> None:
    """Write one step's keys and values into the cache, in place.

    Args:
        key, value: `[kv_heads, tokens, head_dim]`, any strides. `None` for values, and their cache, where keys are
            values, too.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, changed at `slots` and nowhere else.
        slots: `[tokens]` int64, distinct.
        scales: of a cache of 8-bit numbers.
    """
    for new, cache, scale in ((key, key_cache, scales.key), (value, value_cache, scales.value)):
        if new is not None and cache is not None:
            bits(cache).index_copy_(1, slots, bits(rounded(new, cache.dtype, scale)))


def rounded(x: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """Keys or values as a cache of that dtype holds them."""
    if x.dtype == dtype:
        return x
    return (x.float() / scale).clamp_(-LARGEST, LARGEST).to(dtype)


def select(cache: Tensor, dim: int, index: Tensor) -> Tensor:
    """`torch.index_select` of a cache of any dtype."""
    return bits(cache).index_select(dim, index).view(cache.dtype)


def bits(x: Tensor) -> Tensor:
    """8-bit floats as integers: torch copies them by index on no device as what they are."""
    return x.view(torch.uint8) if x.dtype.itemsize == 1 else x


def copy_slots(cache: Tensor, source: Tensor, target: Tensor) -> None:
    """Copy slots to other slots for every layer and head at once (a block that two branches continue differently).

    Args:
        cache: `[layers, 2, kv_heads, slots, head_dim]`, changed at `target`.
        source, target: `[tokens]` int64; `target` distinct. All sources are read before any target is written.
    """
    stored = bits(cache)
    stored.index_copy_(3, target, stored.index_select(3, source))
