"""Positions for models that count them themselves.

Decoders of translation models (BART and its descendants) look up learned positions by counting the tokens of a batch,
and take none from outside. A step's batch holds many texts, so their position modules get the step's positions instead:
modules whose forward function takes `position_ids` beside the length of a cache. Others (RoBERTa and its descendants)
begin to count behind the number of their padding token, which is added here.
"""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

from torch import Tensor, nn

_current = threading.local()  # several engines may live in one process, each in its own thread


@contextmanager
def at_positions(positions: Tensor | None) -> Iterator[None]:
    """Inside, this thread's counting modules use `positions` `[tokens]`; with `None` they count."""
    _current.positions = positions
    try:
        yield
    finally:
        _current.positions = None


def hand_positions_in(model: nn.Module) -> int | None:
    """Let the counting modules of `model` take positions from `at_positions`.

    Returns:
        Tokens in the longest text for which they have positions; `None` if there are no such modules.
    """
    found: list[int] = []
    for name, module in model.named_modules():
        if isinstance(module.forward, _Told):
            continue
        if _counts(module):
            told = _Told(module.forward)
        elif name.endswith("position_embeddings") and _looks_up(module) and module.padding_idx is not None:
            told = _Told(module.forward, module.padding_idx + 1)
        else:
            continue
        vars(module)["forward"] = told
        weight = getattr(module, "weight", None)
        if weight is not None:
            found.append(int(weight.shape[0]) - int(getattr(module, "offset", told.offset)))
    return min(found, default=None)


def _looks_up(module: nn.Module) -> TypeGuard[nn.Embedding]:
    """Whether a module is given the positions themselves, and not the shape of a batch (ProphetNet)."""
    return isinstance(module, nn.Embedding) and type(module).forward is nn.Embedding.forward


def _counts(module: nn.Module) -> bool:
    if any(True for _ in module.children()):
        return False
    names = inspect.signature(module.forward).parameters
    return "position_ids" in names and "cache_length" in names and next(iter(names)) != "position_ids"


class _Told:
    """A position module's forward function."""

    def __init__(self, forward: Any, offset: int = 0) -> None:
        """With `offset`, the module takes positions, and those of a text begin there."""
        self._forward = forward
        self.offset = offset

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        positions: Tensor | None = getattr(_current, "positions", None)
        if positions is None:
            return self._forward(*args, **kwargs)
        if self.offset:
            return self._forward(args[0] + self.offset)
        given = kwargs.get("position_ids")
        kwargs["position_ids"] = positions if given is None else positions.view(given.shape)
        return self._forward(*args, **kwargs)
