"""What an indexer chose for a step's rows, between the indexer and attention."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from engine.errors import UnsupportedModelError
from kernels.sparse_attention.blocks import Blocks, choose_blocks
from kernels.sparse_attention.reference import Texts, choose

# What layers with an indexer take for their mask. Nobody looks at it: the context knows which tokens a row sees.
UNSEEN = torch.ones(1, 1, 1, 1, dtype=torch.bool)


class Scores(Protocol):
    """What an indexer makes of a step's rows."""

    @property
    def keys(self) -> Tensor:
        """`[rows, dim]`, which are stored."""
        ...

    def choose(self, keys: Tensor, texts: Collection[Texts], most: int) -> Tensor:
        """`[rows, most]` int32, positions that are chosen for the rows of these texts, with all `keys` `[slots,
        dim]`.
        """
        ...


class IndexScores(NamedTuple):
    """Scores of tokens, see `kernels.sparse_attention.reference.choose`."""

    query: Tensor  # [rows, heads, dim]
    weights: Tensor  # [rows, heads]
    keys: Tensor  # [rows, dim]
    scale: float

    def choose(self, keys: Tensor, texts: Collection[Texts], most: int) -> Tensor:
        """See `Scores`."""
        return _of_rows(
            self.keys, texts, most, lambda each: choose(self.query, self.weights, keys, each, most, self.scale)
        )


class BlockScores(NamedTuple):
    """Scores of blocks of tokens, see `kernels.sparse_attention.blocks.choose_blocks`."""

    query: Tensor  # [rows, heads, dim]
    keys: Tensor  # [rows, dim], of tokens
    blocks: Blocks

    def choose(self, keys: Tensor, texts: Collection[Texts], most: int) -> Tensor:
        """See `Scores`."""
        return _of_rows(self.keys, texts, most, lambda each: choose_blocks(self.query, keys, each, most, self.blocks))


def _of_rows(like: Tensor, texts: Collection[Texts], most: int, choose: Callable[[Texts], Tensor]) -> Tensor:
    """`[rows, most]` int32, where `choose` gives `[texts, new, most]`; nothing of rows without a text."""
    found = torch.zeros(len(like), most if texts else 0, dtype=torch.int32, device=like.device)
    for each in texts:
        found[each.rows] = choose(each).int()
    return found


class Chooser(Protocol):
    """What indexers do during one forward pass."""

    def choose(self, index: int, scores: Scores, most: int) -> Tensor:
        """Which `most` tokens each row sees by the `index`-th indexer of the model, `[rows, most]` int32: positions
        in its text. Nothing is said of texts that have no more tokens.
        """
        ...


class ChosenMask:
    """Stands for the mask of what is chosen, in models that hand it on as one; then for that within the layer's."""

    def __init__(self, indices: Tensor, mask: Tensor | None = None) -> None:
        """
        Args:
            indices: `[1, rows, most]` int32.
            mask: of the layer.
        """
        self.indices = indices
        self.mask = mask

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The layer's mask `&` this one.

        Raises:
            UnsupportedModelError: it is something else.
        """
        if func in (Tensor.__and__, Tensor.__rand__) and isinstance(args[1], cls):
            return cls(args[1].indices, args[0])
        raise UnsupportedModelError("indexers of another form", getattr(func, "__name__", str(func)))


def unpacked(mask: Any, arguments: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
    """The layer's mask, and what is chosen for it, `[1, rows, most]` int32, `None` where nothing is: models hand it to
    attention as a mask, or as `indices` among its arguments.
    """
    if isinstance(mask, ChosenMask):
        return mask.mask, mask.indices
    return mask, arguments.get("indices")
