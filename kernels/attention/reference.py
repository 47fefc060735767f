"""Attention over one dense range of keys, with the log-sum-exp that lets two results over different keys be merged.

`plain` is the definition, written for reading. `attend` returns the same numbers fast: on CPU it runs torch's fused
kernel, which reports its log-sum-exp, so that no `[queries, keys]` matrix is ever stored.
"""

import math

import torch
from torch import Tensor


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    diagonal: int | None = None,
    cap: float | None = None,
    floors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax attention as in textbooks, in float32; grouped heads by repetition.

    Args:
        query: `[queries, heads, head_dim]`.
        key, value: `[keys, kv_heads, head_dim]`; `heads` is a multiple of `kv_heads`, and the query heads of one
            group are neighbours.
        scale: factor of the scores, commonly `head_dim ** -0.5`.
        diagonal: with a number, query `j` sees key `i` only where `i <= j + diagonal`; `None`: every query sees every
            key.
        cap: scores become `cap * tanh(score / cap)`, before any are masked.
        floors: `[queries]` integers; query `j` sees key `i` only where `i >= floors[j]`.

    Returns:
        Output `[queries, heads, head_dim]` and log-sum-exp of the scores (natural logarithm) `[queries, heads]`, both
        float32. A query that sees no key has output 0 and log-sum-exp `-inf`.
    """
    group = query.shape[1] // key.shape[1]
    keys = key.float().repeat_interleave(group, dim=1)
    values = value.float().repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", query.float(), keys) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    rows = torch.arange(query.shape[0], device=query.device)[:, None]
    columns = torch.arange(key.shape[0], device=query.device)[None, :]
    if diagonal is not None:
        scores = scores.masked_fill(columns > rows + diagonal, -math.inf)
    if floors is not None:
        scores = scores.masked_fill(columns < floors[:, None], -math.inf)
    lse = torch.logsumexp(scores, dim=-1)  # [heads, queries]
    weights = torch.exp(scores - torch.where(lse.isinf(), 0.0, lse)[..., None])
    return torch.einsum("hqk,khd->qhd", weights, values), lse.transpose(0, 1)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    causal: bool = False,
    bias: Tensor | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention over dense keys, batched over two leading dimensions; no grouping of heads (fold it into `batch`).

    Args:
        query: `[batch, heads, queries, head_dim]`, last dimension contiguous.
        key, value: `[batch, heads, keys, head_dim]`, any strides but a contiguous last dimension; a stride of 0 shares
            keys between heads without a copy. `keys >= 1`.
        scale: factor of the scores.
        causal: query `j` sees keys `0..j` only; not together with `bias`.
        bias: added to the scaled scores, float32, broadcast from `[batch or 1, heads or 1, queries or 1, keys]`. The
            result of a query whose bias is `-inf` everywhere is undefined, but affects no other.
        cap: scores become `cap * tanh(score / cap)`, before the bias; torch has no fused kernel for that.

    Returns:
        Output `[batch, heads, queries, head_dim]` in the dtype of `query`, and log-sum-exp (natural logarithm)
        `[batch, heads, queries]` in float32, strides unspecified.
    """
    if query.device.type == "cpu" and cap is None:
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=bias, scale=scale
        )
        return output, lse
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2)) * scale
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    if bias is not None:
        scores = scores + bias
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse[..., None])
    return torch.matmul(weights, value.float()).to(query.dtype), lse
