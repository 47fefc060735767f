"""Sparse attention by an index in torch, any device (DeepSeek Sparse Attention, arXiv 2512.02556).

An indexer has a few small heads, and one small key a token that they share. A token's score for a query is
`sum over heads of weight * relu(scale * query . key)`. `choose` finds, of the tokens up to the query's own, those with
the highest scores; `attend_chosen` attends to them alone. Both work in tiles, so that neither the products of all heads
nor copies of keys and values are ever stored for a whole step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.reference import attend
from kernels.kv_store.reference import select

NUMBERS = 1 << 24  # that a tile's largest tensor holds: 64 MiB in float32

Score = tuple[float, float | None, Tensor | None]  # scale, cap and sinks, as of `kernels.tree_attention.reference`


@dataclass(frozen=True)
class Texts:
    """Some texts of a batch with equally many rows each; the keys of all their tokens are in a paged cache."""

    rows: Tensor  # [texts, new] int64, of the batch
    positions: Tensor  # [texts, new] int64, of those rows in their text
    blocks: Tensor  # [texts, width] int64, of the cache; any block behind the last of a shorter text
    block_size: int  # tokens

    @property
    def length(self) -> int:
        """Tokens for which the block lists have room: at least those of the longest text."""
        return self.blocks.shape[1] * self.block_size

    def tiles(self, most: int) -> Iterator[tuple[slice, slice]]:
        """All rows in parts of at most `most`, as `[texts, new]` slices."""
        texts, new = self.rows.shape
        each = min(new, max(1, most))
        step = max(1, most // each)
        for first in range(0, texts, step):
            for row in range(0, new, each):
                yield slice(first, first + step), slice(row, row + each)


def choose(query: Tensor, weights: Tensor, keys: Tensor, texts: Texts, most: int, scale: float = 1.0) -> Tensor:
    """The tokens with the highest scores. Of equal ones the earlier, as `torch.topk` has it on a GPU: what is chosen
    then depends on nothing but the text.

    Args:
        query: `[rows, heads, dim]`, of the whole batch.
        weights: `[rows, heads]`.
        keys: `[slots, dim]`, the cache of the indexer's keys, those of the batch stored.
        texts: each with more than `most` tokens.
        most: tokens that are chosen.
        scale: factor of the products, not negative.

    Returns:
        Positions `[texts, new, most]` int64, rising. Those behind a row's own fill up where it has fewer tokens.
    """
    found = torch.empty((*texts.rows.shape, most), dtype=torch.int64, device=query.device)
    for tile in texts.tiles(NUMBERS // texts.length):
        rows = texts.rows[tile]
        scores = _scores(query[rows].float(), weights[rows].float(), keys, (texts, tile), scale)
        found[tile] = highest(scores, texts.positions[tile], most)
    return found


def _scores(
    query: Tensor, weights: Tensor, keys: Tensor, part: tuple[Texts, tuple[slice, slice]], scale: float
) -> Tensor:
    """`[texts, new, length]` of a tile's `query` `[texts, new, heads, dim]` and `weights` `[texts, new, heads]`."""
    texts, (some, _) = part
    count, new, heads, dim = query.shape
    blocks = texts.blocks[some]
    step = max(1, NUMBERS // (count * new * heads * texts.block_size))  # blocks
    by_block = keys[: len(keys) // texts.block_size * texts.block_size].view(-1, texts.block_size * dim)
    pieces = []
    for first in range(0, blocks.shape[1], step):
        listed = blocks[:, first : first + step]
        read = by_block.index_select(0, listed.reshape(-1)).view(count, -1, dim).float()
        products = torch.matmul(query.view(count, -1, dim), read.transpose(1, 2)).mul_(scale).relu_()
        products = products.view(count, new, heads, -1)
        pieces.append(torch.matmul(weights[:, :, None], products)[:, :, 0])
    return torch.cat(pieces, dim=-1)


def highest(scores: Tensor, positions: Tensor, most: int) -> Tensor:
    """As `choose`, from `[texts, new, length]` scores, which are overwritten, of rows at `positions` `[texts, new]`."""
    length = scores.shape[-1]
    at = torch.arange(length, device=scores.device, dtype=torch.int32)
    scores.masked_fill_(at > positions[..., None], -torch.inf)
    least = scores.topk(most, sorted=False).values.amin(-1, keepdim=True)
    above, equal = scores > least, scores == least
    spare = most - above.sum(-1, keepdim=True, dtype=torch.int32)
    kept = above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= spare))
    order = torch.where(kept, length - at, 0).topk(most).values
    return (length - order).clamp(max=length - 1).long()  # scores that are not finite must lead nowhere else


