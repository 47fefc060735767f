"""Tree attention in C for CPUs with AVX-512 BF16, by AMX where there is that: a step's whole list in one call a layer.

Torch takes one call for each kind of item and several to merge them, and its fused attention lays a node's keys out
again for every few queries. Here the list is cut into pieces, rows against keys, that threads take one by one
(`cpu.c`).
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels import native
from kernels.native import ways
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.worklist import WorkList

QUERIES = 96  # of a piece and a key head, `MOST_QUERIES` of cpu.c
LONGEST_HEAD = 576  # numbers, `MOST_DIM` of cpu.c: of a latent key of DeepSeek V3
KEYS = 256  # that a piece has at least, where there are more
PARTS = 4  # pieces for each thread, so that all end at about the same time


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key_cache", "value_cache", "output")),
        *((name, ctypes.c_void_p) for name in ("pieces", "blocks", "ends", "places", "values", "levels", "left")),
        *((name, ctypes.c_void_p) for name in ("floors", "sinks")),
        *(
            (name, ctypes.c_int64)
            for name in ("count", "rows", "kv_heads", "group", "dim", "slots", "block_size", "way")
        ),
        ("query_strides", ctypes.c_int64 * 2),
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
        ("pool", native.Pool),
    ]


_NUMBERS = ("row_begin", "row_end", "first", "begin", "keys", "seen", "position", "unused")
PIECE = np.dtype([*((name, np.int32) for name in _NUMBERS), ("part", np.int64)])


def supports(heads: Heads) -> bool:
    """Whether this machine can compute attention of these heads, in bfloat16."""
    fits = heads.item_bytes == 2 and heads.dim % 32 == 0 and heads.dim <= LONGEST_HEAD and heads.group <= QUERIES
    return fits and bool(ways())


@dataclass(eq=False)
class NativeWork:
    """A work list for heads of one shape, and its pieces."""

    plain: WorkList  # checked
    heads: Heads
    _job: _Attention
    _held: tuple[Any, ...]  # kept alive: the job holds only their addresses
    _hollow: bool  # whether a row has no key at all

    @classmethod
    def of(cls, work: WorkList, heads: Heads, way: int | None = None) -> "NativeWork":
        """The pieces of a work list. `way`: one of `ways`; None: the fastest."""
        pool = native.pool()
        pieces, blocks, places, room = _cut(work, heads, pool.threads)
        ends = np.cumsum([len(each) for each in places], dtype=np.int32)
        flat = np.array([place for each in places for place in each], dtype=np.int64)
        values, levels = torch.empty(room * heads.dim), torch.empty(2 * room)
        left = np.empty(work.rows * heads.kv, dtype=np.int32)
        arrays = (pieces, np.array(blocks, dtype=np.int32), ends, flat)
        job = _Attention(
            pieces=pieces.ctypes.data,
            blocks=arrays[1].ctypes.data,
            ends=ends.ctypes.data,
            places=flat.ctypes.data,
            values=values.data_ptr(),
            levels=levels.data_ptr(),
            left=left.ctypes.data,
            count=len(pieces),
            rows=work.rows,
            kv_heads=heads.kv,
            group=heads.group,
            dim=heads.dim,
            block_size=work.block_size,
            way=ways()[-1] if way is None else way,
            pool=pool,
        )
        floors = None if work.floors is None else np.ascontiguousarray(work.floors, dtype=np.int32)
        job.floors = None if floors is None else floors.ctypes.data
        return cls(work, heads, job, (arrays, values, levels, left, floors), not all(places))

    def attend(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        scale: float,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """`[rows, heads, head_dim]` and caches `[kv_heads, slots, head_dim]`, all bfloat16 -> `[rows, heads,
        head_dim]`; see `kernels.tree_attention.reference`.
        """
        call = native.function("tree_attention", _Attention)
        assert call is not None
        assert key_cache.is_contiguous(), "the cache is"
        assert value_cache.is_contiguous(), "the cache is"
        if query.stride(2) != 1:
            query = query.contiguous()
        make = torch.zeros if self._hollow else torch.empty
        output = make(query.shape, dtype=query.dtype)
        job = self._job
        job.query, job.output = query.data_ptr(), output.data_ptr()
        job.key_cache, job.value_cache = key_cache.data_ptr(), value_cache.data_ptr()
        job.slots, job.scale = key_cache.shape[1], scale
        job.query_strides[0], job.query_strides[1] = query.stride(0), query.stride(1)
        held = None if sinks is None else sinks.float().contiguous()
        job.cap, job.sinks = cap or 0.0, None if held is None else held.data_ptr()
        call(job)
        return output


def tree_attention_output(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    work: WorkList,
    scale: float,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `kernels.tree_attention.reference.tree_attention_output`, in bfloat16."""
    _, heads, dim = query.shape
    found = NativeWork.of(work, Heads(heads, key_cache.shape[0], dim, 2))
    return found.attend(query, key_cache, value_cache, scale, cap, sinks)


def _cut(work: WorkList, heads: Heads, threads: int) -> tuple[Any, list[int], list[list[int]], int]:
    """Pieces with most work first; the blocks that they count in; where each row's results go, one number a piece;
    how many results need room.
    """
    step = max(1, QUERIES // heads.group)  # rows of a piece
    total = sum(-(-item.rows // step) * item.length for item in work.items)
    longest = max(KEYS, -(-total * heads.kv // (PARTS * threads)))
    longest = -(-longest // 64) * 64
    blocks: list[int] = []
    found: list[tuple[int, int, int, int, int, int, int]] = []
    for item in work.items:
        first, size = len(blocks), work.block_size
        skipped = item.begin // size
        blocks.extend(item.blocks[skipped : -(-item.end // size)])
        begin = item.begin - skipped * size
        for row in range(item.row_begin, item.row_end, step):
            last = min(row + step, item.row_end)
            unseen = item.row_end - last if item.causal else 0
            keys = item.length - unseen
            seen = item.length - item.row_end + 1 if item.causal else 1 << 30
            for at in range(0, keys, longest):
                position = item.offset + item.begin + at
                found.append((row, last, first, begin + at, min(longest, keys - at), seen - at, position))
    found.sort(key=lambda piece: -(piece[1] - piece[0]) * piece[4])
    counts = np.zeros(work.rows + 1, dtype=np.int64)  # pieces of each row, by differences
    for row, last, *_ in found:
        counts[row] += 1
        counts[last] -= 1
    alone = np.cumsum(counts)[:-1] == 1
    pieces = np.zeros(len(found), dtype=PIECE)
    places: list[list[int]] = [[] for _ in range(work.rows)]
    room = 0
    for index, piece in enumerate(found):
        row, last = piece[:2]
        part = -1
        if not alone[row:last].all():
            part, room = room, room + (last - row) * heads.query
        for offset, each in enumerate(range(row, last)):
            places[each].append(part + offset * heads.query)
        pieces[index] = (*piece, 0, part)
    return pieces, blocks, places, room
