"""Recurrent layers in the gate's runs: what they keep, whether they go on where a text ended, and whether functions of
other packages compute them, too, and kernels in the pool of their states.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.errors import UnsupportedModelError, one_line
from engine.model.in_pool import COPIES, Advances, Lent
from engine.model.kernel_trial import error_of_a_token
from engine.model.packages import DISTRIBUTIONS, Either
from engine.model.states import Call, Key, Recurrent, StateCache, StatePool, StateShape, joined, keeping, mapped

# Largest error of a token, see `error_of_a_token`, in a layer that packages compute: in float32, and where numbers are
# rounded to 16 bits. One that does not go on where a text ended errs by about one, and by 0.09 where one of 128 heads
# is missing.
AGREED, ROUNDED = {torch.float32: 0.01}, 0.06
# The same of single tokens advanced in a pool, where only roundings of the same sums differ.
SAME, CLOSE = {torch.float32: 1e-3}, 0.05
STEPS = 3  # that a trial advances texts by
_log = logging.getLogger(__name__)


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
    """The largest of the differences, in standard deviations; infinite where a number is none."""
    if isinstance(whole, Tensor):
        error = (found - whole).float().abs().max() / whole.float().std().clamp_min(1e-6)
        return float(error.nan_to_num(nan=math.inf))
    if isinstance(whole, tuple):
        return max(_error(one, other) for one, other in zip(found, whole, strict=True))
    return 0.0


class PackageTrial:
    """Recurrent layers computed in torch, and then by other packages' functions, which are taken where they agree."""

    def __init__(self, error: float) -> None:
        """`error`: of a token, up to which two results agree."""
        self.refused: dict[str, str] = {}  # of the packages of a layer's functions, why they are not taken
        self._error = error

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`. A whole text, and the same by parts."""
        device = next(x.device for x in call.arguments.values() if isinstance(x, Tensor))
        rows = torch.arange(call.rows, device=device)[None]
        whole = layer.advance(call, rows, StateCache(), True)
        packages = _names(each for each in layer.functions if each.installed)
        if not packages or packages in self.refused:
            return whole
        layer.by_packages = True
        try:
            again = layer.advance(call, rows, StateCache(), True)
            worst = max(error_of_a_token(again, whole), error_of_a_token(_by_parts(layer, call, rows), whole))
            why = "" if worst < self._error else f"they err by {worst:.2g} of what is usual at a token"
        except Exception as error:  # code of any package
            why = f"{type(error).__name__}: {one_line(error)}"
        if why:
            layer.by_packages = False
            self.refused[packages] = why
        return whole


def _names(functions: Iterable[Either]) -> str:
    """The packages that may compute them, as people install them."""
    return " ".join(sorted({DISTRIBUTIONS.get(each.package, each.package) for each in functions}))


def try_packages(layers: Sequence[Recurrent], dtype: torch.dtype, run: Callable[[], Any]) -> None:
    """Let installed packages compute layers where they agree with torch; tell where they do not, and what is missing.

    Args:
        layers: of the model that `run` passes a text of hundreds of tokens through.
        dtype: in which it computes.
        run: inside of `engine.model.attention.attending`.
    """
    trial = PackageTrial(AGREED.get(dtype, ROUNDED))
    with keeping(trial):
        run()
    for packages, why in trial.refused.items():
        _log.warning("layers with a state are computed in torch, not by %s: %s", packages, why)
    if missing := _names(each for layer in layers for each in layer.functions if not each.installed):
        _log.warning("layers with a state are computed in torch, in part: faster may be: pip install %s", missing)


class PoolTrial:
    """Recurrent layers that advance two texts by single tokens in torch, and then with each kind of states in a pool,
    where those stay if both agree.
    """

    def __init__(self, advances: Advances, error: float) -> None:
        """`error`: of a token, up to which two results agree."""
        self.refused: dict[str, str] = {}  # of what would advance them, why a layer's are copied
        self._advances = advances
        self._error = error

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`."""
        device = next(x.device for x in call.arguments.values() if isinstance(x, Tensor))
        rows = torch.arange(call.rows, device=device)
        cache = StateCache()
        whole = layer.advance(call, rows[None], cache, True)
        layer.in_pool, asked = COPIES, layer.in_pool
        for name in _steps(layer, {kind for kind, _ in cache.states}):
            if not getattr(asked, name):
                continue
            try:
                worst = self._worst(layer, call, whole, self._advances.only(name))
            except (AttributeError, KeyError, TypeError) as error:  # the layer does other things with it
                _log.debug("a layer's states are copied, not advanced by %s: %s", name, error)
                continue
            except Exception as error:  # of a kernel
                self.refused.setdefault(name, f"{type(error).__name__}: {one_line(error)}")
                continue
            if worst < self._error:
                layer.in_pool = layer.in_pool._replace(**{name: getattr(self._advances, name)})
            else:
                self.refused.setdefault(name, f"it errs by {worst:.2g} of what is usual at a token")
        return whole

    def _worst(self, layer: Recurrent, call: Call, whole: Any, advances: Advances) -> float:
        """The largest error of a token, relative to what is usual in `whole`, which the layer gives for the text."""
        device = next(x.device for x in call.arguments.values() if isinstance(x, Tensor))
        rows = torch.arange(call.rows, device=device)
        ends = torch.tensor([[call.rows - STEPS], [call.rows - STEPS - 1]], device=rows.device)
        caches = [StateCache(), StateCache()]
        for cache, (end,) in zip(caches, ends.tolist(), strict=True):
            layer.advance(call, rows[None, :end], cache, True)
        states = {key: torch.cat([cache.states[key] for cache in caches]) for key in caches[0].states}
        pool = StatePool({(layer.index, *key): torch.cat([x, x[:1] * math.nan]) for key, x in states.items()})
        slots = torch.tensor([1, 0], device=rows.device)
        pool.write(layer.index, slots, states)
        errors = []
        for at in range(STEPS):
            cache = StateCache(states)
            expected, states = layer.advance(call, ends + at, cache, False), cache.states
            for kept in (False, True):  # as a guess is computed, then as a row
                cache = StateCache(pool.read(layer.index, slots, Lent(advances, slots, kept)))
                errors.append(error_of_a_token(layer.advance(call, ends + at, cache, False), expected, whole))
            pool.write(layer.index, slots, cache.states)
        return max(errors)


def _steps(layer: Recurrent, kinds: Collection[str]) -> list[str]:
    """Of `Advances`, those that the layer's functions may be replaced by where it has states of these kinds."""
    return sorted({each.step.name for each in layer.functions if each.step and each.step.kind in kinds})


