"""Tree attention in Triton: a launch for each size of tile, over all items of all levels, then one merge in float32.

A tile (`kernels.tree_attention.plan`) is computed for one key-value head at a time: decode rows, the rows of a shared
node and the causal rows of a prompt's chunk are the same code. Tiles have two sizes, because a tail has a few queries
and a shared node thousands. Each size has a launch of its own, since small ones need less than half of the registers
and of the shared memory: more run at once, and wait for memory together. The numbers of blocks are loaded a step ahead
of their keys, so that keys can be loaded ahead, too. Where a key is its value, too (latent attention), it is loaded
once, and scores are the sum of two products: with the numbers that are its value, and with the rest. A launch starts
as many programs as run at once; each takes the next tile from a counter until none is left, and the merge sets it
back. Softmax is computed online with base-2 exponentials; partial results and their natural log-sum-exp are float32.
"""

import functools
import math
import weakref
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.lse_merge.triton import Parts, merge_ranges
from kernels.tree_attention.buffers import TileLaunch, WorkBuffers
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import TileShape
from kernels.tree_attention.worklist import WorkList

_prepared: "weakref.WeakKeyDictionary[WorkList, WorkBuffers]" = weakref.WeakKeyDictionary()


def tree_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    work: WorkList | WorkBuffers,
    scale: float,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of a packed batch over the tree of cache blocks that `work` describes.

    Args:
        query: `[rows, heads, head_dim]`, any strides.
        key_cache, value_cache: `[kv_heads, slots, head_dim]` of equal strides, last dimension contiguous; `heads` is a
            multiple of `kv_heads`; in the dtype of `query`, or 8-bit numbers, which are turned into it when they are
            loaded. Nothing outside the items' ranges is read. A `value_cache` `[kv_heads, slots, value]` of fewer
            numbers is the first part of `key_cache`.
        work: the step's items; every row's keys must already be stored. Buffers may have room for more rows than
            `query` has, not for fewer. A work list is planned at its first use and remembered.
        scale: factor of the scores.
        cap: scores become `cap * tanh(score / cap)`, before any are masked.
        sinks: `[heads]`, for each head the score of one more key whose value is 0, which is not scaled or capped.

    Returns:
        Output `[rows, heads, value]` in the dtype of `query`, and log-sum-exp (natural logarithm) `[rows, heads]` in
        float32, sinks counted. A row without keys has output 0 and log-sum-exp `-inf`, or the sink.
    """
    dim, value = query.shape[2], value_cache.shape[2]
    shared = value if value < dim else 0
    if shared and key_cache.data_ptr() != value_cache.data_ptr():
        raise ValueError(f"values of {value} numbers beside keys of {dim}: they must be the first of these")
    heads = Heads(query.shape[1], key_cache.shape[0], dim, key_cache.element_size(), shared)
    buffers = work if isinstance(work, WorkBuffers) else _buffers(work, heads)
    if heads != buffers.heads:
        raise ValueError(f"the work was planned for {buffers.heads}, not for {heads}")
    if query.shape[0] > buffers.capacity.rows:
        raise ValueError(f"{query.shape[0]} queries, but the work has room for {buffers.capacity.rows} rows")
    if key_cache.stride() != value_cache.stride() or key_cache.stride(2) != 1:
        raise ValueError(f"caches of strides {key_cache.stride()} and {value_cache.stride()}: must be equal, last 1")
    scratch = buffers.scratch
    for launch in buffers.launches():
        _launch(launch, buffers, (query, key_cache, value_cache), scale, cap)
    parts = Parts(scratch.partials, scratch.lse, buffers.starts, buffers.slots, buffers.taken)
    return merge_ranges(parts, query.shape[0], query.dtype, sinks)


def _launch(
    launch: TileLaunch, buffers: WorkBuffers, tensors: tuple[Tensor, Tensor, Tensor], scale: float, cap: float | None
) -> None:
    """Start the programs for tiles of one size."""
    query, key_cache, value_cache = tensors
    scratch, floors = buffers.scratch, buffers.capacity.floors
    _tree_attention[(launch.programs,)](
        query,
        key_cache,
        value_cache,
        buffers.count,
        buffers.taken,
        buffers.tiles,
        buffers.blocks,
        buffers.floors,
        scratch.partials,
        scratch.lse,
        query.stride(0),
        query.stride(1),
        query.stride(2),
        key_cache.stride(0),
        key_cache.stride(1),
        scale * math.log2(math.e) if cap is None else scale / cap,
        0.0 if cap is None else cap * math.log2(math.e),
        **constants(launch.shape, buffers.heads, buffers.block_size, floors, cap is not None),
        num_warps=launch.shape.warps,
        num_stages=launch.shape.stages,
        maxnreg=launch.shape.registers if _is_bounded(query.device) else None,
    )


@functools.cache
def _is_bounded(device: torch.device) -> bool:
    """Whether the device is an H100: an A100 has room for one program less, a B200's tiles would spill."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


