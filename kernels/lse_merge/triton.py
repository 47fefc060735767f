"""Merge of partial attention results in Triton, see `kernels.lse_merge.reference`: float32, natural logarithms."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

PARTS = 4  # partial results that are loaded at once
HEADS = 4  # heads of a program


def merge_partials(partials: Tensor, lse: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Merge, for every row, the partial results that `parts` lists; arguments and results as of the reference.

    Args:
        partials: `[slots, heads, head_dim]`, any strides, any float dtype.
        lse: `[slots, heads]`, natural logarithm, any strides. `-inf` marks a slot without keys, whose partial is not
            read.
        parts: `[rows, width]` int64; unused places point to a slot whose log-sum-exp is `-inf`.

    Returns:
        Output `[rows, heads, head_dim]` and log-sum-exp `[rows, heads]`, float32.
    """
    rows, width = parts.shape
    starts = torch.arange(rows + 1, dtype=torch.int32, device=parts.device) * width
    return merge_ranges(Parts(partials, lse, starts, parts.reshape(-1)), rows, torch.float32)


class Parts(NamedTuple):
    """Partial results, and which of them row `r` has: those in `slots[starts[r]:starts[r + 1]]`."""

    partials: Tensor  # as of `merge_partials`
    lse: Tensor
    starts: Tensor  # [rows + 1] or longer, rising, integers
    slots: Tensor  # integers, contiguous
    taken: Tensor | None = None  # [2] int32, which becomes 0: counters of what made the results


def merge_ranges(parts: Parts, rows: int, dtype: torch.dtype, sinks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Merge the partial results of every row.

    Args:
        parts: of at least `rows` rows.
        rows: how many to compute.
        dtype: of the output.
        sinks: `[heads]`, contiguous: log-sum-exp of one more result for every row, which is 0.

    Returns:
        Output `[rows, heads, head_dim]` and log-sum-exp `[rows, heads]` float32; without any key 0, and `-inf` or the
        sink.
    """
    partials, lse, starts, slots, taken = parts
    heads, dim = partials.shape[1:]
    output = torch.empty(rows, heads, dim, dtype=dtype, device=partials.device)
    level = torch.empty(rows, heads, dtype=torch.float32, device=partials.device)
    _merge[(rows, triton.cdiv(heads, HEADS))](
        partials,
        lse,
        starts,
        slots,
        starts if sinks is None else sinks,
        starts if taken is None else taken,
        output,
        level,
        heads,
        *partials.stride(),
        *lse.stride(),
        DIM=dim,
        WIDTH=triton.next_power_of_2(dim),
        HEADS=HEADS,
        PARTS=PARTS,
        SINKS=sinks is not None,
        TAKEN=taken is not None,
        num_warps=4,
    )
    return output, level


@triton.jit
def _merge(
    partials,
    lse,
    starts,
    slots,
    sinks,
    taken,
    output,
    level,
    heads,
    partial_slot,
    partial_head,
    partial_dim,
    lse_slot,
    lse_head,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,  # DIM, rounded up to a power of 2
    HEADS: tl.constexpr,
    PARTS: tl.constexpr,
    SINKS: tl.constexpr,
    TAKEN: tl.constexpr,
):
    """Program (row, `HEADS` heads)."""
    row = tl.program_id(0)
    if TAKEN and row + tl.program_id(1) == 0:
        tl.store(taken + tl.arange(0, 2), tl.zeros([2], tl.int32))
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    dims = tl.arange(0, WIDTH)
    wanted = (head < heads)[:, None] & (dims < DIM)[None, :]
    begin = tl.load(starts + row).to(tl.int32)
    end = tl.load(starts + row + 1).to(tl.int32)
    top = tl.full([HEADS], float("-inf"), tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    if SINKS:
        top = tl.load(sinks + head, mask=head < heads, other=0.0).to(tl.float32)
        total = tl.full([HEADS], 1.0, tl.float32)
    out = tl.zeros([HEADS, WIDTH], tl.float32)
    inner = head[:, None] * partial_head + dims[None, :] * partial_dim
    for first in range(begin, end, PARTS):
        place = first + tl.arange(0, PARTS)
        slot = tl.load(slots + place, mask=place < end, other=0).to(tl.int64)
        listed = (place < end)[:, None] & (head < heads)[None, :]
        at = slot[:, None] * lse_slot + head[None, :] * lse_head
        found = tl.load(lse + at, mask=listed, other=float("-inf")).to(tl.float32)  # [PARTS, HEADS]
        highest = tl.maximum(top, tl.max(found, 0))
        base = tl.where(highest == float("-inf"), 0.0, highest)
        weights = tl.exp(found - base[None, :])
        shrink = tl.exp(top - base)
        counts = (found > float("-inf"))[:, :, None] & wanted[None, :, :]
        values = tl.load(partials + (slot * partial_slot)[:, None, None] + inner[None, :, :], mask=counts, other=0.0)
        out = out * shrink[:, None] + tl.sum(weights[:, :, None] * values.to(tl.float32), 0)
        total = total * shrink + tl.sum(weights, 0)
        top = highest
    some = total > 0.0
    safe = tl.where(some, total, 1.0)
    place = row.to(tl.int64) * heads + head
    tl.store(output + place[:, None] * DIM + dims[None, :], out / safe[:, None], mask=wanted)
    tl.store(level + place, tl.where(some, tl.log(safe) + top, float("-inf")), mask=head < heads)
