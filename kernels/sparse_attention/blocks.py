"""Choosing blocks of tokens by an index, in torch, any device (as Qwen4's, `Qwen4ExpTextQSAIndexer` in transformers).

Each block of neighbouring tokens has one small key, made of its tokens' keys. Its score for a query is the sum over
heads of `relu(query . key) / sqrt(dim)`. A row sees the tokens of the blocks with the highest scores, of those that end
at its own token or before, and the tokens behind the last of these blocks.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.sparse_attention.reference import NUMBERS, Texts, highest


class Blocks(NamedTuple):
    """How tokens make blocks."""

    size: int  # tokens
    # Keys `[blocks, dim]` from the keys of their tokens, `[blocks, size, dim]`, and their first positions, `[blocks]`.
    pool: Callable[[Tensor, Tensor], Tensor]


def choose_blocks(query: Tensor, keys: Tensor, texts: Texts, most: int, blocks: Blocks) -> Tensor:
    """The tokens of the blocks with the highest scores, of equal ones the earlier; and those behind the last block.

    Args:
        query: `[rows, heads, dim]`, of the whole batch.
        keys: `[slots, dim]`, of tokens, those of the batch stored.
        texts: each with more than `most` tokens.
        most: tokens that a row sees at most: those of some blocks, and one less than another has.
        blocks: of tokens.

    Returns:
        Positions `[texts, new, most]` int64. `texts.length`, where no token is, fills up where a row has fewer.
    """
    count, number = texts.length // blocks.size, most // blocks.size
    found = torch.empty((*texts.rows.shape, most), dtype=torch.int64, device=query.device)
    step = max(1, NUMBERS // (texts.length * keys.shape[-1]))
    for first in range(0, len(texts.rows), step):
        some = slice(first, first + step)
        part = Texts(texts.rows[some], texts.positions[some], texts.blocks[some], texts.block_size)
        pooled = _pooled(keys, part, blocks)
        for tile in part.tiles(NUMBERS // (count * query.shape[1])):
            scores = _scores(query[part.rows[tile]].float(), pooled[tile[0]])
            complete = (part.positions[tile] + 1) // blocks.size
            chosen = highest(scores, complete - 1, number)
            found[some][tile] = _tokens(chosen, complete, part.positions[tile], blocks.size, texts.length)
    return found


def _pooled(keys: Tensor, texts: Texts, blocks: Blocks) -> Tensor:
    """`[texts, blocks, dim]` float32, of all whole blocks that there is room for."""
    count = texts.length // blocks.size
    at = torch.arange(count * blocks.size, device=keys.device)
    slots = texts.blocks[:, at // texts.block_size] * texts.block_size + at % texts.block_size
    read = keys.index_select(0, slots.flatten()).view(-1, blocks.size, keys.shape[-1])
    firsts = at[:: blocks.size].repeat(len(texts.rows))
    return blocks.pool(read, firsts).float().view(len(texts.rows), count, -1)


def _scores(query: Tensor, pooled: Tensor) -> Tensor:
    """`[texts, new, blocks]` of `query` `[texts, new, heads, dim]`."""
    products = torch.matmul(query.flatten(1, 2), pooled.transpose(1, 2)).relu_()
    return products.view(*query.shape[:3], -1).sum(2).mul_(query.shape[-1] ** -0.5)


def _tokens(chosen: Tensor, complete: Tensor, own: Tensor, size: int, nowhere: int) -> Tensor:
    """Positions `[texts, new, most]`.

    Args:
        chosen: blocks, `[texts, new, number]`; of a row with fewer, later ones fill up.
        complete: how many blocks each row sees, `[texts, new]`.
        own: each row's position.
        size: tokens of a block.
        nowhere: a position that no text has.
    """
    at = torch.arange(size, device=chosen.device)
    of_blocks = (chosen[..., None] * size + at).masked_fill_((chosen >= complete[..., None])[..., None], nowhere)
    behind = complete[..., None] * size + at[:-1]
    return torch.cat([of_blocks.flatten(-2), behind.masked_fill_(behind > own[..., None], nowhere)], dim=-1)
