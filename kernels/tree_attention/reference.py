"""Tree attention in torch: every launch of a work list, then one merge in float32.

This is the definition of the operation and also the CPU path: a node shared by many sequences is read once, in place,
by one matrix product of all their queries (Hydragen, arXiv 2402.05099, sections 3.1 and 3.2), and no key is copied
per sequence except the short tails that belong to one sequence alone.
"""

import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.attention.reference import attend
from kernels.kv_store.reference import select
from kernels.lse_merge.reference import merge_levels
from kernels.tree_attention.launches import Launch, NodeLaunch, StripLaunch, TailLaunch
from kernels.tree_attention.worklist import WorkList


def tree_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    work: WorkList,
    scale: float,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of a packed batch over the tree of cache blocks that `work` describes.

    Args:
        query: `[rows, heads, head_dim]`, any strides.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, contiguous; `heads` is a multiple of `kv_heads`. In the
            dtype of `query`, or 8-bit numbers, which are turned into it when they are read. Slots of listed blocks
            beyond an item's range never count, but must hold finite numbers.
        work: the step's items; every row's keys must already be stored.
        scale: factor of the scores.
        cap: scores become `cap * tanh(score / cap)`, before any are masked.
        sinks: `[heads]`, for each head the score of one more key whose value is 0, which is not scaled or capped.

    Returns:
        Output `[rows, heads, head_dim]` in the dtype of `query`, and log-sum-exp (natural logarithm) `[rows, heads]`
        in float32, sinks counted. A row without keys has output 0 and log-sum-exp `-inf`, or the sink.
    """
    room = _launch(query, key_cache, value_cache, work, scale, cap)
    return room.output(query, sinks), room.lse(query, sinks)


def tree_attention_output(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    work: WorkList,
    scale: float,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The output of `tree_attention` alone."""
    return _launch(query, key_cache, value_cache, work, scale, cap).output(query, sinks)


class _Room:
    """Buffers for the partial results of one work list and one shape of heads, reused in every layer, and what its
    launches need in that shape. Between large products every call costs tens of microseconds, because its code is not
    in the cache: what can be made once per step is made here.
    """

    def __init__(self, work: WorkList, kv_heads: int, group: int, dim: int, blocks: int, dtype: torch.dtype) -> None:
        plan, device, rows = work.plan, work.device, work.rows
        self.shape = (kv_heads, group, dim, blocks, dtype)
        self._hollow = plan.hollow
        kind = dtype if plan.levels == 1 else torch.float32  # a row's only result is its output: nothing is merged
        with torch.inference_mode(False):  # layers in both modes may write
            self._values = torch.zeros(kv_heads, 1 + plan.levels * rows, group, dim, dtype=kind, device=device)
            self._lse = torch.full((kv_heads, 1 + plan.levels * rows, group), -torch.inf, device=device)
        # [kv_heads, levels, rows, group, head_dim]
        self._levels = self._values[:, 1:].view(kv_heads, plan.levels, rows, group, dim)
        self._lse_levels = self._lse[:, 1:].view(kv_heads, plan.levels, rows, group)
        heads = torch.arange(kv_heads, device=device)[:, None] * blocks
        self.launches: list[_Shaped] = []
        for launch in plan.launches:
            entries = targets = blind = None
            bias = launch.bias
            count = launch.rows.stop - launch.rows.start if isinstance(launch, NodeLaunch) else launch.count
            if bias is not None and bias.shape[2] > 1 and not (isinstance(launch, NodeLaunch) and launch.causal):
                bias = bias.repeat_interleave(group, dim=2)
            if bias is not None and work.floors is not None:
                seen = launch.bias.isfinite().any(dim=-1).repeat_interleave(group, dim=2)  # type: ignore[union-attr]
                blind = None if seen.all() else ~seen
            if isinstance(launch, TailLaunch):
                entries = (heads + launch.blocks).view(-1)
            if isinstance(launch.place, slice):
                shape = (kv_heads, -1, count * group)
                targets = (self._values[:, launch.place].view(*shape, dim), self._lse[:, launch.place].view(shape))
            self.launches.append(_Shaped(launch, entries, bias, targets, blind))

    def put(self, shaped: "_Shaped", output: Tensor, lse: Tensor) -> None:
        """Keep a launch's results: `[kv_heads, items, rows * group, head_dim]`, and without the last dimension."""
        if shaped.blind is not None:
            output = output.masked_fill(shaped.blind[..., None], 0.0)
            lse = lse.masked_fill(shaped.blind, -torch.inf)
        if shaped.targets is not None:
            shaped.targets[0].copy_(output)
            shaped.targets[1].copy_(lse)
            return
        kv_heads, group, dim, _, _ = self.shape
        place = shaped.launch.place
        assert isinstance(place, Tensor)
        self._values.index_copy_(1, place, output.reshape(kv_heads, -1, group, dim).to(self._values.dtype))
        self._lse.index_copy_(1, place, lse.reshape(kv_heads, -1, group))

    def output(self, query: Tensor, sinks: Tensor | None) -> Tensor:
        """All results merged, in the shape and dtype of `query`. Overwrites them."""
        if sinks is None and self._levels.shape[1] == 1:
            only = self._levels[:, 0].transpose(0, 1)
            return only.to(query.dtype, memory_format=torch.contiguous_format, copy=True).view(query.shape)
        by_head = None if sinks is None else sinks.float().view(self.shape[0], 1, self.shape[1])
        merged = merge_levels(self._levels, self._lse_levels, self._hollow, by_head)
        return merged.transpose(0, 1).reshape(query.shape).to(query.dtype)

    def lse(self, query: Tensor, sinks: Tensor | None) -> Tensor:
        """`[rows, heads]`, of all results."""
        found = torch.logsumexp(self._lse_levels, dim=1).transpose(0, 1).reshape(query.shape[:2])
        return found if sinks is None else torch.logaddexp(found, sinks.float())


