"""Indexers: parts of attention layers that choose which earlier tokens a token attends to.

An indexer's own code makes a step's queries, weights and keys, in the form that its kind of model has. It then asks
`transformers`' cache for the keys of all tokens, and computes scores, a mask and a choice from those. Here it is given
a cache that returns `Asked` in their place, which records what all keys are multiplied by; the step's context stores
the new keys and chooses (`kernels.sparse_attention`). What it chose reaches our attention as `indices`, which some
kinds of models hand on to layers without an indexer.

An indexer is known by its code: it calls a cache's `update_indexer`. One that chooses blocks of tokens (Qwen4) does so
text by text in Python; it is computed here from its parts, and returns a mask.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from engine.errors import UnsupportedModelError
from engine.model.attention import NAME, current
from engine.model.chosen import UNSEEN, BlockScores, Chooser, ChosenMask, IndexScores
from engine.model.code import leave_read_weights, names_any, numbered
from engine.model.features import INDEXED, field
from engine.model.rotary import NAME as ROTATE
from engine.model.rotary import undeferred
from kernels.sparse_attention.blocks import Blocks

_UPDATES = frozenset({"update_indexer"})


class Choice(NamedTuple):
    """What `topk` returns, without the values."""

    indices: Tensor  # [1, rows, most] int32


class Asked:
    """Stands for an indexer's keys, then for their products with its queries, then for the scores."""

    def __init__(self) -> None:
        self._factors: list[Tensor] = []  # queries [1, rows, heads, dim], then weights [1, rows, 1, heads]
        self.scale = 1.0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Products from the left, and the ReLU between the two.

        Raises:
            UnsupportedModelError: it is something else.
        """
        asked = next((each for each in args if isinstance(each, cls)), None)
        if asked is not None and func is torch.matmul and args[1] is asked:
            asked._factors.append(args[0])
            return asked
        if asked is not None and func is nn.functional.relu and len(asked._factors) == 1:
            return asked
        raise UnsupportedModelError("indexers of another form", getattr(func, "__name__", str(func)))

    def __mul__(self, scale: Any) -> "Asked":
        if isinstance(scale, Tensor):  # weights [1, rows, heads, 1] of products that are summed up then
            self._factors.append(scale.transpose(-1, -2))
        else:
            self.scale *= scale
        return self

    def sum(self, dim: int) -> "Asked":
        """See `__mul__`."""
        return self

    def __add__(self, mask: Tensor) -> "Asked":
        return self  # the context knows which tokens a row sees

    def masked_fill(self, mask: Tensor, value: Any) -> "Asked":
        """See `__add__`."""
        return self

    def float(self) -> "Asked":
        """Scores are computed in float32 anyway."""
        return self

    def transpose(self, first: int, second: int) -> "Asked":
        """Keys are multiplied as matrices, whatever they look like."""
        return self

    def unsqueeze(self, dim: int) -> "Asked":
        """See `transpose`."""
        return self

    def squeeze(self, dim: int) -> "Asked":
        """See `transpose`."""
        return self

    def factors(self) -> tuple[Tensor, Tensor]:
        """Queries `[rows, heads, dim]` and weights `[rows, heads]`; products with keys have the factor `scale`.

        Raises:
            UnsupportedModelError: the scores are not those of queries and weights.
        """
        if len(self._factors) != 2:
            raise UnsupportedModelError("indexers of another form")
        queries, weights = self._factors
        return queries[0], weights[0, :, 0]


class _AskedKeys(Asked):
    """The keys of all tokens."""

    def __init__(self, context: Chooser, index: int, keys: Tensor) -> None:
        """
        Args:
            context: that chooses.
            index: the indexer's number.
            keys: of the step, `[1, rows, dim]`.
        """
        super().__init__()
        self.shape = (1, keys.shape[1], torch.iinfo(torch.int64).max)  # there may be any number of keys
        self._context = context
        self._index = index
        self._keys = keys

    def topk(self, most: int, dim: int = -1) -> Choice:
        """The choice."""
        scores = IndexScores(*self.factors(), self._keys[0], self.scale)
        return Choice(self._context.choose(self._index, scores, most)[None])


@dataclass(frozen=True)
class _Cache:
    """What an indexer finds in place of `transformers`' cache."""

    context: Chooser
    number: int

    def update_indexer(self, keys: Tensor, layer_idx: int) -> _AskedKeys:
        return _AskedKeys(self.context, self.number, keys)


