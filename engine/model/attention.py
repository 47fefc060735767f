"""The attention that `transformers` calls: it stores the step's keys and values, then attends over the tree.

`AttentionInterface` hands every layer's queries, keys and values to `paged_tree_attention`, after RoPE or with RoPE
deferred (`engine.model.rotary`). The step is not among its arguments, so `attending` sets it around the forward pass.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

from engine.errors import UnsupportedModelError
from engine.model.backends import Backend, Work
from engine.model.fused_ops import Ops
from engine.model.rotary import Tables, fetch
from kernels.attention.reference import attend
from kernels.rope_store.reference import rotate

NAME = "troop_tree"  # absent from the mask registry on purpose: transformers then builds no mask

# Arguments of attention functions that ours does not implement. `None` and `False` mean that the model does not use it.
UNSUPPORTED = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "softcap": "soft-capped attention scores",
    "logits_soft_cap": "soft-capped attention scores",
    "head_mask": "head masks",
    "position_bias": "position biases",
    "alibi": "ALiBi biases",
    "cache_params": "recurrent state",
}


class Context(Protocol):
    """What attention does during one forward pass."""

    @property
    def longest(self) -> int:
        """Tokens in the longest possible sequence: a window at least as long changes nothing."""
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """`query` `[heads, tokens, head_dim]`, `key` and `value` `[kv_heads, tokens, head_dim]` -> `[tokens, heads,
        head_dim]`.
        """
        ...


@dataclass(frozen=True)
class PagedContext:
    """One step over the paged cache."""

    cache: Tensor  # [layers, 2, kv_heads, slots, head_dim]
    slots: Tensor  # [tokens] int64, where each row's key and value go
    work: Work
    longest: int
    backend: Backend
    ops: Ops

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, tables: Tables | None = None
    ) -> Tensor:
        """See `Context`; with `tables`, queries and keys are not rotated yet."""
        keys, values = self.cache[layer, 0], self.cache[layer, 1]
        if tables is None:
            self.ops.store(key, value, keys, values, self.slots)
        else:
            query = self.ops.rope_store(query, key, value, tables, keys, values, self.slots)
        return self.backend.attend(query.transpose(0, 1), keys, values, self.work, scale)


class ProbeContext:
    """Plain causal attention over a single short text; records which layers attend and with which shapes."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.layers: list[int] = []
        self.shapes: set[tuple[int, int, int]] = set()  # (heads, kv_heads, head_dim)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, tables: Tables | None = None
    ) -> Tensor:
        """See `PagedContext`."""
        if tables is not None:
            query, key = rotate(query, tables.cos, tables.sin), rotate(key, tables.cos, tables.sin)
        if key.shape != value.shape or query.shape[-1] != key.shape[-1]:
            raise UnsupportedModelError("keys and values of different sizes")
        self.layers.append(layer)
        self.shapes.add((query.shape[0], key.shape[0], query.shape[2]))
        heads, tokens, head_dim = query.shape
        grouped = query.reshape(len(key), heads // len(key), tokens, head_dim)
        shape = grouped.shape  # keys and values of a group are shared, not copied
        output, _ = attend(grouped, key[:, None].expand(shape), value[:, None].expand(shape), scale, causal=True)
        return output.reshape(heads, tokens, head_dim).transpose(0, 1)


_current = threading.local()  # several engines may live in one process, each in its own thread


@contextmanager
def attending(context: Context) -> Iterator[None]:
    """Inside, this thread's attention goes through `context`."""
    _current.context = context
    try:
        yield
    finally:
        _current.context = None


def paged_tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered as `troop_tree`: `[1, heads, tokens, head_dim]` in, `[1, tokens, heads, head_dim]` out.

    Raises:
        UnsupportedModelError: the model needs something that this attention does not implement.
    """
    context: Context | None = getattr(_current, "context", None)
    if context is None:
        raise RuntimeError(f"{NAME} attention was called outside of an engine's step")
    if attention_mask is not None or kwargs.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise UnsupportedModelError("attention that is not causal")
    window = kwargs.get("sliding_window")
    if window is not None and window < context.longest:
        raise UnsupportedModelError("sliding window attention")
    for name, feature in UNSUPPORTED.items():
        if kwargs.get(name) is not None and kwargs[name] is not False:
            raise UnsupportedModelError(feature)
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise UnsupportedModelError("attention layers without an index")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    tables = fetch(query, key)
    if tables is None:
        return context.attend(layer, query[0], key[0], value[0], scale)[None], None
    if not isinstance(context, PagedContext | ProbeContext):
        raise RuntimeError(f"rotations were put off in a step of {type(context).__name__}")
    return context.attend(layer, query[0], key[0], value[0], scale, tables)[None], None


AttentionInterface.register(NAME, paged_tree_attention)
