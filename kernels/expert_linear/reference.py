"""The linears of experts, in torch: what the kernel computes. Waits for the device."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels.expert_linear.weight import ExpertWeight


class Groups(NamedTuple):
    """Pairs of a row and an expert, by expert."""

    order: Tensor  # [pairs] int64: the pairs of the first expert, then of the second
    bounds: Tensor  # [experts + 1] int32: where each expert's pairs begin in `order`, and where the last one's end


def group(chosen: Tensor, experts: int) -> Groups:
    """The pairs of each expert, in order. Waits for nothing.

    Args:
        chosen: the expert of each pair, `[pairs]`.
        experts: how many there are.
    """
    found, order = torch.sort(chosen, stable=True)
    places = torch.arange(experts + 1, device=chosen.device, dtype=chosen.dtype)
    return Groups(order, torch.searchsorted(found, places, out_int32=True))


def expert_linear(x: Tensor, weight: ExpertWeight, groups: Groups, share: int, bias: Tensor | None = None) -> Tensor:
    """The product of each pair's row with its expert's weight: `[pairs, out]` in the inputs' dtype, pairs as they were
    before they were grouped.

    Args:
        x: `[pairs / share, in]`.
        weight: of all experts.
        groups: of `group`.
        share: how many pairs in turn have one row.
        bias: `[experts, out]`.
    """
    out = x.new_empty(len(groups.order), weight.shape[1])
    bounds = groups.bounds.tolist()
    for expert, (first, last) in enumerate(pairwise(bounds)):
        if first < last:
            pairs = groups.order[first:last]
            plain = weight.of(expert, expert + 1).widen(x.dtype)[0]
            found = nn.functional.linear(x[pairs // share], plain, None if bias is None else bias[expert].to(x.dtype))
            out[pairs] = found
    return out
