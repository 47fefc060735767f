"""Whether a kernel computes what it stands for: tried on inputs of ours, judged by what rounding explains."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.quantized import Packed
from kernels.expert_linear.reference import Groups
from kernels.expert_linear.weight import ExpertWeight

STEP = 1024  # outputs of a trial that are compared at once
PARTS = 7  # of a trial's groups of inputs
ALLOWED = 6  # standard deviations of a product's rounding: none of 100,000 reaches five
# Largest error of a token, see `error_of_a_token`, where two ways compute one layer's function in a dtype.
ALIKE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 3e-2}


def trial_inputs(packed: Packed) -> Tensor:
    """`[PARTS + 1, in]` float32: powers of two, which FP8 holds as they are. All rows but the last have a part of the
    groups each, so that a group of far larger weights hides few others.
    """
    inputs, groups, device = packed.shape[1], packed.scale.shape[1], packed.codes.device
    bits = torch.randint(8, (PARTS + 1, inputs), generator=torch.Generator(device).manual_seed(0), device=device)
    x = ((bits & 1) * 2 - 1) * 0.5 ** (bits >> 1)
    if groups >= PARTS:
        of = torch.arange(inputs, device=device) // (inputs // groups) % PARTS
        x[:PARTS] *= of == torch.arange(PARTS, device=device)[:, None]
    return x


def is_rounding(found: Tensor, x: Tensor, packed: Packed) -> bool:
    """Whether products `[rows, out]` err by no more than their dtype's rounding explains, each for itself.

    A scaled number, what is added to it and the result are rounded by up to `u` of their size each, at random, and sums
    are by `u` of float32 at each of `n` steps. So the error of one product has a standard deviation of about
    `u * (|x * w|_2 + |x . w|)`, with the root of `n` where `u` is that of sums (Higham and Mary, "A New Approach to
    Probabilistic Rounding Error Analysis", 2019). An error over all products would be that of the largest: a scale that
    is wrong in a small output would not be seen.
    """
    steps = 2.0**-14 if packed.kind.startswith("fp8") else 2.0**-24  # an H100 adds products of FP8 with 14 bits
    unit = torch.finfo(found.dtype).eps / 2 + steps * len(x[0]) ** 0.5
    for begin in range(0, len(packed.codes), STEP):
        part = packed.outputs(begin, begin + STEP)
        exact = nn.functional.linear(x, part.widen(torch.float32))
        sizes = part._replace(offset=None).widen(torch.float32).abs()
        if part.offset is not None:
            sizes += part.offset.abs().repeat_interleave(len(x[0]) // part.offset.shape[1], dim=1)
        spread = nn.functional.linear(x.square(), sizes.square()).sqrt() + exact.abs()
        if not _explained(found[:, begin : begin + STEP], exact, unit * spread):
            return False
    return True


def experts_are_rounding(
    found: Tensor, x: Tensor, weight: ExpertWeight, groups: Groups, share: int, bias: Tensor | None = None
) -> bool:
    """The same of products with experts' weights; all else as in `kernels.expert_linear.reference`."""
    steps = 2.0**-21 if found.dtype == torch.float32 else 2.0**-24  # on tensor cores, by three products of fewer bits
    unit = torch.finfo(found.dtype).eps / 2 + steps * x.shape[1] ** 0.5
    for expert, (first, last) in enumerate(pairwise(groups.bounds.tolist())):
        pairs = groups.order[first:last]
        rows, part = x[pairs // share].float(), weight.of(expert, expert + 1)
        own = found.new_zeros(weight.shape[1]) if bias is None else bias[expert]
        exact = nn.functional.linear(rows, part.widen(torch.float32)[0], own.float())
        sizes = part._replace(offset=None).widen(torch.float32)[0].abs()
        if part.offset is not None:
            sizes += part.offset[0].abs().repeat_interleave(weight.group, dim=1)
        spread = nn.functional.linear(rows.square(), sizes.square()).sqrt() + exact.abs() + own.float().abs()
        if not _explained(found[pairs], exact, unit * spread):
            return False
    return True


def _explained(found: Tensor, exact: Tensor, deviation: Tensor) -> bool:
    error = (found.float() - exact).abs()
    return bool((error <= ALLOWED * deviation + torch.finfo(found.dtype).tiny).all())  # nor is NaN


def alike(found: Any, expected: Any) -> bool:
    """Whether two results of a layer `[..., tokens, features]` in one dtype differ by rounding alone, at each token."""
    if not isinstance(expected, Tensor) or found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return error_of_a_token(found, expected) < ALIKE.get(found.dtype, 0.0)


def error_of_a_token(found: Any, whole: Any, usual: Any = None) -> float:
    """The largest error of a token in `[texts, length, features]`; infinite where a number is none.

    Rounding errs by a share of what it rounds, so each error is seen relative to its feature's usual size, and to its
    token's where that is larger than most: in real models a few of both are hundreds of times as large as the rest. And
    it errs in each feature on its own, so that the root mean square over a token's features hardly differs between
    tokens, while the largest of all features is anything; but what is wrong at one token, or in one of the heads, is so
    in all features, which the layer's last product mixes.

    Args:
        found: to be judged.
        whole: as it should be.
        usual: a longer result of the same layer, for its features' sizes; `None`: `whole`.
    """
    usual = whole if usual is None else usual
    if isinstance(whole, tuple):
        return max(error_of_a_token(*each) for each in zip(found, whole, usual, strict=True))
    if not isinstance(whole, Tensor):
        return 0.0
    sizes, expected, error = (x.flatten(0, -2) for x in (usual.float(), whole.float(), found.float() - whole.float()))
    feature = sizes.square().mean(dim=0).sqrt()
    feature = feature.clamp_min(max(0.01 * float(feature.median()), 1e-20))
    token = (expected / feature).square().mean(dim=1).sqrt().clamp_min(1)
    worst = ((error / feature).square().mean(dim=1).sqrt() / token).max()
    return float(worst.nan_to_num(nan=math.inf))
