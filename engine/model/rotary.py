"""Rotary embedding, deferred until attention stores the keys, so that one kernel does both.

`transformers` rotates queries and keys just before it calls the attention function: every attention module looks
`apply_rotary_pos_emb(q, k, cos, sin)` up in its own file. That name is replaced there by a function that calls the
original, except inside a step of this engine: then it returns queries and keys unchanged and remembers the tables; the
attention function, which must get these very tensors, fetches them.

Name, arguments and place of that call are the same in transformers 5.17 and 5.24, for Llama, Qwen2, Qwen3, Mistral,
Olmo2, Phi3 and more than a hundred others. The trial run at load compares the rotation, layer by layer, with the
original's result; if anything differs, nothing is deferred.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.model.fused_ops import ROWS, Ops, Trials, close, random
from kernels.kv_store.reference import store
from kernels.rope_store.reference import rotate

NAME = "apply_rotary_pos_emb"


class RotaryError(RuntimeError):
    """The model rotates in a way that cannot be deferred."""


class Tables(NamedTuple):
    """Cosines and sines of one step's rows, `[tokens, rotary]`."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class _Pending:
    query: Tensor
    key: Tensor
    tables: Tables


class _State(threading.local):
    """What this thread defers. Several engines may live in one process, and plain models beside them."""

    active = False
    checked = False  # compare with the original
    pending: _Pending | None = None
    fetched: _Pending | None = None  # the last one


_state = _State()


@contextmanager
def putting_off(active: bool = True, checked: bool = False) -> Iterator[None]:
    """Inside, the rotations of this thread are deferred, if `active`; with `checked` each is compared.

    Raises:
        RotaryError: a rotation was never fetched.
    """
    _state.active, _state.checked, _state.pending = active, checked, None
    try:
        yield
        if _state.pending is not None:
            raise RotaryError("a rotation was put off and never fetched")
    finally:
        _state.active, _state.checked, _state.pending, _state.fetched = False, False, None, None


def fetch(query: Tensor, key: Tensor) -> Tables | None:
    """The tables by which `query` and `key` (`[1, heads, tokens, head_dim]`) must still be rotated; `None` if they are
    rotated.

    Raises:
        RotaryError: something came between rotation and attention.
    """
    pending, _state.pending = _state.pending, None
    if pending is None:
        last = _state.fetched  # a layer may attend twice with the same queries
        return last.tables if last is not None and last.query is query and last.key is key else None
    _state.fetched = pending
    if pending.query is not query or pending.key is not key:
        raise RotaryError("queries or keys changed between their rotation and attention")
    return pending.tables


def can_put_off(model: nn.Module) -> bool:
    """Let the attention modules of `model` defer rotations; returns whether there are any. Changes nothing for
    models that run outside of `putting_off`.
    """
    found = False
    for module in model.modules():
        if getattr(module, "layer_idx", None) is None:
            continue
        home: Any = sys.modules.get(type(module).__module__)
        function = getattr(home, NAME, None)
        if function is None or not callable(function):
            continue
        if not isinstance(function, _PutOff):
            setattr(home, NAME, _PutOff(function))
        found = True
    return found


def pays(ops: Ops, heads: int, kv_heads: int, head_dim: int, like: Tensor) -> bool:
    """Whether `ops.rope_store` is faster than rotating as `transformers` does and storing, on `like`'s device."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        sizes = [heads, kv_heads, kv_heads]
        query, key, value = torch.split(random(ROWS, sum(sizes), head_dim, like=like).transpose(0, 1), sizes)
        cos, sin = random(2, ROWS, head_dim, like=like).unbind()
        caches = torch.zeros(2, kv_heads, 2 * ROWS, head_dim, dtype=like.dtype, device=like.device)
        slots = torch.arange(ROWS, device=like.device) * 2

        def fused() -> Any:
            return ops.rope_store(query, key, value, (cos, sin), caches[0], caches[1], slots)

        def plain() -> Any:
            turned = [
                x * cos + torch.cat((-x[..., head_dim // 2 :], x[..., : head_dim // 2]), -1) * sin for x in (query, key)
            ]
            store(turned[1], value, caches[0], caches[1], slots)
            return turned[0]

        return fused, plain

    return Trials(like.device).pays("rotary embedding and store", head_dim, make)


def _sizes(x: Tensor, rotary: int) -> Tensor:
    """Of the two numbers that each number of a rotation is a sum of: `[heads, tokens, head_dim]` both."""
    turned, rest = x.abs().tensor_split([rotary], dim=-1)
    return torch.cat((turned + turned.roll(rotary // 2, dims=-1), rest), dim=-1)


def undeferred(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a file of `transformers` calls `apply_rotary_pos_emb`, never deferred."""
    return function.original if isinstance(function, _PutOff) else function


class _PutOff:
    """`apply_rotary_pos_emb` of one file of `transformers`."""

    def __init__(self, original: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.original = original
        self.__doc__ = original.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _state.active:
            return self.original(*args, **kwargs)
        if len(args) != 4 or kwargs or not all(isinstance(each, Tensor) for each in args):
            raise RotaryError("rotary embedding with unknown arguments")
        q, k, cos, sin = args
        if cos.ndim != 3 or cos.shape[0] != 1 or q.ndim != 4 or q.shape[2] != cos.shape[1]:
            raise RotaryError("rotary embedding with unknown arguments")
        if _state.pending is not None:
            raise RotaryError("a rotation was put off and never fetched")
        if _state.checked:
            for plain, turned in zip((q, k), self.original(q, k, cos, sin), strict=True):
                if not close(rotate(plain[0], cos[0], sin[0]), turned[0], _sizes(plain[0].float(), cos.shape[-1])):
                    raise RotaryError("rotary embedding of another form")
        _state.pending = _Pending(q, k, Tables(cos[0], sin[0]))
        return q, k
