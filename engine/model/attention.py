"""The attention that `transformers` calls: it stores the step's keys and values, then attends over the tree.

`AttentionInterface` hands every layer's queries, keys and values to `paged_tree_attention`, after RoPE or with RoPE
deferred (`engine.model.rotary`). The step is not among its arguments, so `attending` sets it around the forward pass.

Where tokens see only some that an indexer chose (`engine.model.indexers`), these are among its arguments. Layers with
latent attention (`engine.model.latents`) attend over latents, with one key head.
"""

import functools
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface

from engine.errors import UnsupportedModelError
from engine.model.backends import Backend, Score, SparseWork, Work
from engine.model.chosen import UNSEEN, Chooser, ChosenMask, Scores, unpacked
from engine.model.entries import Behind, Closed, StepEntries
from engine.model.entries import Rows as TextRows
from engine.model.fused_ops import Ops
from engine.model.latents import latents_of
from engine.model.rotary import Tables, fetch
from kernels.attention.reference import attend
from kernels.kv_store.reference import UNSCALED, Scales
from kernels.rope_store.reference import rotate
from kernels.sparse_attention.reference import Texts, attend_chosen
from kernels.tree_attention.reach import FULL, Reach

NAME = "troop_tree"  # absent from the mask registry on purpose: transformers then builds no mask

# Arguments of attention functions that ours does not implement. `None` and `False` mean that the model does not use it.
UNSUPPORTED = {
    "logits_soft_cap": "soft-capped attention scores of another form",
    "head_mask": "head masks",
    "position_bias": "position biases",
    "alibi": "ALiBi biases",
    "cache_params": "recurrent state",
}


class LayerCall(NamedTuple):
    """One layer's call of attention in a forward pass."""

    layer: int  # counted in the order of the calls
    query: Tensor  # [heads, tokens, head_dim]
    key: Tensor  # [kv_heads, tokens, head_dim]
    value: Tensor  # [kv_heads, tokens, head_dim]
    score: Score
    tables: Tables | None = None  # by which queries and keys are yet to be rotated; `None`: they are
    chosen: Tensor | None = None  # [tokens, most] int32, as `Chooser.choose` returned it
    behind: Behind | None = None  # entries of several tokens that rows see, too


class Context(Protocol):
    """What attention does during one forward pass."""

    def attend(self, call: LayerCall) -> Tensor:
        """`[tokens, heads, head_dim]`, the layer's output. Stores keys and values where there is a cache.

        Raises:
            RuntimeError: rotations were put off, and this context rotates nothing.
        """
        ...


