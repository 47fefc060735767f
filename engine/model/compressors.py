"""Compressors: parts of attention layers that make one entry of several tokens, which later tokens see behind their
window (DeepSeek V4).

A compressor's own code makes two vectors of each token, gives them to `transformers`' cache, and gets those of whole
windows back: it makes an entry of each, gives it to the cache, too, and gets all entries back. An indexer within it
does the same with smaller ones, and chooses. Here they are given a cache that hands out the windows that a step's texts
close (`engine.model.entries`), and returns no entries: what rows see of them is left to our attention, as a part of the
layer's softmax. For what is chosen, see `engine.model.indexers`.

A compressor is known by its code: it calls a cache's `store_compression_weights`.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UnsupportedModelError
from engine.model.attention import ProbeContext, current, see_behind
from engine.model.code import leave_read_weights, names_any, numbered
from engine.model.entries import Entries, PartShape, Rate
from engine.model.indexers import Asked, Choice
from kernels.tree_attention.reach import FULL, Reach

_UPDATES, _OVERLAPS = frozenset({"store_compression_weights"}), frozenset({"update_overlap_state"})
INDEXER, MAIN = "indexer", "compressor"  # how the code names a compressor's parts


class _Asked(Asked):
    """Stands for all entries of an indexer: there are none, as far as its code can see."""

    def __init__(self, cache: "_Cache", dim: int) -> None:
        super().__init__()
        self.shape = (1, 0, dim)
        self._cache = cache

    def topk(self, most: int, dim: int = -1) -> Choice:
        """The choice, which the cache is told; there is nothing to be seen of it here."""
        query, weights = self.factors()
        self._cache.choose(query, weights, self.scale)
        return Choice(torch.zeros(1, len(query), 0, dtype=torch.int64, device=query.device))


class _Cache:
    """What a compressor finds in place of `transformers`' cache, for one call."""

    def __init__(self, entries: Entries, compressor: "Compressor") -> None:
        self.chosen: tuple[Tensor, ...] | None = None
        self._entries = entries
        self._compressor = compressor

    @property
    def layers(self) -> "_Cache":
        """Itself, whichever layer is asked for."""
        return self

    def __getitem__(self, layer: int) -> "_Cache":
        return self

    def store_compression_weights(self, name: str, kv: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Keep what new tokens leave; return that of windows which are made to entries now."""
        return self._entries.close((self._compressor.index, name), self._compressor.rate, (kv, gate))

    def update_overlap_state(self, name: str, kv: Tensor, gate: Tensor, head_dim: int) -> tuple[None, None]:
        """Nothing is before the first window: each entry's windows are all there."""
        return None, None

    def update_compressor_states(self, name: str, compressed: Tensor) -> Any:
        """Keep new entries; return none, or what stands for them."""
        self._entries.keep((self._compressor.index, name), compressed)
        return compressed[:, :0] if name == MAIN else _Asked(self, compressed.shape[-1])

    def choose(self, query: Tensor, weights: Tensor, scale: float) -> None:
        """Let rows see those with the highest scores."""
        key, most = (self._compressor.index, INDEXER), self._compressor.indexer.index_topk
        self.chosen = self._entries.choose(key, query, weights, scale, most)


class Compressor:
    """The forward function of a compressor."""

    def __init__(self, module: nn.Module, index: int) -> None:
        """`index`: its number among those of a model."""
        self.index = index
        kind: Any = type(module)
        size = int(module.compress_rate)  # type: ignore[arg-type]
        self.indexer: Any = getattr(module, INDEXER, None)
        self.rate = Rate(size, 2 * size if names_any(kind, _OVERLAPS) else size)
        self._forward = module.forward
        self._signature = inspect.signature(module.forward)
        leave_read_weights(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context = current()
        if context is None:
            return self._forward(*args, **kwargs)
        given = self._signature.bind(*args, **kwargs).arguments
        entries: Entries = context.entries_of(given["hidden_states"])
        cache = _Cache(entries, self)
        found = self._forward(**given | {"cache": cache})
        see_behind(entries.behind((self.index, MAIN), cache.chosen))
        return found

    @property
    def most(self) -> int:
        """Tokens whose entries it chooses for each token, at most; 0: all."""
        return int(self.indexer.index_topk) * self.rate.size if self.indexer is not None else 0

    @most.setter
    def most(self, most: int) -> None:
        if self.indexer is not None:
            self.indexer.index_topk = max(1, most // self.rate.size)


def keep_compressors(model: nn.Module) -> list[Compressor]:
    """Let the compressors of `model` ask the step's context; return them in order, none where there are none."""
    return numbered(model, Compressor, _is_compressor, Compressor)


def parts_of(probe: ProbeContext, reaches: Sequence[Reach]) -> tuple[PartShape, ...]:
    """What compressors keep of tokens and of entries, after a trial run.

    Args:
        probe: of that run.
        reaches: of each layer.

    Raises:
        UnsupportedModelError: tokens are seen for less long than entries are made of them.
    """
    parts = probe.entries.shapes() if probe.entries is not None else ()
    read = max((part.rate.read for part in parts), default=0)
    seen = set(reaches)
    if parts and (len(seen) > 1 or any(reach != FULL and reach.window < read for reach in seen)):
        raise UnsupportedModelError("entries of more tokens than a window has", f"they are made of {read} tokens")
    return parts


def _is_compressor(module: nn.Module) -> bool:
    kind: Any = type(module)
    if isinstance(module.forward, Compressor):
        return True
    return "cache" in inspect.signature(kind.forward).parameters and names_any(kind, _UPDATES)
