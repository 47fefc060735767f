"""One token of each text by a selective state space, in torch: the definition.

Gu and Dao, "Mamba" (2023), where each value's state decays on its own; "Transformers are SSMs" (2024), Mamba 2, where
all of a head's decay alike. A head's state is a matrix `[value, key]`: it decays by how much time passes, the value
times that time enters at the key, and the query reads it. All arithmetic in float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.places import Places


class Token(NamedTuple):
    """What a layer computed of one token of each text; any strides and floating dtypes.

    A dimension `*` is of size 1 where all of a head's values share: then `time`, `rate` and `bias` all have one.
    """

    value: Tensor  # [texts, heads, values]
    time: Tensor  # [texts, heads, *], how much of it passes
    rate: Tensor  # [heads, *, width or 1], times the time: the logarithm of what a state decays by
    key: Tensor  # [texts, groups, width], each of which serves as many neighbouring heads
    query: Tensor  # the same
    skip: Tensor | None  # [heads, values], of the value that is added to the result
    bias: Tensor | None  # [heads, *], added to the time
    gate: Tensor | None  # [texts, heads, values]: the result is multiplied by its SiLU
    softplus: bool  # of the time and its bias

    @property
    def alike(self) -> bool:
        """All of a head's values decay alike."""
        return self.rate.shape[-1] == 1


def check(token: Token, places: Places) -> None:
    """Refuse what does not fit: kernels would read past its end.

    Raises:
        ValueError: a shape or a dtype is another.
    """
    states, slots, _ = places
    _, heads, values, width = states.shape
    texts, groups, _ = token.key.shape
    full, own, keys = (texts, heads, values), 1 if token.alike else values, (texts, groups, width)
    rates = heads, own, 1 if token.alike else width
    wanted = [full, (texts, heads, own), rates, keys, keys, (heads, values), (heads, own), full]
    pairs = [(x, shape) for x, shape in zip(token[:8], wanted, strict=True) if x is not None]
    if any(tuple(x.shape) != shape for x, shape in pairs) or heads % groups or tuple(slots.shape) != (texts,):
        shapes = [tuple(x.shape) for x, _ in pairs]
        raise ValueError(f"tokens {shapes} for slots {tuple(slots.shape)} do not fit states {tuple(states.shape)}")
    if (states.dtype, slots.dtype) != (torch.float32, torch.int64) or not states.is_contiguous():
        raise ValueError(f"states must be float32 without gaps and slots int64: {states.dtype}, {slots.dtype}")


def passed(token: Token) -> Tensor:
    """How much time passes, `[texts, heads, *]` float32."""
    time = token.time.float()
    if token.bias is not None:
        time = time + token.bias.float()
    return torch.nn.functional.softplus(time) if token.softplus else time


def finished(token: Token, read: Tensor) -> Tensor:
    """The result from what queries read, `[texts, heads, values]` float32: contiguous, in the values' dtype."""
    if token.skip is not None:
        read = read + token.value.float() * token.skip.float()
    if token.gate is not None:
        read = read * torch.nn.functional.silu(token.gate.float())
    return read.to(token.value.dtype)


def advance(token: Token, places: Places) -> Tensor:
    """Advance the states in place.

    Args:
        places: of states `[slots, heads, value, key]` float32.

    Returns:
        What the queries read afterwards, with `skip` and `gate`: `[texts, heads, values]`, contiguous, in the values'
        dtype.
    """
    states, slots, kept = places
    share = states.shape[1] // token.key.shape[1]
    key, query = (x.float().repeat_interleave(share, dim=1) for x in (token.key, token.query))
    owned = slots >= 0
    state = states[slots.clamp(min=0)].where(owned.view(-1, 1, 1, 1), 0)
    time = passed(token)
    state = state * (time[..., None] * token.rate.float()).exp()
    state = state + (time * token.value.float())[..., None] * key[:, :, None]
    if kept:
        states[slots[owned]] = state[owned]
    return finished(token, torch.einsum("thvk,thk->thv", state, query))
