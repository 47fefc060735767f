"""Recurrent layers (linear attention, state spaces, convolutions) over a step's packed batch.

`transformers` computes such a layer for texts of one length and keeps its state in a cache object: the last inputs of a
convolution, and what the recurrence has summed up. A step's batch holds rows of many texts, so the layer is called once
for each *group* of texts with equally many rows, with a cache object that holds their states, read from a pool and then
written back. Texts that decode are one group, computed by the layer's recurrent form; many kinds of states stay in the
pool then (`engine.model.in_pool`).

A layer is known by its code: it calls a cache's `update_conv_state` or another method that keeps a state. The gate
(`engine.model.gate`) tries each: whether it continues a text where it ended, by parts of any length or token by token.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from engine.errors import UnsupportedModelError
from engine.model.code import leave_read_weights, names_any, numbered
from engine.model.in_pool import COPIES, InPool, Lent
from engine.model.memory import zeros
from engine.model.packages import by_packages, keep_both

_UPDATES = frozenset({"update_conv_state", "update_recurrent_state", "set_linear_cache"})
_CACHES = ("cache", "cache_params", "past_key_values", "past_key_value")

Key = tuple[int, str, int]  # of a state: its layer, `conv` or `recurrent`, and which of the layer's
Some = dict[tuple[str, int], Any]  # states of some texts by kind and number: tensors `[texts, ...]`, or an `InPool`


class StateCache:
    """What a layer finds in place of `transformers`' cache, for one call: the states of its texts."""

    def __init__(self, states: Some | None = None) -> None:
        """With `states`, by kind and number, the texts go on; else they begin."""
        self.states: Some = states or {}
        self._goes_on = states is not None

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Any:
        """The last inputs of a convolution, `[texts, features, width]`, or what stands in; `None` where texts begin."""
        return self.states.get(("conv", state_idx)) if self._goes_on else None

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Any:
        """What a recurrence has summed up, `[texts, ...]`, or what stands in; `None` where texts begin."""
        return self.states.get(("recurrent", state_idx)) if self._goes_on else None

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> Tensor:
        """Keep the last inputs; return them behind those that were kept, and behind zeros at the beginning."""
        known = self.get_conv_state(layer_idx, state_idx)
        if known is None:
            width = conv_kernel_size or conv_states.shape[-1]
            full = nn.functional.pad(conv_states, (max(0, width - conv_states.shape[-1]), 0))
        else:
            width = known.shape[-1]
            full = torch.cat([known, conv_states.to(known.dtype)], dim=-1)
        self.states["conv", state_idx] = full[..., -width:]
        return full

    def update_recurrent_state(self, recurrent_states: Any, layer_idx: int, state_idx: int = 0, **_: Any) -> Any:
        """Keep a state."""
        self.states["recurrent", state_idx] = recurrent_states
        return recurrent_states

    def get_linear_cache(self, layer_idx: int) -> Any:
        """MiniMax's name for a recurrent state."""
        return self.get_recurrent_state(layer_idx)

    def set_linear_cache(self, layer_idx: int, linear_cache: Tensor) -> None:
        """Keep one."""
        self.update_recurrent_state(linear_cache, layer_idx)

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether the texts go on."""
        return self._goes_on

    def is_recording_past(self, layer_idx: int) -> bool:
        """Never: the engine keeps states on its own."""
        return False

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse keys and values.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError("attention inside of layers with a state")


class Rows(NamedTuple):
    """A group of texts with equally many rows in a step's batch."""

    rows: Tensor | None  # [texts * length] int64, their rows; `None`: all, in order
    length: int  # rows of each
    slots: Tensor  # [texts] int64, where their states are
    goes_on: bool  # their states are read; else they begin
    kept: bool  # their states are written; else the rows are guesses
    owned: Tensor | None = None  # [texts] int64, the slots, below 0 of rows that are nobody's; `None`: there are none


class StateContext(Protocol):
    """What the recurrent layers do during one forward pass."""

    def mix(self, layer: "Recurrent", call: "Call") -> Any:
        """The layer's output for the rows of the pass."""
        ...


_current = threading.local()  # several engines may live in one process, each in its own thread


@contextmanager
def keeping(context: StateContext | None) -> Iterator[None]:
    """Inside, this thread's recurrent layers go through `context`; with `None` they compute all rows as one text."""
    before = getattr(_current, "context", None)
    _current.context = context
    try:
        yield
    finally:
        _current.context = before