@dataclass(frozen=True)
class PagedContext:
    """One step over the paged cache."""

    cache: Sequence[Tensor]  # of each layer, [2, kv_heads, slots, head_dim], or [1, ...] where a key is its value, too
    slots: Sequence[Tensor]  # of each layer, [tokens] int64, where each row's key and value go
    works: Sequence[Work | SparseWork]  # of each reach that the model has
    reaches: Sequence[int]  # of each layer, its place in `works`
    backend: Backend
    ops: Ops
    scales: Sequence[Scales] = ()  # of each layer, of a cache of 8-bit numbers
    index: Tensor = field(default_factory=lambda: torch.empty(0))  # [indexers, 1, 1, slots, dim], their keys
    index_slots: Tensor = field(default_factory=lambda: torch.empty(0))  # [tokens] int64, where those of each row go
    entries: StepEntries | None = None  # of a model with compressors

    def choose(self, index: int, scores: Scores, most: int) -> Tensor:
        """See `Chooser`. Stores the keys of all rows."""
        keys = self.index[index, 0, 0]
        keys.index_copy_(0, self.index_slots, scores.keys.to(keys.dtype))
        sparse = (work for work in self.works if isinstance(work, SparseWork) and work.most == most)
        return scores.choose(keys, next((work.texts for work in sparse), ()), most)

    def entries_of(self, hidden: Tensor) -> StepEntries | None:
        """Those of the step's compressors."""
        return self.entries

    def attend(self, call: LayerCall) -> Tensor:
        """See `Context`."""
        if self.scales:
            return self._attend_scaled(call)
        layer, query, key, value = call[:4]
        if call.tables is None:
            self._store(call, UNSCALED)
        else:
            caches = self.cache[layer][0], self.cache[layer][-1]
            query = self.ops.rope_store(query, key, value, call.tables, *caches, self.slots[layer])
        return self._attend(call, query.transpose(0, 1), call.score)

    def _store(self, call: LayerCall, scales: Scales) -> None:
        """Bring the rows' keys and values to the cache."""
        cache, slots = self.cache[call.layer], self.slots[call.layer]
        if len(cache) > 1:
            self.ops.store(call.key, call.value, cache[0], cache[1], slots, scales)
        else:
            self.ops.store(call.key, None, cache[0], None, slots, scales)

    def _attend(self, call: LayerCall, query: Tensor, score: Score, scale: float = 1.0) -> Tensor:
        """`[rows, heads, value]` of queries `[rows, heads, head_dim]`, over what is in the cache: values are a `scale`
        larger than there.
        """
        layer, chosen = call.layer, call.chosen
        keys, values, work = self.cache[layer][0], self.cache[layer][-1], self.works[self.reaches[layer]]
        if call.behind is not None:
            assert not isinstance(work, SparseWork)
            output, lse = self.backend.attend_all(query, keys, values, work, score)
            call.behind.join(query, output if scale == 1 else output.mul_(scale), lse, call.score)
            return output
        if not isinstance(work, SparseWork):
            output = self.backend.attend(query, keys, values, work, score)
            return output if scale == 1 else output.mul_(scale)
        assert chosen is not None
        width = self.backend.heads.value
        output = query.new_empty((*query.shape[:2], width))
        if work.plain is not None:
            output[work.rows] = self.backend.attend(query[work.rows], keys, values, work.plain, score)
        for texts in work.texts:
            found, _ = attend_chosen(query, keys, values, texts, chosen[texts.rows].long(), score)
            output[texts.rows] = found[..., :width]
        return output if scale == 1 else output.mul_(scale)

    def _attend_scaled(self, call: LayerCall) -> Tensor:
        """The same in a cache of scaled numbers. Scores and output are linear in keys and values, so that they are
        scaled back instead.
        """
        scales = self.scales[call.layer]
        self._store(call, scales)
        return self._attend(call, call.query.transpose(0, 1), call.score.of_scaled(scales), scales.value)