class _Shaped(NamedTuple):
    """A launch, and what it needs in one shape of heads."""

    launch: Launch
    entries: Tensor | None  # [kv_heads * items * width] blocks of all heads, of a gathered launch
    bias: Tensor | None  # with a row per query head
    targets: tuple[Tensor, Tensor] | None  # where its results go, if that is one place: in the shape that `put` takes
    blind: Tensor | None  # [1, items, rows * group] bool: queries that see none of its keys; `None`: all see some


_rooms: "weakref.WeakKeyDictionary[WorkList, _Room]" = weakref.WeakKeyDictionary()


def _launch(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, work: WorkList, scale: float, cap: float | None
) -> _Room:
    """Compute all partial results."""
    rows, heads, dim = query.shape
    kv_heads, slots, _ = key_cache.shape
    shape = (kv_heads, heads // kv_heads, dim, slots // work.block_size, query.dtype)
    room = _rooms.get(work)
    if room is None or room.shape != shape:
        room = _rooms[work] = _Room(work, *shape)
    # [kv_heads, rows, group, head_dim]
    by_head = query.view(rows, *shape[:3]).permute(1, 0, 2, 3).contiguous()
    for shaped in room.launches:
        launch = shaped.launch
        if isinstance(launch, NodeLaunch):
            found = _node(by_head, key_cache, value_cache, shaped, (scale, cap))
        else:
            if isinstance(launch, StripLaunch):
                key, value = _strip(key_cache, launch), _strip(value_cache, launch)
            else:
                assert shaped.entries is not None
                key = _gather(key_cache, shaped.entries, launch.width, work.block_size)
                value = _gather(value_cache, shaped.entries, launch.width, work.block_size)
            if isinstance(launch.rows, slice):
                queries = by_head[:, launch.rows]
            else:
                queries = by_head.index_select(1, launch.rows)
            key, value = key.to(query.dtype), value.to(query.dtype)
            found = attend(queries.view(*key.shape[:2], -1, dim), key, value, scale, bias=shaped.bias, cap=cap)
        room.put(shaped, *found)
    return room


def _node(
    by_head: Tensor, key_cache: Tensor, value_cache: Tensor, shaped: "_Shaped", score: tuple[float, float | None]
) -> tuple[Tensor, Tensor]:
    """`([kv_heads, 1, rows * group, head_dim], [kv_heads, 1, rows * group])` of one item, with scale and cap."""
    launch, bias, (scale, cap) = shaped.launch, shaped.bias, score
    assert isinstance(launch, NodeLaunch)
    queries = by_head[:, launch.rows]
    kv_heads, count, group, dim = queries.shape
    if isinstance(launch.keys, slice):
        key, value = key_cache[:, launch.keys], value_cache[:, launch.keys]
    else:
        key, value = select(key_cache, 1, launch.keys), select(value_cache, 1, launch.keys)
    key, value = key.to(queries.dtype), value.to(queries.dtype)
    if launch.causal:
        key = key[:, None].expand(-1, group, -1, -1)
        value = value[:, None].expand(-1, group, -1, -1)
        turned = queries.transpose(1, 2)  # heads are [kv_heads, group]
        output, lse = attend(turned, key, value, scale, causal=bias is None, bias=bias, cap=cap)
        output, lse = output.transpose(1, 2), lse.transpose(1, 2)
        return output.reshape(kv_heads, 1, count * group, dim), lse.reshape(kv_heads, 1, count * group)
    flat = queries.reshape(kv_heads, 1, count * group, dim)
    return attend(flat, key[:, None], value[:, None], scale, bias=bias, cap=cap)


def _gather(cache: Tensor, index: Tensor, width: int, block_size: int) -> Tensor:
    """`[kv_heads, items, width * block_size, head_dim]`, a copy."""
    kv_heads, _, dim = cache.shape
    found = select(cache.view(-1, block_size * dim), 0, index)
    return found.view(kv_heads, -1, width * block_size, dim)


def _strip(cache: Tensor, launch: StripLaunch) -> Tensor:
    """`[kv_heads, places, length, head_dim]`, in place."""
    kv_heads, slots, dim = cache.shape
    shape = (kv_heads, launch.bias.shape[1], launch.length, dim)
    return cache[:, launch.first :].as_strided(shape, (slots * dim, launch.stride * dim, dim, 1))
