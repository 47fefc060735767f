"""The paged cache: `[kv_heads, slots, head_dim]` for keys and for values of one layer.

Block `b` of `block_size` tokens owns slots `b * block_size` to `(b + 1) * block_size - 1`. A head's slots are
neighbours in memory, so that blocks that follow one another are, for each head, one matrix that needs no copy to be
multiplied.
"""

from torch import Tensor


def store(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """Write one step's keys and values into the cache, in place.

    Args:
        key, value: `[kv_heads, tokens, head_dim]`, any strides.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, changed at `slots` and nowhere else.
        slots: `[tokens]` int64, distinct.
    """
    key_cache.index_copy_(1, slots, key)
    value_cache.index_copy_(1, slots, value)


def copy_slots(cache: Tensor, source: Tensor, target: Tensor) -> None:
    """Copy slots to other slots for every layer and head at once (a block that two branches continue differently).

    Args:
        cache: `[layers, 2, kv_heads, slots, head_dim]`, changed at `target`.
        source, target: `[tokens]` int64; `target` distinct and disjoint from `source`.
    """
    cache.index_copy_(3, target, cache.index_select(3, source))