class ProbeContext:
    """Attention over short texts, each within itself; records with which shapes every layer attends."""

    def __init__(self, reaches: Sequence[Reach] = (), lengths: Sequence[int] = ()) -> None:
        """
        Args:
            reaches: of each layer; of those beyond, everything.
            lengths: tokens of each text of the pass; a single one where empty.
        """
        self.reaches = reaches
        self.lengths = lengths
        self.indices: set[Any] = set()  # `layer_idx` of the modules that attended
        self.shapes: list[tuple[int, int, int]] = []  # of each layer: heads, kv_heads, head_dim
        self.largest: list[tuple[Tensor, Tensor]] = []  # of each layer: key and value, without their signs
        self.index_keys: dict[int, tuple[int, torch.dtype]] = {}  # of each indexer: numbers a key, their dtype
        self.entries: StepEntries | None = None  # of a model with compressors

    def choose(self, index: int, scores: Scores, most: int) -> Tensor:
        """See `Chooser`."""
        self.index_keys[index] = scores.keys.shape[1], scores.keys.dtype
        return scores.choose(scores.keys.contiguous(), self._longer(len(scores.keys), most, scores.keys.device), most)

    def _longer(self, tokens: int, most: int, device: torch.device) -> list[Texts]:
        """The texts of a pass with more than `most` tokens: their rows are their places in a cache."""
        rows = torch.split(torch.arange(tokens, device=device), list(self.lengths or [tokens]))
        return [Texts(own[None], (own - own[0])[None], own[None], 1) for own in rows if len(own) > most]

    def entries_of(self, hidden: Tensor) -> StepEntries:
        """Those of the pass's compressors, whose rows are their places in a cache."""
        if self.entries is None:
            count, device = hidden.shape[1], hidden.device
            lengths = self.lengths or [count]
            tables = np.split(np.arange(count), np.cumsum(lengths)[:-1])
            texts = [TextRows(int(own[0]), len(own), len(own), own, own) for own in tables]
            closed = functools.cache(lambda rate: Closed.of(rate, texts, 1, device))
            self.entries = StepEntries(torch.arange(count, device=device), closed)
        return self.entries

    def attend(self, call: LayerCall) -> Tensor:
        """See `Context`."""
        layer, query, key, value, score, tables, chosen, behind = call
        if tables is not None:
            query, key = rotate(query, tables.cos, tables.sin), rotate(key, tables.cos, tables.sin)
        self.shapes.append((query.shape[0], key.shape[0], query.shape[2]))
        self.largest.append((key.abs().amax(), value.abs().amax()))
        output, lse = self._attend_all(layer, query, key, value, score)
        if chosen is not None:
            for texts in self._longer(query.shape[1], chosen.shape[1], query.device) if chosen.shape[1] else ():
                own = chosen[texts.rows].long()
                output[texts.rows], _ = attend_chosen(query.transpose(0, 1), key, value, texts, own, score)
        if behind is not None:
            behind.join(query.transpose(0, 1), output, lse, score)
        return output

    def _attend_all(self, layer: int, query: Tensor, key: Tensor, value: Tensor, score: Score) -> tuple[Tensor, Tensor]:
        heads, tokens, head_dim = query.shape
        grouped = query.reshape(len(key), heads // len(key), tokens, head_dim)
        shape = grouped.shape  # keys and values of a group are shared, not copied
        bias = self._bias(layer, tokens, query.device)
        key, value = key[:, None].expand(shape), value[:, None].expand(shape)
        output, lse = attend(grouped, key, value, score.scale, causal=bias is None, bias=bias, cap=score.cap)
        if score.sinks is not None:
            sinks = score.sinks.float().view(len(key), -1, 1)
            output = (output.float() * torch.sigmoid(lse - sinks)[..., None]).to(query.dtype)
            lse = torch.logaddexp(lse, sinks.expand_as(lse))
        output = output.reshape(heads, tokens, head_dim).transpose(0, 1)
        return output, lse.reshape(heads, tokens).transpose(0, 1)

    def _bias(self, layer: int, tokens: int, device: torch.device) -> Tensor | None:
        """`[1, 1, tokens, tokens]`: 0 and -inf; `None` where it is plainly causal."""
        reach = self.reaches[layer] if layer < len(self.reaches) else FULL
        positions = [at for length in self.lengths or [tokens] for at in range(length)]
        floors = reach.floors(positions)
        if floors is None and len(self.lengths) < 2:
            return None
        rows = torch.arange(tokens, device=device)
        lowest = rows - torch.tensor(positions, device=device)  # the text's first row
        if floors is not None:
            lowest = lowest + torch.from_numpy(floors).to(device)
        hidden = (rows[None] > rows[:, None]) | (rows[None] < lowest[:, None])
        return torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)[None, None]


_current = threading.local()  # several engines may live in one process, each in its own thread


def current() -> Any:
    """The context of this thread's pass, a `Context` or a `Chooser` or both; `None` outside of one."""
    return getattr(_current, "context", None)


def see_behind(behind: Behind | None) -> None:
    """Let the rows of this thread's next layer attend to entries of several tokens, too."""
    _current.behind = behind


