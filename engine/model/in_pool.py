"""States that stay in the pool while a layer's texts advance by one token.

A layer takes its texts' states from the cache, hands them to functions of `transformers`, and gives the cache what
comes back. In a decoding step the cache gives it stand-ins, which those functions, as `engine.model.packages` replaces
them, know: a kernel then reads and writes each state once, in the pool. States that are copied out, advanced and copied
back are read and written many times. This is so for what a gated delta rule has summed up and for the last inputs of a
short convolution, in layers in which a trial at load (`try_in_pool` of `engine.model.state_trials`) found that it
agrees with the functions in torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels import native
from kernels.delta_rule.reference import Token
from kernels.places import Places
from kernels.short_conv.reference import Input

# Arguments that take states, of functions that may be handed a stand-in, and the states' kind.
ARGUMENTS = {"initial_state": "recurrent", "conv_state": "conv"}
SILU = {None: False, "silu": True, "swish": True}  # activations behind a convolution, as configurations name them


class Advances(NamedTuple):
    """What advances states in their pool, by their kind; `None`: they are copied."""

    recurrent: Callable[[Token, Places], Tensor] | None = None  # as `kernels.delta_rule.reference.advance`
    conv: Callable[[Input, Places], Tensor] | None = None  # as `kernels.short_conv.reference.advance`

    def only(self, kind: str) -> "Advances":
        """Of one kind of states."""
        return COPIES._replace(**{kind: getattr(self, kind)})


COPIES = Advances()


def advances_for(device: torch.device) -> Advances:
    """The kernels of a device; none where copies cost no more than what torch computes."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from kernels.delta_rule import triton as delta_rule
        from kernels.short_conv import triton as short_conv

        return Advances(delta_rule.advance, short_conv.advance)
    if device.type == "cpu" and native.library() is not None:
        from kernels.delta_rule import native as delta_rule_in_c
        from kernels.short_conv import native as short_conv_in_c

        return Advances(delta_rule_in_c.advance, short_conv_in_c.advance)
    return COPIES


@dataclass(frozen=True)
class InPool:
    """What a layer finds in place of its texts' states."""

    places: Places
    advance: Any  # of `Advances`

    def to(self, *args: Any, **kwargs: Any) -> "InPool":
        """Itself: layers ask for the dtype that states have."""
        return self

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """In place of the function of `transformers`, with its arguments."""
        raise NotImplementedError


class SummedUp(InPool):
    """In place of what a gated delta rule has summed up."""

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        use_qk_l2norm_in_kernel: bool = False,
        **_: Any,
    ) -> tuple[Tensor, InPool]:
        """`[texts, 1, heads, ...]` each, and the same of the result."""
        query, key, value, g, beta = (x.squeeze(1) for x in (query, key, value, g, beta))
        token = Token(query, key, value, g, beta, use_qk_l2norm_in_kernel)
        return self.advance(token, self.places)[:, None], self


class LastInputs(InPool):
    """In place of the last inputs of a short convolution."""

    def step(
        self,
        hidden_states: Tensor,
        conv_state: InPool,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
    ) -> Tensor:
        """`[texts, features, 1]`, and the same of the result."""
        given = Input(hidden_states.squeeze(-1), weight, bias, SILU[activation])
        found: Tensor = self.advance(given, self.places)[..., None]
        return found


class Lent(NamedTuple):
    """What makes stand-ins of a pool's states; see `Places`."""

    advances: Advances
    slots: Tensor
    kept: bool

    def of(self, kind: str, states: Tensor) -> InPool | None:
        """Of `[slots, ...]`, `conv` or `recurrent`; `None`: they are copied."""
        advance = getattr(self.advances, kind)
        made = LastInputs if kind == "conv" else SummedUp
        return made(Places(states, self.slots, self.kept), advance) if advance else None
