"""Linears whose weights are few-bit numbers with shared scales: the definition.

Checkpoints made of quantised files hold weights of four or six bits as bfloat16. Groups of `GROUP` neighbouring inputs
of an output are four-bit where `weight = centre + scale * (number - 8)` with numbers 0..15, six-bit where each half of
them is `weight = scale * (number - 32)` with numbers 0..63, except for rounding to bfloat16. These are the forms of
GGUF's Q4_0, Q4_1 and Q4_K, and of Q6_K and Q3_K (https://github.com/ggml-org/ggml, `ggml-common.h`). Multiplying with
them directly computes the same function and reads less memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32  # inputs that share scale and centre; of six bits half of them share a scale
TILE = 16  # neighbouring outputs that are of one kind
FOUR, SIX = 4, 6
ROUNDING = (1 + 2**-7) * 2.0**-8  # half a unit in the last place of bfloat16 for numbers from 1 to 2; and a little more


@dataclass(frozen=True)
class FewBit:
    """A weight `[n, k]`."""

    kinds: Tensor  # [tiles] uint8, `FOUR` or `SIX`
    numbers: Tensor  # [n, k] int64
    scales: Tensor  # [n, k / 16] float32
    centres: Tensor  # [n, k / 16] float32, the weight of number 8; 0 with six bits


def values(weight: FewBit) -> Tensor:
    """The weight `[n, k]` float32."""
    n, k = weight.numbers.shape
    middle = torch.where(weight.kinds == FOUR, 8, 32).repeat_interleave(TILE)[:n, None, None]
    numbers = weight.numbers.view(n, -1, GROUP // 2) - middle
    return (weight.centres[:, :, None] + weight.scales[:, :, None] * numbers).view(n, k)


def linear(x: Tensor, weight: FewBit, bias: Tensor | None = None) -> Tensor:
    """`[..., k]` -> `[..., n]` in the dtype of `x`, computed in float32."""
    product = torch.nn.functional.linear(x.float(), values(weight), None if bias is None else bias.float())
    return product.to(x.dtype)


def find(weight: Tensor) -> FewBit | None:
    """Numbers and scales of a bfloat16 weight `[n, k]`; `None` if it does not consist of few-bit numbers."""
    n, k = weight.shape
    if k % GROUP or not torch.isfinite(weight).all():
        return None
    wide = weight.float()
    four = _fit_four(wide.reshape(-1, GROUP))
    six = _fit_six(wide.reshape(-1, GROUP // 2))
    fits4, fits6 = four[0].view(n, -1).all(dim=1), six[0].view(n, -1).all(dim=1)  # by output
    kinds = []
    for rows4, rows6 in zip(torch.split(fits4, TILE), torch.split(fits6, TILE), strict=True):
        if not (rows4.all() or rows6.all()):
            return None
        kinds.append(FOUR if rows4.all() else SIX)
    is_four = (torch.tensor(kinds) == FOUR).repeat_interleave(TILE)[:n, None]
    numbers4, scales4, centres4 = (part.view(n, -1) for part in four[1:])
    numbers6, scales6 = (part.view(n, -1) for part in six[1:])
    return FewBit(
        torch.tensor(kinds, dtype=torch.uint8),
        torch.where(is_four, numbers4, numbers6),
        torch.where(is_four, scales4.repeat_interleave(2, dim=1), scales6),
        torch.where(is_four, centres4.repeat_interleave(2, dim=1), 0.0),
    )


def _roundings(numbers: Tensor) -> Tensor:
    """How far rounding to bfloat16 may have moved numbers."""
    exponents = torch.frexp(numbers.float()).exponent
    return torch.where(numbers == 0, 0.0, torch.ldexp(torch.full_like(numbers, ROUNDING), exponents - 1))


def _fit_four(groups: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`[groups, 32]` -> whether each fits, numbers `[groups, 32]`, scales and centres `[groups]`."""
    low, high = groups.amin(dim=1, keepdim=True), groups.amax(dim=1, keepdim=True)
    limit = _roundings(groups) + _roundings(torch.maximum(low.abs(), high.abs()))
    fits = torch.zeros(len(groups), dtype=torch.bool)
    numbers = torch.zeros(groups.shape, dtype=torch.int64)
    scales, centres = torch.zeros(len(groups)), torch.zeros(len(groups))
    for levels in range(15, 0, -1):
        step = (high - low) / levels
        i = torch.where(step > 0, ((groups - low) / step).round(), 0.0)
        good = ((low + step * i - groups).abs() <= limit).all(dim=1)
        apart, mean, middle = i - i.mean(dim=1, keepdim=True), groups.mean(dim=1), i.mean(dim=1)
        squares = apart.square().sum(dim=1)
        products = (apart * (groups - mean[:, None])).sum(dim=1)
        scale = torch.where(squares > 0, products / squares, 0.0)  # least squares, because the ends are rounded as well
        base = mean - scale * middle
        good &= ((base[:, None] + scale[:, None] * i - groups).abs() <= limit).all(dim=1)
        new = good & ~fits
        numbers[new], scales[new], centres[new] = i[new].long(), scale[new], (base + 8 * scale)[new]
        fits |= new
    return fits, numbers, scales, centres


def _fit_six(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`[groups, 16]` -> whether each fits, numbers `[groups, 16]`, scales `[groups]`."""
    size = groups.abs()
    peak = size.amax(dim=1, keepdim=True)
    least, most = size - _roundings(groups), size + _roundings(groups)
    fits = peak[:, 0] == 0
    numbers = torch.full(groups.shape, 32, dtype=torch.int64)
    scales = torch.zeros(len(groups))
    for levels in range(32, 0, -1):
        i = (groups / (peak / levels).clamp_min(torch.finfo(torch.float32).tiny)).round()
        good = ((i != 0) | (groups == 0)).all(dim=1) & ((i.amin(dim=1) >= -31) | (i.amax(dim=1) <= 31))
        # The steps from which each weight may have been rounded; they must have some in common.
        count = i.abs().clamp_min(1)
        first = torch.where(i == 0, -torch.inf, least / count).amax(dim=1)
        last = torch.where(i == 0, torch.inf, most / count).amin(dim=1)
        i = torch.where(i.amax(dim=1, keepdim=True) > 31, -i, i)
        best = (groups * i).sum(dim=1) / i.square().sum(dim=1).clamp_min(1)  # least squares
        new = good & (first <= last) & ~fits
        numbers[new] = i[new].long() + 32
        scales[new] = best.abs().clamp(first, last).copysign(best)[new]
        fits |= new
    return fits, numbers, scales