class Room(NamedTuple):
    """The shape of the heads that the cache has room for: the largest of any layer."""

    heads: int
    kv_heads: int
    head_dim: int
    shared: int = 0  # numbers of a key, the first, that are its value, too; 0: values are apart

    @classmethod
    def over(cls, shapes: Collection[tuple[int, int, int]], shared: int = 0) -> "Room":
        """Room for layers of these shapes; `shared` as of `Room`.

        Raises:
            UnsupportedModelError: one can't be computed as another.
        """
        heads, kv_heads, dims = (max(column) for column in zip(*shapes, strict=True))
        if kv_heads == 1:  # others may be added to the only group
            return cls(heads, 1, dims, shared)
        group = min(heads // kv_heads for heads, kv_heads, _ in shapes)
        if any(shape[0] % shape[1] or shape[0] // shape[1] % group for shape in shapes):
            raise UnsupportedModelError("layers with different numbers of heads", str(sorted(set(shapes))))
        return cls(heads, heads // group, dims, shared)


@contextmanager
def attending(context: Context | Chooser | None, room: Room | None = None) -> Iterator[None]:
    """Inside, this thread's attention goes through `context`, for one forward pass.

    Args:
        context: what attends; `None`: attention is not ours.
        room: what queries, keys and values of a layer with fewer or smaller heads are widened to.
    """
    _current.context, _current.room, _current.layer, _current.behind = context, room, 0, None
    try:
        yield
    finally:
        _current.context = None


def paged_tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | ChosenMask | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered as `troop_tree`: `[1, heads, tokens, head_dim]` in, `[1, tokens, heads, head_dim]` out.

    Which tokens a layer sees is not taken from the arguments: the gate has found it (`engine.model.gate`). Layers are
    counted in the order of their calls, so that one may attend twice.

    Raises:
        UnsupportedModelError: the model needs something that this attention does not implement.
    """
    context: Context | None = current()
    if context is None:
        raise RuntimeError(f"{NAME} attention was called outside of an engine's step")
    mask, chosen = unpacked(attention_mask, kwargs)
    masked = mask is not None and mask is not UNSEEN
    if masked or kwargs.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise UnsupportedModelError("attention that is not causal")
    for name, feature in UNSUPPORTED.items():
        if kwargs.get(name) is not None and kwargs[name] is not False:
            raise UnsupportedModelError(feature)
    if key.shape[2] != query.shape[2]:
        raise UnsupportedModelError("attention to tokens of another text")
    latents = latents_of(module)
    if latents is not None:
        query = latents.absorb(query)
    layer, behind = _current.layer, _current.behind
    _current.layer, _current.behind = layer + 1, None
    sinks = kwargs.get("s_aux")
    score = Score(query.shape[-1] ** -0.5 if scaling is None else scaling, kwargs.get("softcap"), sinks)
    tables = fetch(query, key)
    width = value.shape[-1]
    heads = query.shape[1]
    query, key, value = _widened(query, key, value, _current.room)
    if sinks is not None and len(sinks) < query.shape[1]:
        score = score._replace(sinks=pad(sinks, (0, query.shape[1] - len(sinks))))
    output = context.attend(
        LayerCall(layer, query[0], key[0], value[0], score, tables, None if chosen is None else chosen[0], behind)
    )
    if isinstance(context, ProbeContext):
        context.indices.add(getattr(module, "layer_idx", None))
    output = output[None, :, :heads, :width]
    if latents is not None:
        output = latents.values(output)
    return output.contiguous(), None  # models view it in other shapes


def _widened(query: Tensor, key: Tensor, value: Tensor, room: Room | None) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros behind what is narrower than the cache, which change no product; keys and values repeated for parts of
    their group where its groups are smaller; and heads of zeros where it has more.
    """
    width = max(key.shape[-1], value.shape[-1], room.head_dim if room else 0)
    if key.shape[-1] < width:
        query, key = pad(query, (0, width - query.shape[-1])), pad(key, (0, width - key.shape[-1]))
    if value.shape[-1] < width:
        value = pad(value, (0, width - value.shape[-1]))
    if room is not None and query.shape[1] * room.kv_heads > key.shape[1] * room.heads:
        times = query.shape[1] * room.kv_heads // (key.shape[1] * room.heads)
        key, value = key.repeat_interleave(times, dim=1), value.repeat_interleave(times, dim=1)
    if room is not None and query.shape[1] < room.heads:
        query = pad(query, (0, 0, 0, 0, 0, room.heads - query.shape[1]))
        key, value = (pad(x, (0, 0, 0, 0, 0, room.kv_heads - x.shape[1])) for x in (key, value))
    return query, key, value


AttentionInterface.register(NAME, paged_tree_attention)
