"""Whether a kernel for a quantised weight computes its product: tried on inputs of ours, judged by rounding."""

import torch
from torch import Tensor, nn

from engine.model.quantized import Packed

STEP = 1024  # outputs of a trial that are compared at once
PARTS = 7  # of a trial's groups of inputs
ALLOWED = 6  # standard deviations of a product's rounding: none of 100,000 reaches five


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
        error = (found[:, begin : begin + STEP].float() - exact).abs()
        if not (error <= ALLOWED * unit * spread + torch.finfo(found.dtype).tiny).all():  # nor is NaN
            return False
    return True