def attend_chosen(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, texts: Texts, chosen: Tensor, score: Score
) -> tuple[Tensor, Tensor]:
    """Attention of some texts' rows, each to the tokens chosen for it.

    Where a text has so many rows that they could read all of its keys once instead of `most` each, they do, and those
    not chosen are masked.

    Args:
        query: `[rows, heads, head_dim]`, of the whole batch.
        key_cache, value_cache: `[kv_heads, slots, head_dim]`, see `kernels.tree_attention.reference`.
        texts: whose rows attend.
        chosen: `[texts, new, most]` int64, as `choose` returns it; a row does not see those behind its own, and
            `texts.length` is no token.
        score: scale, cap and sinks.

    Returns:
        Output `[texts, new, heads, head_dim]` in the dtype of `query`, and log-sum-exp `[texts, new, heads]` float32,
        sinks counted. Both are undefined of a row that sees no key.
    """
    kv_heads, _, dim = key_cache.shape
    heads, most, new = query.shape[1], chosen.shape[-1], texts.rows.shape[1]
    whole = new * most >= texts.length
    keys, group = (texts.length if whole else most), heads // kv_heads
    out = query.new_empty((*texts.rows.shape, heads, dim))
    levels = torch.empty(out.shape[:-1], device=query.device)
    for tile in texts.tiles(NUMBERS // (keys * (group if whole else group + dim))):
        slots, bias = _all_keys(texts, chosen, tile) if whole else _chosen_keys(texts, chosen, tile)
        # A unit is what reads the same keys: a text, or a row.
        units, queries = len(slots), bias.shape[1] * group
        bias = bias.repeat_interleave(group, dim=1) if bias.shape[1] > 1 else bias
        rows = texts.rows[tile]
        asked = query[rows].view(units, -1, kv_heads, group, dim).permute(2, 0, 1, 3, 4)
        step = max(1, NUMBERS // (units * keys * (dim + queries)))
        for first in range(0, kv_heads, step):
            some = slice(first, first + step)
            read = [select(cache[some], 1, slots.view(-1)) for cache in (key_cache, value_cache)]
            key, value = (x.view(len(x), units, keys, dim).to(query.dtype) for x in read)
            flat = asked[some].reshape(len(key), units, queries, dim)
            found, lse = _attend(flat, key, value, bias, (score[0], score[1], _of(score[2], some, group)))
            found = found.view(len(key), *rows.shape, group, dim).permute(1, 2, 0, 3, 4)
            lse = lse.reshape(len(key), *rows.shape, group).permute(1, 2, 0, 3)
            out[tile][:, :, first * group : (first + len(key)) * group] = found.flatten(2, 3)
            levels[tile][:, :, first * group : (first + len(key)) * group] = lse.flatten(2)
    return out, levels


def _of(sinks: Tensor | None, some: slice, group: int) -> Tensor | None:
    """Those of some key heads, `[key heads, 1, 1, group]`."""
    return None if sinks is None else sinks.float().view(-1, 1, 1, group)[some]


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """`[kv_heads, units, queries, head_dim]`, where the heads of a group are neighbours among the queries; and their
    log-sum-exp.
    """
    scale, cap, sinks = score
    output, lse = attend(query, key, value, scale, bias=bias[None], cap=cap)
    if sinks is not None:
        levels = lse.reshape(*lse.shape[:2], -1, sinks.shape[-1])
        output = (output.float() * torch.sigmoid(levels - sinks).view(*lse.shape, 1)).to(query.dtype)
        lse = torch.logaddexp(levels, sinks.expand_as(levels)).view(lse.shape)
    return output, lse


def _all_keys(texts: Texts, chosen: Tensor, tile: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Slots `[texts, length]` and bias `[texts, new, length]` of 0 and -inf: every text reads all of its keys."""
    at = torch.arange(texts.length, device=chosen.device)
    slots = texts.blocks[tile[0], at // texts.block_size] * texts.block_size + at % texts.block_size
    own = texts.positions[tile]
    bias = torch.full((*own.shape, texts.length + 1), -torch.inf, device=chosen.device)
    bias = bias.scatter_(-1, chosen[tile], 0.0)[..., :-1]
    return slots, bias.masked_fill(at > own[..., None], -torch.inf)


def _chosen_keys(texts: Texts, chosen: Tensor, tile: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Slots `[rows, most]` and bias `[rows, 1, most]` of 0 and -inf: every row reads the keys chosen for it."""
    picked = chosen[tile].clamp(max=texts.length - 1)
    blocks = texts.blocks[tile[0]].gather(1, (picked // texts.block_size).flatten(1)).view(picked.shape)
    slots = blocks * texts.block_size + picked % texts.block_size
    bias = torch.zeros(picked.shape, device=chosen.device)
    bias.masked_fill_(chosen[tile] > texts.positions[tile][..., None], -torch.inf)
    return slots.flatten(0, 1), bias.flatten(0, 1)[:, None]