class Indexer:
    """The forward function of an indexer of tokens."""

    def __init__(self, module: nn.Module, index: int) -> None:
        """`index`: its number among those of a model."""
        self.index = index
        self.module: Any = module
        self._forward: Callable[..., Any] = module.forward
        self._signature = inspect.signature(module.forward)
        leave_read_weights(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context: Chooser | None = current()
        if context is None:
            return self._forward(*args, **kwargs)
        return self.ask(context, self._signature.bind(*args, **kwargs).arguments)

    def ask(self, context: Chooser, given: dict[str, Any]) -> Any:
        """What the forward function returns for these arguments, with the choice of `context`."""
        return self._forward(**given | {"cache": _Cache(context, self.index)})

    @property
    def most(self) -> int:
        """Tokens that it chooses for each token, at most."""
        return int(self.module.index_topk)

    @most.setter
    def most(self, most: int) -> None:
        self.module.index_topk = most


class BlockIndexer(Indexer):
    """The forward function of an indexer of blocks."""

    def __init__(self, module: nn.Module, index: int, rotary: Callable[..., tuple[Tensor, Tensor]]) -> None:
        """`rotary`: the model's tables of cosines and sines, of numbers in some dtype, at positions `[1, n]`."""
        super().__init__(module, index)
        self._rotary = rotary
        self._rotate = undeferred(getattr(sys.modules[type(module).__module__], ROTATE))

    def ask(self, context: Chooser, given: dict[str, Any]) -> ChosenMask:
        """See `Indexer`."""
        own, rows = self.module, given["hidden_states"].shape[1]
        heads, dim = own.index_n_heads, own.index_head_dim
        query, keys = own.index_qk_proj(given["hidden_states"]).split([heads * dim, dim], dim=-1)
        cos, sin = (table[:, -rows:] for table in given["position_embeddings"])
        query = self._rotate(own.q_layernorm(query.view(1, rows, heads, dim)), cos=cos, sin=sin, unsqueeze_dim=2)
        scores = BlockScores(query[0], keys[0], Blocks(own.compress_ratio, self._pool))
        return ChosenMask(context.choose(self.index, scores, self.most)[None])

    def _pool(self, keys: Tensor, firsts: Tensor) -> Tensor:
        """See `Blocks`: the mean, as at the place of the first token."""
        mean = self.module.k_layernorm(keys.float().mean(dim=1).to(keys.dtype))
        cos, sin = self._rotary(mean, firsts[None])
        found: Tensor = self._rotate(mean[None, :, None], cos=cos, sin=sin, unsqueeze_dim=2)
        return found[0, :, 0]

    @property
    def most(self) -> int:
        """Those of the chosen blocks, and one less than another block has."""
        return int((self.module.block_topk + 1) * self.module.compress_ratio - 1)

    @most.setter
    def most(self, most: int) -> None:
        self.module.block_topk = max(1, (most + 1) // self.module.compress_ratio - 1)


def keep_indexers(model: nn.Module) -> list[Indexer]:
    """Let the indexers of `model` ask the step's context; return them in order, none where there are none."""
    rotary = next((part for name, part in model.named_modules() if name.endswith("rotary_emb")), None)

    def made(module: nn.Module, index: int) -> Indexer:
        if rotary is not None and hasattr(module, "block_topk"):
            return BlockIndexer(module, index, rotary)
        return Indexer(module, index)

    return numbered(model, Indexer, is_indexer, made)


def is_indexer(module: nn.Module) -> bool:
    """Whether a module keeps keys of its own in the cache that it is given."""
    kind: Any = type(module)
    if isinstance(module.forward, Indexer):
        return True
    return "cache" in inspect.signature(kind.forward).parameters and names_any(kind, _UPDATES)


class Chooses(Protocol):
    """A part of a model that chooses."""

    most: int  # tokens, at most


@contextmanager
def few_chosen(indexers: Sequence[Chooses], most: int) -> Iterator[None]:
    """Inside, indexers choose at most so many tokens: in a trial on a text that is shorter than what they choose."""
    before = [indexer.most for indexer in indexers]
    for indexer, own in zip(indexers, before, strict=True):
        indexer.most = min(own, most)
    try:
        yield
    finally:
        for indexer, own in zip(indexers, before, strict=True):
            indexer.most = own


def masks_for(config: Any) -> dict[str, Tensor | None] | None:
    """The masks of each kind of layers that a model with indexers takes in place of making its own; `None`: it has no
    indexers, or computes with another attention than ours.
    """
    kinds = set(field(config, "layer_types") or ())
    if INDEXED not in kinds or config._attn_implementation != NAME:
        return None
    return {kind: UNSEEN if kind == INDEXED else None for kind in kinds}
