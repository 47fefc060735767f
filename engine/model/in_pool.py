"""States that stay in the pool while a layer's texts advance by one token.

A layer with a gated delta rule takes its texts' states from the cache, hands them to a function of `transformers`, and
gives the cache what comes back. In a decoding step the cache gives it a stand-in, which that function, as
`engine.model.packages` replaces it, knows: a kernel then reads and writes each state once, in the pool. States that are
copied out, advanced and copied back are read and written many times. Taken for layers in which a trial at load
(`try_in_pool` of `engine.model.state_trials`) found that it agrees with the function in torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kernels import native
from kernels.delta_rule.reference import Places, Token

Advance = Callable[[Token, Places], Tensor]  # as `kernels.delta_rule.reference.advance`


def advance_for(device: torch.device) -> Advance | None:
    """The kernel of a device; `None` where there is none, and copies cost no more than torch."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from kernels.delta_rule import triton

        return triton.advance
    if device.type == "cpu" and native.library() is not None:
        from kernels.delta_rule.native import advance

        return advance
    return None


@dataclass(frozen=True)
class InPool:
    """What a layer finds in place of its texts' states."""

    places: Places
    advance: Advance

    def to(self, *args: Any, **kwargs: Any) -> "InPool":
        """Itself: layers ask for float32, which states are."""
        return self

    def step(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        use_qk_l2norm_in_kernel: bool = False,
        **_: Any,
    ) -> tuple[Tensor, "InPool"]:
        """In place of the function: `[texts, 1, heads, ...]` each, and the same of its result."""
        query, key, value, g, beta = (x.squeeze(1) for x in (query, key, value, g, beta))
        token = Token(query, key, value, g, beta, use_qk_l2norm_in_kernel)
        return self.advance(token, self.places)[:, None], self


def lend(advance: Advance | None, slots: Tensor, kept: bool) -> Callable[[Tensor], InPool] | None:
    """What makes a stand-in of a pool's states `[slots, ...]`; see `Places`."""
    return None if advance is None else lambda states: InPool(Places(states, slots, kept), advance)
