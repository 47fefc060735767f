"""A short causal convolution for one token of each text, in torch: the definition.

Each feature has a few weights of its own, for its last inputs and the new one. All arithmetic in float32, rounded once
at the end; `transformers` also rounds before the activation.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.places import Places


class Input(NamedTuple):
    """One token of each text, and the convolution."""

    x: Tensor  # [texts, features], any strides
    weight: Tensor  # [features, taps], the last one of the new input
    bias: Tensor | None  # [features]
    silu: bool  # behind it


def check(given: Input, places: Places) -> None:
    """Refuse what does not fit: kernels would read past its end.

    Raises:
        ValueError: a shape or a dtype is another.
    """
    texts, features = given.x.shape
    states, slots, _ = places
    width, taps = states.shape[-1], given.weight.shape[-1]
    fits = given.weight.shape == (features, taps) and states.shape == (len(states), features, width)
    fits = fits and (given.bias is None or given.bias.shape == (features,)) and tuple(slots.shape) == (texts,)
    if not fits or not 1 < taps <= width + 1:
        shapes = [tuple(x.shape) for x in (given.x, given.weight, slots)]
        raise ValueError(f"inputs, weights and slots {shapes} do not fit states {tuple(states.shape)}")
    if slots.dtype != torch.int64 or not states.is_contiguous():
        raise ValueError(f"states must be without gaps and slots int64: {slots.dtype}")


def advance(given: Input, places: Places) -> Tensor:
    """Move the new inputs into the states, in place.

    Args:
        places: of the last inputs, `[slots, features, width]`, the newest last; one less than there are taps or more.

    Returns:
        The convolution at the new inputs, `[texts, features]`, contiguous, in their dtype.
    """
    states, slots, kept = places
    owned = slots >= 0
    known = states[slots.clamp(min=0)].where(owned[:, None, None], 0)
    inputs = torch.cat([known, given.x[..., None].to(states.dtype)], dim=-1)
    if kept:
        states[slots[owned]] = inputs[owned][..., 1:]
    found = (inputs[..., -given.weight.shape[-1] :].float() * given.weight.float()).sum(dim=-1)
    if given.bias is not None:
        found = found + given.bias.float()
    return (torch.nn.functional.silu(found) if given.silu else found).to(given.x.dtype)
