"""Tree attention in torch: every item of a work list, then one merge in float32.

This is the definition of the operation and also the CPU path: a node shared by many sequences is read once, in place,
by one matrix product of all their queries (Hydragen, arXiv 2402.05099, sections 3.1 and 3.2), and no key is copied
per sequence except the short tails that belong to one sequence alone.
"""

import torch
from torch import Tensor

from kernels.attention.reference import attend
from kernels.lse_merge.reference import merge_partials
from kernels.tree_attention.worklist import NodeLaunch, StripLaunch, TailLaunch, WorkList


def tree_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, work: WorkList, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of a packed batch over the tree of cache blocks that `work` describes.

    Args:
        query: `[rows, heads, head_dim]`, any strides.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, contiguous; `heads` is a multiple of `kv_heads`. Slots
            of listed blocks beyond an item's range never count, but must hold finite numbers.
        work: the step's items; every row's keys must already be stored.
        scale: factor of the scores.

    Returns:
        Output `[rows, heads, head_dim]` in the dtype of `query`, and log-sum-exp (natural logarithm) `[rows, heads]`
        in float32. A row without keys has output 0 and log-sum-exp `-inf`.
    """
    rows, heads, dim = query.shape
    kv_heads = key_cache.shape[0]
    group = heads // kv_heads
    by_head = (
        query.view(rows, kv_heads, group, dim).permute(1, 0, 2, 3).contiguous()
    )  # [kv_heads, rows, group, head_dim]
    # The last slot stands for "no keys".
    partials = torch.zeros(work.partials + 1, kv_heads, group, dim, dtype=torch.float32, device=query.device)
    lse = torch.full((work.partials + 1, kv_heads, group), -torch.inf, dtype=torch.float32, device=query.device)
    for launch in work.launches:
        if isinstance(launch, NodeLaunch):
            output, level = _node(by_head, key_cache, value_cache, launch, scale)
        elif isinstance(launch, StripLaunch):
            output, level = _strip(by_head, key_cache, value_cache, launch, scale)
        else:
            output, level = _tails(by_head, key_cache, value_cache, launch, scale, work.block_size)
        end = launch.partial + output.shape[1]
        partials[launch.partial : end] = output.transpose(0, 1)
        lse[launch.partial : end] = level.transpose(0, 1)
    merged, total = merge_partials(partials.view(-1, heads, dim), lse.view(-1, heads), work.parts)
    return merged.to(query.dtype), total


def _node(
    by_head: Tensor, key_cache: Tensor, value_cache: Tensor, launch: NodeLaunch, scale: float
) -> tuple[Tensor, Tensor]:
    """`([kv_heads, rows, group, head_dim], [kv_heads, rows, group])` of one item."""
    queries = by_head[:, launch.rows]
    kv_heads, count, group, dim = queries.shape
    if isinstance(launch.keys, slice):
        key, value = key_cache[:, launch.keys], value_cache[:, launch.keys]
    else:
        key, value = key_cache.index_select(1, launch.keys), value_cache.index_select(1, launch.keys)
    if launch.causal:
        key = key[:, None].expand(-1, group, -1, -1)
        value = value[:, None].expand(-1, group, -1, -1)
        output, lse = attend(queries.transpose(1, 2), key, value, scale, causal=True)  # heads are [kv_heads, group]
        return output.transpose(1, 2), lse.transpose(1, 2)
    output, lse = attend(queries.reshape(1, kv_heads, count * group, dim), key[None], value[None], scale)
    return output.view(kv_heads, count, group, dim), lse.reshape(kv_heads, count, group)


def _tails(
    by_head: Tensor, key_cache: Tensor, value_cache: Tensor, launch: TailLaunch, scale: float, block_size: int
) -> tuple[Tensor, Tensor]:
    """`([kv_heads, items, group, head_dim], [kv_heads, items, group])` of many one-row items."""
    kv_heads, slots, dim = key_cache.shape
    count = launch.rows.shape[0]
    heads = torch.arange(kv_heads, device=by_head.device)[:, None] * (slots // block_size)
    index = (heads + launch.blocks).view(-1)
    shape = (kv_heads, count, launch.width * block_size, dim)
    key = key_cache.view(-1, block_size * dim).index_select(0, index).view(shape)
    value = value_cache.view(-1, block_size * dim).index_select(0, index).view(shape)
    return _many(by_head.index_select(1, launch.rows), key, value, launch.bias, scale)


def _strip(
    by_head: Tensor, key_cache: Tensor, value_cache: Tensor, launch: StripLaunch, scale: float
) -> tuple[Tensor, Tensor]:
    """`([kv_heads, items, group, head_dim], [kv_heads, items, group])` of a strip, each head's tails read in place."""
    kv_heads, slots, dim = key_cache.shape
    places = launch.rows.shape[0]
    shape = (kv_heads, places, launch.length, dim)
    strides = (slots * dim, launch.stride * dim, dim, 1)
    key = key_cache[:, launch.first :].as_strided(shape, strides)
    value = value_cache[:, launch.first :].as_strided(shape, strides)
    output, lse = _many(by_head.index_select(1, launch.rows), key, value, launch.bias, scale)
    if launch.at.shape[0] == places:
        return output, lse
    return output.index_select(1, launch.at), lse.index_select(1, launch.at)


def _many(queries: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of `[kv_heads, items, group, head_dim]` over each item's own keys `[kv_heads, items, keys, head_dim]`,
    with the bias `[1, items, 1, keys]` of both kinds of launch.
    """
    output, lse = attend(
        queries.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), scale, bias=bias.transpose(0, 1)
    )
    return output.transpose(0, 1), lse.transpose(0, 1)
