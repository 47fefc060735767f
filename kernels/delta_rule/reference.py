"""The gated delta rule for one token of each text, in torch: the definition.

Yang et al., "Gated Delta Networks" (2024); "Kimi Linear" (2025), where each feature of a key decays on its own. A
head's state is a matrix `[key, value]`: it decays, what it holds at the key is moved towards the value by `beta`, and
the query reads it. All arithmetic in float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.places import Places

EPS = 1e-6  # added to the sum of squares where queries and keys are normed


class Token(NamedTuple):
    """What a layer computed of one token of each text; any strides and floating dtypes."""

    query: Tensor  # [texts, key heads, key], each of which serves as many neighbouring heads
    key: Tensor  # the same
    value: Tensor  # [texts, heads, value]
    decay: Tensor  # [texts, heads], or [texts, heads, key] with one for each feature: its logarithm
    beta: Tensor  # [texts, heads]
    normed: bool  # queries and keys are brought to length 1 first


def check(token: Token, places: Places) -> None:
    """Refuse what does not fit: kernels would read past its end.

    Raises:
        ValueError: a shape or a dtype is another.
    """
    states, slots, _ = places
    _, heads, width, values = states.shape
    texts, key_heads, _ = token.query.shape
    keys, decay = (texts, key_heads, width), (texts, heads, width)[: max(2, token.decay.ndim)]
    shapes = [tuple(x.shape) for x in token[:5]]
    fits = shapes == [keys, keys, (texts, heads, values), decay, (texts, heads)]
    if not fits or heads % key_heads or tuple(slots.shape) != (texts,):
        raise ValueError(f"tokens {shapes} for slots {tuple(slots.shape)} do not fit states {tuple(states.shape)}")
    if (states.dtype, slots.dtype) != (torch.float32, torch.int64) or not states.is_contiguous():
        raise ValueError(f"states must be float32 without gaps and slots int64: {states.dtype}, {slots.dtype}")


def advance(token: Token, places: Places) -> Tensor:
    """Advance the states in place.

    Args:
        places: of states `[slots, heads, key, value]` float32.

    Returns:
        What the queries, divided by the root of their width, read afterwards: `[texts, heads, value]`, contiguous, in
        the queries' dtype.
    """
    states, slots, kept = places
    heads, width = states.shape[1:3]
    query, key = (_of_heads(x.float(), heads, token.normed) for x in (token.query, token.key))
    owned = slots >= 0
    state = states[slots.clamp(min=0)].where(owned.view(-1, 1, 1, 1), 0)
    decay = token.decay.float().exp()
    state = state * (decay[..., None, None] if decay.ndim == 2 else decay[..., None])
    known = torch.einsum("thk,thkv->thv", key, state)
    moved = (token.value.float() - known) * token.beta.float()[..., None]
    state = state + key[..., None] * moved[..., None, :]
    if kept:
        states[slots[owned]] = state[owned]
    return torch.einsum("thk,thkv->thv", query, state).mul(width**-0.5).to(token.query.dtype)


def _of_heads(x: Tensor, heads: int, normed: bool) -> Tensor:
    if normed:
        x = x * (x.square().sum(dim=-1, keepdim=True) + EPS).rsqrt()
    return x.repeat_interleave(heads // x.shape[1], dim=1)
