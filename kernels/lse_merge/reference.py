"""Merge of partial attention results: Hydragen (arXiv 2402.05099), section 3.1, for any number of parts.

With `o_m` the result over the keys of part `m` and `l_m` its log-sum-exp, the result over all keys is
`sum_m exp(l_m - l) o_m` with `l = log sum_m exp(l_m)`. All of it in float32 and with natural logarithms: results of
kernels that report base 2 (`l / ln 2`) must be converted first.
"""

import torch
from torch import Tensor


def merge_partials(partials: Tensor, lse: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Merge, for every row, the partial results that `parts` lists.

    Args:
        partials: `[slots, heads, head_dim]`, results over disjoint sets of keys; any strides, any float dtype.
        lse: `[slots, heads]`, their log-sum-exp, natural logarithm; any strides. `-inf` marks a slot without keys,
            whose partial must then be finite.
        parts: `[rows, width]` int64, slots of each row; unused places point to a slot whose log-sum-exp is `-inf`.

    Returns:
        Output `[rows, heads, head_dim]` and log-sum-exp `[rows, heads]`, float32; a row without any key has output 0
        and log-sum-exp `-inf`.
    """
    rows, width = parts.shape
    columns = parts.t().reshape(-1)
    values = partials.index_select(0, columns).float().view(width, rows, *partials.shape[1:])
    levels = lse.index_select(0, columns).float().view(width, rows, lse.shape[1])
    if width == 1:
        return values[0], levels[0]
    top = levels.amax(dim=0)
    top = top.masked_fill_(top.isinf(), 0.0)
    weights = levels.sub(top).exp_()  # [width, rows, heads]
    total = weights.sum(dim=0)
    weights.div_(total.clamp_min(torch.finfo(torch.float32).tiny))
    merged = values[0].mul_(weights[0][..., None])  # in place: indexing has copied them
    for part in range(1, width):
        merged.addcmul_(values[part], weights[part][..., None])
    return merged, total.log_().add_(top)


def merge_levels(values: Tensor, lse: Tensor, hollow: bool = True, sinks: Tensor | None = None) -> Tensor:
    """Merge results that are stacked by level: fewer calls than `merge_partials`.

    Args:
        values: `[heads, levels, rows, ..., head_dim]`, results over disjoint sets of keys, finite, float32 where there
            are several levels; overwritten.
        lse: `[heads, levels, rows, ...]` float32, their log-sum-exp, natural logarithm; `-inf` marks a result without
            keys.
        hollow: whether a row may have no key on any level; its output is then 0, and undefined otherwise.
        sinks: `[heads, 1, ...]` float32, log-sum-exp of one more result, which is 0, for each row.

    Returns:
        `[heads, rows, ..., head_dim]` in the dtype of `values`.
    """
    if sinks is not None:
        levels = torch.cat((lse, sinks[:, None].expand(-1, 1, *lse.shape[2:])), dim=1)
        weights = torch.softmax(levels, dim=1)[:, :-1]
        return values.mul_(weights[..., None]).sum(dim=1)
    if values.shape[1] == 1:
        return values[:, 0].clone()
    weights = torch.softmax(lse, dim=1)
    if hollow:
        weights = weights.nan_to_num_(0.0)
    return values.mul_(weights[..., None]).sum(dim=1)
