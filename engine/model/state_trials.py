"""Recurrent layers in the gate's runs: what they keep, and whether they go on where a text ended."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.errors import UnsupportedModelError
from engine.model.states import Call, Key, Recurrent, StateCache, StateShape, joined, mapped


class TrialStates:
    """Recurrent layers in the gate's runs: each text by itself. Records what the layers keep."""

    def __init__(self, lengths: Sequence[int] = (), checked: float | None = None) -> None:
        """
        Args:
            lengths: rows of each text of the pass; a single one where empty.
            checked: with it, each layer must go on where it ended, to this error in standard deviations.
        """
        self.shapes: dict[Key, StateShape] = {}
        self.outputs: dict[int, Any] = {}  # of each layer, for the first rows
        self.calls: Counter[int] = Counter()  # of each layer
        self._lengths = lengths
        self._checked = checked

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`.

        Raises:
            UnsupportedModelError: the layer does not go on where it ended.
        """
        self.calls[layer.index] += 1
        device = next(x.device for x in call.arguments.values() if isinstance(x, Tensor))
        outputs, first = [], 0
        for length in self._lengths or [call.rows]:
            rows = torch.arange(first, first + length, device=device)[None]
            first += length
            cache = StateCache()
            whole = layer.advance(call, rows, cache, True)
            outputs.append(whole)
            if self._checked is not None:
                self._check(layer, call, rows, whole)
        for (kind, at), state in cache.states.items():
            key = layer.index, kind, at
            self.shapes[key] = StateShape(key, tuple(state.shape[1:]), state.dtype)
        found = joined(outputs, lambda pieces: torch.cat(pieces, dim=1))
        self.outputs[layer.index] = mapped(found, lambda x: x[:, :1])
        return found

    def _check(self, layer: Recurrent, call: Call, rows: Tensor, whole: Any) -> None:
        assert self._checked is not None
        for by_parts in (True, False):
            layer.by_parts = by_parts
            if _error(_by_parts(layer, call, rows), whole) < self._checked:
                return
        raise UnsupportedModelError("layers with a state that do not go on where a text ended")


def _by_parts(layer: Recurrent, call: Call, rows: Tensor) -> Any:
    """A text computed as the engine may: some tokens, more, then one by one."""
    parts, states = [], None
    begin, most = 0, rows.shape[1]
    for end in (*(at for at in (2, 7, 8) if at < most), most):
        cache = StateCache(states)
        parts.append(layer.advance(call, rows[:, begin:end], cache, states is None))
        states = {key: state.clone() for key, state in cache.states.items()}
        begin = end
    return joined(parts, lambda pieces: torch.cat(pieces, dim=1))


def _error(found: Any, whole: Any) -> float:
    """The largest, in standard deviations."""
    if isinstance(whole, Tensor):
        return float((found - whole).abs().max() / whole.std().clamp_min(1e-6))
    if isinstance(whole, tuple):
        return max(_error(one, other) for one, other in zip(found, whole, strict=True))
    return 0.0


class HollowStates:
    """Zeros in place of the recurrent layers, for runs that only look at masks."""

    def __init__(self, outputs: dict[int, Any]) -> None:
        """`outputs`: of each layer for one row, as `TrialStates` records them."""
        self._outputs = outputs

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`."""
        return mapped(self._outputs[layer.index], lambda x: x.new_zeros((1, call.rows, *x.shape[2:])))