@dataclass(frozen=True)
class Call:
    """The arguments of a layer's forward function, `[1, rows, ...]` each that has rows."""

    forward: Callable[..., Any]
    arguments: dict[str, Any]
    cache: str  # the argument that takes it
    rows: int

    def run(self, pick: Callable[[Tensor], Tensor] | None, cache: StateCache | None) -> Any:
        """Compute some rows.

        Args:
            pick: from `[1, rows, ...]` to `[texts, length, ...]`; `None`: all as one text.
            cache: of these texts.
        """
        given = self.arguments | {self.cache: cache}
        if pick is not None:
            given = {name: mapped(value, self._picked(pick)) for name, value in given.items()}
        return self.forward(**given)

    def _picked(self, pick: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: pick(x) if x.ndim > 1 and x.shape[:2] == (1, self.rows) else x


class Recurrent:
    """The forward function of a layer with a state."""

    def __init__(self, module: nn.Module, index: int) -> None:
        """`index`: its number among those of a model."""
        self.index = index
        self._forward = module.forward
        self._signature = inspect.signature(module.forward)
        self.cache = next(name for name in _CACHES if name in self._signature.parameters)
        self.by_parts = True  # goes on with several tokens at once; else token by token
        self.by_packages = False  # computed by other packages' functions, see `engine.model.packages`
        self.in_pool = COPIES  # what advances texts by one token in their pool
        self.functions = keep_both(module)
        leave_read_weights(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context: StateContext | None = getattr(_current, "context", None)
        if context is None:
            return self._forward(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs).arguments
        given = {name: value for name, value in bound.items() if name not in ("args", "kwargs")}
        given |= bound.get("kwargs", {})
        rows = next(x.shape[1] for x in given.values() if isinstance(x, Tensor) and x.ndim > 2)
        return context.mix(self, Call(self._forward, given, self.cache, rows))

    def advance(self, call: Call, rows: Tensor, cache: StateCache, begins: bool) -> Any:
        """Outputs `[texts, length, ...]` of some rows `[texts, length]`; the cache holds their states afterwards."""
        if begins or self.by_parts or rows.shape[1] == 1:
            with by_packages(self.by_packages):
                found = call.run(lambda x: x[0, rows], cache)
            kept = {id(state) for state in cache.states.values()}  # some layers return their state, too
            return mapped(found, lambda x: None if id(x) in kept else x)
        parts = [self.advance(call, rows[:, at : at + 1], cache, False) for at in range(rows.shape[1])]
        return joined(parts, lambda pieces: torch.cat(pieces, dim=1))


def keep_states_apart(model: nn.Module) -> list[Recurrent]:
    """Let the recurrent layers of `model` go through `keeping`; return them in order, none where there are none."""
    return numbered(model, Recurrent, is_recurrent, Recurrent)


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module keeps a state in the cache that it is given."""
    kind: Any = type(module)
    return isinstance(module.forward, Recurrent) or _keeps_state(kind)


@functools.cache
def _keeps_state(kind: Any) -> bool:
    takes = inspect.signature(kind.forward).parameters
    return any(name in takes for name in _CACHES) and names_any(kind, _UPDATES)


# -- while serving ----------------------------------------------------------------------------------------------------


class StateShape(NamedTuple):
    """One state of one text."""

    key: Key
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass
class StatePool:
    """The states of running texts and snapshots of them, a slot each."""

    states: dict[Key, Tensor] = field(default_factory=dict)  # [slots, ...]

    @classmethod
    def of(cls, shapes: Sequence[StateShape], slots: int, device: torch.device) -> "StatePool":
        """A pool of zeros."""
        return cls({each.key: zeros((slots, *each.shape), each.dtype, device) for each in shapes})

    @property
    def slots(self) -> int:
        """How many there are; 0 where there is nothing to keep."""
        return next((len(state) for state in self.states.values()), 0)

    def clear(self, slot: int) -> None:
        """Zero a slot."""
        for state in self.states.values():
            state[slot] = 0

    @property
    def nbytes(self) -> int:
        """Memory of all slots."""
        return sum(state.nbytes for state in self.states.values())

    def copy(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy slots; all are read before one is written."""
        if not source or not self.states:
            return
        device = next(iter(self.states.values())).device
        index = torch.tensor([source, target], device=device)
        for state in self.states.values():
            state.index_copy_(0, index[1], state.index_select(0, index[0]))

    def read(self, layer: int, slots: Tensor, lent: Lent | None = None) -> Some:
        """The states of a layer, by kind and number; with `lent`, what stands in for those that stay."""
        return {
            (kind, at): (lent and lent.of(kind, state)) or state.index_select(0, slots)
            for (of, kind, at), state in self.states.items()
            if of == layer
        }

    def write(self, layer: int, slots: Tensor, states: Some) -> None:
        """Store what `read` gave, of the first texts where there are fewer slots."""
        for (kind, at), state in states.items():
            if not isinstance(state, InPool):
                stored = self.states[layer, kind, at]
                stored.index_copy_(0, slots, state[: len(slots)].to(stored.dtype))


@dataclass(frozen=True)
class StepStates:
    """The recurrent layers of one step."""

    pool: StatePool
    groups: Sequence[Rows]  # guesses behind the rows that they continue

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `StateContext`."""
        outputs, places = [], []
        for group in self.groups:
            rows = torch.arange(call.rows, device=group.slots.device) if group.rows is None else group.rows
            owned = group.slots if group.owned is None else group.owned
            lent = Lent(layer.in_pool, owned, group.kept) if group.length == 1 else None
            cache = StateCache(self.pool.read(layer.index, group.slots, lent) if group.goes_on else None)
            outputs.append(layer.advance(call, rows.view(-1, group.length), cache, not group.goes_on))
            places.append(rows)
            if group.kept:
                self.pool.write(layer.index, group.slots, cache.states)
        where = torch.cat(places)
        return joined(outputs, lambda pieces: _in_place(pieces, where))


def mapped(value: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
    """Tensors in a value, changed; tuples of them, too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(mapped(each, change) for each in value)
    return value


def joined(parts: Sequence[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    """Outputs of several calls as one."""
    if isinstance(parts[0], Tensor):
        return join(list(parts))
    if isinstance(parts[0], tuple):
        return tuple(joined(each, join) for each in zip(*parts, strict=True))
    return parts[0]


def _in_place(pieces: list[Tensor], where: Tensor) -> Tensor:
    """`[1, rows, ...]` from `[texts, length, ...]` of each group, whose rows are at `where`."""
    rows = torch.cat([piece.flatten(0, 1) for piece in pieces])
    return torch.empty_like(rows).index_copy_(0, where, rows)[None]
