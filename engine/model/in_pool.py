"""States that stay in the pool while a layer's texts advance by one token.

A layer takes its texts' states from the cache, hands them to functions of `transformers`, and gives the cache what
comes back. In a decoding step the cache gives it stand-ins, which those functions, as `engine.model.packages` replaces
them, know: a kernel then reads and writes each state once, in the pool. States that are copied out, advanced and copied
back are read and written many times. This is so for what gated delta rules and state spaces (Mamba) have summed up and
for the last inputs of short convolutions, in layers in which a trial at load (`try_in_pool` of
`engine.model.state_trials`) found that it agrees with the functions in torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels import native
from kernels.delta_rule.reference import Token as DeltaToken
from kernels.places import Places
from kernels.short_conv.reference import Input
from kernels.state_space.reference import Token as SpaceToken

SILU = {None: False, "silu": True, "swish": True}  # activations behind a convolution, as configurations name them


class Advances(NamedTuple):
    """What advances states in their pool, each as its `reference.advance` in `kernels`; `None`: they are copied."""

    delta_rule: Callable[[DeltaToken, Places], Tensor] | None = None
    short_conv: Callable[[Input, Places], Tensor] | None = None
    state_space: Callable[[SpaceToken, Places], Tensor] | None = None

    def only(self, name: str) -> "Advances":
        """One of them."""
        return COPIES._replace(**{name: getattr(self, name)})


COPIES = Advances()


def advances_for(device: torch.device) -> Advances:
    """The kernels of a device; none where copies cost no more than what torch computes."""
    if device.type == "cuda" and find_spec("triton") is not None:
        way = "triton"
    elif device.type == "cpu" and native.library() is not None:
        way = "native"
    else:
        return COPIES
    return Advances(*(import_module(f"kernels.{name}.{way}").advance for name in Advances._fields))


@dataclass(frozen=True)
class InPool:
    """What a layer finds in place of its texts' states."""

    places: Places
    advances: Any  # `Advances`; where another function than the layer's is called, `None` is, which is a TypeError

    def to(self, *args: Any, **kwargs: Any) -> "InPool":
        """Itself: layers ask for the dtype that states have."""
        return self


class Step(NamedTuple):
    """What computes a token of each text in place of a function of `transformers`."""

    name: str  # in `Advances`
    kind: str  # of the states
    run: Callable[..., Any]  # with the function's arguments, an `InPool` among them


def _delta_rule(
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, initial_state: InPool,
    use_qk_l2norm_in_kernel: bool = False, **_: Any,
) -> tuple[Tensor, InPool]:  # fmt: skip
    """`[texts, 1, heads, ...]` each, and the same of the result."""
    query, key, value, g, beta = (x.squeeze(1) for x in (query, key, value, g, beta))
    token = DeltaToken(query, key, value, g, beta, use_qk_l2norm_in_kernel)
    return initial_state.advances.delta_rule(token, initial_state.places)[:, None], initial_state


def _short_conv(
    hidden_states: Tensor, conv_state: InPool, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """`[texts, features, 1]`, and the same of the result."""
    given = Input(hidden_states.squeeze(-1), weight, bias, SILU[activation])
    found: Tensor = conv_state.advances.short_conv(given, conv_state.places)[..., None]
    return found


def _state_space(
    state: InPool, hidden_states: Tensor, dt: Tensor, *of_states: Any,
    dt_bias: Tensor | None = None, dt_softplus: bool = False, z: Tensor | None = None, **_: Any,
) -> Tensor:  # fmt: skip
    """`[texts, heads, values]`, and the same of the result; without heads where the states have none (Mamba)."""
    rate, key, query, skip = (*of_states, None)[:4]
    places, bias = state.places, dt_bias
    heads = places.states.ndim == 4
    if not heads:  # one for all
        places = places._replace(states=places.states[:, None])
        hidden_states, dt, key, query = (x[:, None] for x in (hidden_states, dt, key, query))
        z = None if z is None else z[:, None]
        rate, skip, bias = rate[None], None if skip is None else skip[None], None if bias is None else bias[None]
    if not any((dt.stride(-1), *rate.stride()[-2:], 0 if bias is None else bias.stride(-1))):  # a number for each head
        dt, rate, bias = dt[..., :1], rate[..., :1, :1], None if bias is None else bias[..., :1]
    token = SpaceToken(hidden_states, dt, rate, key, query, skip, bias, z, dt_softplus)
    found: Tensor = state.advances.state_space(token, places)
    return found if heads else found[:, 0]


# By an argument that the function of `transformers` takes states as.
STEPS = {
    "initial_state": Step("delta_rule", "recurrent", _delta_rule),
    "conv_state": Step("short_conv", "conv", _short_conv),
    "state": Step("state_space", "recurrent", _state_space),
}


class Lent(NamedTuple):
    """What makes stand-ins of a pool's states; see `Places`."""

    advances: Advances
    slots: Tensor
    kept: bool

    def of(self, kind: str, states: Tensor) -> InPool | None:
        """Of `[slots, ...]`, `conv` or `recurrent`; `None`: they are copied."""
        stays = any(step.kind == kind and getattr(self.advances, step.name) for step in STEPS.values())
        return InPool(Places(states, self.slots, self.kept), self.advances) if stays else None