def constants(
    shape: TileShape, heads: Heads, block_size: int, floors: bool = False, capped: bool = False
) -> dict[str, Any]:
    """What the kernel is compiled for."""
    return {
        "KV_HEADS": heads.kv,
        "GROUP": heads.group,
        "DIM": heads.value,
        "REST": heads.dim - heads.value,
        "BLOCK_SIZE": block_size,
        "QUERIES": shape.queries,
        "KEYS": shape.keys,
        "WIDTH": max(16, triton.next_power_of_2(heads.value)),
        "TAIL": max(16, triton.next_power_of_2(heads.dim - heads.value)),
        "SHARED": heads.shared > 0,
        "PRECISION": shape.precision,
        "BARE": shape.bare,
        "FLOORS": floors,
        "CAPPED": capped,
    }


def _buffers(work: WorkList, heads: Heads) -> WorkBuffers:
    found = _prepared.get(work)
    if found is None or found.heads != heads:
        found = WorkBuffers.of(work.items, work.rows, heads, work.block_size, work.device, floors=work.floors)
        _prepared[work] = found
    return found


@triton.jit
def _tree_attention(
    query,
    key_cache,
    value_cache,
    count,  # [2]: of large tiles, which come first, and of small ones
    taken,  # [2]: how many programs have begun, each tile counted once for each key-value head
    tiles,
    blocks,
    floors,
    partials,
    lse,
    query_row,
    query_head,
    query_dim,
    cache_head,
    cache_slot,
    factor,  # scale * log2(e), or scale / cap
    cap,  # cap * log2(e)
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,  # numbers of a value
    REST: tl.constexpr,  # numbers of a key behind them
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,  # of a tile
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,  # DIM, rounded up to a power of 2
    TAIL: tl.constexpr,  # REST, rounded up
    SHARED: tl.constexpr,  # the first numbers of a key are its value
    PRECISION: tl.constexpr,  # of products of float32
    BARE: tl.constexpr,  # the large tiles: full steps of keys that every query sees are computed without a mask
    FLOORS: tl.constexpr,  # rows see nothing before their floors
    CAPPED: tl.constexpr,
):
    """Program that computes tiles, each for one key-value head, as long as there are any. The costliest come first."""
    large = tl.load(count)
    first_tile = 0 if BARE else large
    total = (large if BARE else tl.load(count + 1)) * KV_HEADS
    counter = taken if BARE else taken + 1
    ticket = tl.atomic_add(counter, 1)
    while ticket < total:
        head = ticket % KV_HEADS
        entry = tiles + (first_tile + ticket // KV_HEADS) * 8
        first = tl.load(entry)
        last = tl.load(entry + 1)
        begin = tl.load(entry + 2)
        end = tl.load(entry + 3)
        table = blocks + tl.load(entry + 4)
        diagonal = tl.load(entry + 5)
        partial = tl.load(entry + 6)
        position = tl.load(entry + 7)
        keys = key_cache + head.to(tl.int64) * cache_head
        values = value_cache + head.to(tl.int64) * cache_head
        _tile(
            query, keys, values, table, floors, partials, lse, query_row, query_head, query_dim, cache_slot, factor,
            cap, first, last, begin, end, diagonal, partial, position, head, KV_HEADS * GROUP,
            GROUP, DIM, REST, BLOCK_SIZE, QUERIES, KEYS, WIDTH, TAIL, SHARED, PRECISION, FLOORS, CAPPED, BARE,
        )  # fmt: skip
        ticket = tl.atomic_add(counter, 1)


@triton.jit
def _tile(
    query,
    keys,
    values,
    table,
    floors,
    partials,
    lse,
    query_row,
    query_head,
    query_dim,
    cache_slot,
    factor,
    cap,
    first,
    last,
    begin,
    end,
    diagonal,
    partial,
    position,
    head,
    heads,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    TAIL: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
    FLOORS: tl.constexpr,
    CAPPED: tl.constexpr,
    BARE: tl.constexpr,
):
    """Queries `first` to `last` (row times group, plus head of the group) against tokens `begin` to `end`."""
    flat = first + tl.arange(0, QUERIES)
    row = flat // GROUP
    column = head * GROUP + flat % GROUP
    dims = tl.arange(0, WIDTH)
    wanted = (flat < last)[:, None] & (dims < DIM)[None, :]
    place = row.to(tl.int64) * query_row + column * query_head
    q = tl.load(query + place[:, None] + (dims * query_dim)[None, :], mask=wanted, other=0.0)
    q_rest = q  # not looked at
    if REST:
        rest = tl.arange(0, TAIL)
        present = (flat < last)[:, None] & (rest < REST)[None, :]
        q_rest = tl.load(query + place[:, None] + ((DIM + rest) * query_dim)[None, :], mask=present, other=0.0)
    limit = row + diagonal  # the last token that each row sees
    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    out = tl.zeros([QUERIES, WIDTH], tl.float32)
    floor = limit  # the first token that each row sees: not looked at
    middle = begin
    if FLOORS:
        floor = tl.load(floors + row, mask=flat < last, other=0) - position
    if BARE:
        if FLOORS:  # up to where all rows see the keys
            ahead = tl.maximum(tl.max(floor, 0) - begin, 0)
            middle = tl.minimum(begin + (ahead + KEYS - 1) // KEYS * KEYS, end)
            top, total, out = _scan(
                q, q_rest, keys, values, table, cache_slot, factor, cap, begin, middle, limit, floor, top, total, out,
                DIM, REST, BLOCK_SIZE, KEYS, WIDTH, TAIL, SHARED, PRECISION, True, CAPPED, True, True,
            )  # fmt: skip
            begin = middle
        seen_by_all = tl.minimum(end, first // GROUP + diagonal + 1)
        middle = begin + tl.maximum(seen_by_all - begin, 0) // KEYS * KEYS
        top, total, out = _scan(
            q, q_rest, keys, values, table, cache_slot, factor, cap, begin, middle, limit, floor, top, total, out,
            DIM, REST, BLOCK_SIZE, KEYS, WIDTH, TAIL, SHARED, PRECISION, False, CAPPED, False, DIM != WIDTH,
        )  # fmt: skip
    top, total, out = _scan(
        q, q_rest, keys, values, table, cache_slot, factor, cap, middle, end, limit, floor, top, total, out,
        DIM, REST, BLOCK_SIZE, KEYS, WIDTH, TAIL, SHARED, PRECISION, FLOORS, CAPPED, True, True,
    )  # fmt: skip
    some = total > 0.0
    safe = tl.where(some, total, 1.0)
    level = tl.where(some, (top + tl.log2(safe)) * 0.6931471805599453, float("-inf"))
    slot = (partial + row).to(tl.int64) * heads + column
    tl.store(partials + slot[:, None] * DIM + dims[None, :], out / safe[:, None], mask=wanted)
    tl.store(lse + slot, level, mask=flat < last)


@triton.jit
def _tanh(x):
    """Its series near 0, where the other formula cancels."""
    square = x * x
    near = (((62 / 2835 * square - 17 / 315) * square + 2 / 15) * square - 1 / 3) * square + 1
    far = 1.0 - 2.0 / (tl.exp2(x * 2.8853900817779268) + 1.0)  # 2 / ln 2
    return tl.where(square < 0.09, x * near, far)


@triton.jit
def _scan(
    q,
    q_rest,
    keys,
    values,
    table,
    cache_slot,
    factor,
    cap,
    begin,
    end,
    limit,
    floor,
    top,
    total,
    out,
    DIM: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    TAIL: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
    FLOORS: tl.constexpr,
    CAPPED: tl.constexpr,
    MASKED: tl.constexpr,
    CHECKED: tl.constexpr,  # loads have a mask
):
    """Online softmax over tokens `begin` to `end`; without a mask, `end - begin` is a multiple of `KEYS`."""
    dims = tl.arange(0, WIDTH)
    steps = tl.arange(0, KEYS)
    block = tl.load(table + (begin + steps) // BLOCK_SIZE, mask=begin + steps < end, other=0)
    for start in range(begin, end, KEYS):
        token = start + steps
        ahead = token + KEYS
        following = tl.load(table + ahead // BLOCK_SIZE, mask=ahead < end, other=0)
        if MASKED:
            inside = token < end
            present = inside[:, None] & (dims < DIM)[None, :]
        else:
            present = tl.full([KEYS], True, tl.int1)[:, None] & (dims < DIM)[None, :]
        slot = block.to(tl.int64) * BLOCK_SIZE + token % BLOCK_SIZE
        place = slot[:, None] * cache_slot + dims[None, :]
        key = (tl.load(keys + place, mask=present, other=0.0) if CHECKED else tl.load(keys + place)).to(q.dtype)
        scores = tl.dot(q, tl.trans(key), input_precision=PRECISION)
        if REST:
            rest = tl.arange(0, TAIL)
            there = (token < end)[:, None] & (rest < REST)[None, :]
            more = tl.load(keys + (slot[:, None] * cache_slot + DIM + rest[None, :]), mask=there, other=0.0)
            scores = tl.dot(q_rest, tl.trans(more.to(q.dtype)), scores, input_precision=PRECISION)
        scores *= factor
        if CAPPED:
            scores = cap * _tanh(scores)
        if MASKED:
            seen = inside[None, :] & (token[None, :] <= limit[:, None])
            if FLOORS:
                seen &= token[None, :] >= floor[:, None]
            scores = tl.where(seen, scores, float("-inf"))
        highest = tl.maximum(top, tl.max(scores, 1))
        base = tl.where(highest == float("-inf"), 0.0, highest) if MASKED else highest  # -inf: has seen no key yet
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(top - base)
        total = total * shrink + tl.sum(weights, 1)
        out = out * shrink[:, None]
        value = key
        if not SHARED:
            value = (tl.load(values + place, mask=present, other=0.0) if CHECKED else tl.load(values + place)).to(
                q.dtype
            )
        out = tl.dot(weights.to(value.dtype), value, out, input_precision=PRECISION)
        top = highest
        block = following
    return top, total, out