def try_in_pool(layers: Sequence[Recurrent], advances: Advances, runs: Mapping[torch.dtype, Callable[[], Any]]) -> None:
    """Let the states of layers stay in their pool where single tokens come out as in torch; tell where they do not.

    Args:
        layers: of the model that each of `runs` passes a short text through.
        advances: the kernels of the device, where there are some.
        runs: by the dtype in which they compute, inside of `engine.model.attention.attending`: float32, which shows
            errors that another dtype's rounding would hide, then the model's own.
    """
    if advances == COPIES or not any(each.step for layer in layers for each in layer.functions):
        return
    for layer in layers:
        layer.in_pool = advances
    for dtype, run in runs.items():
        trial = PoolTrial(advances, SAME.get(dtype, CLOSE))
        with keeping(trial):
            run()
        for name, why in trial.refused.items():
            _log.warning("states are copied in each step, not advanced in their pool by %s: %s", name, why)


class HollowStates:
    """Zeros in place of the recurrent layers, for runs that only look at masks."""

    def __init__(self, outputs: dict[int, Any]) -> None:
        """`outputs`: of each layer for one row, as `TrialStates` records them."""
        self._outputs = outputs

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`."""
        return mapped(self._outputs[layer.index], lambda x: x.new_zeros((1, call.rows, *x.shape[2:])))
