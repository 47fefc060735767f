"""Latent attention (DeepSeek V2, arXiv 2405.04434, section 2.1): a token's keys and values are products of one vector.

Each head has a weight that makes its keys of that vector, the latent, and another that makes its values; the part of a
key with the position is the same for all heads. Products of queries with such keys are products of the queries, once
multiplied by the keys' weight, with the latents themselves; and a mean of such values is the mean of latents multiplied
by the values' weight. So all heads attend over one key a token, the latent and the part with the position, whose first
numbers are its value, too: that is all the cache holds.

Such a module is known by `expand_kv`, by which the code of `transformers` makes full keys and values.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.fuse import linear_of
from engine.model.quantized_linear import QuantizedLinear

METHOD = "expand_kv"


class Latents:
    """The `expand_kv` of a module: where `attention` computes, latents stay what they are."""

    def __init__(self, module: Any, attention: str) -> None:
        self.module = module
        self.rank = int(module.kv_b_proj.in_features)
        self._attention = attention
        self._expand: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = getattr(module, METHOD)

    def __call__(self, latent: Tensor, rotated: Tensor) -> tuple[Tensor, Tensor]:
        """`[1, 1, tokens, rank]` and `[1, 1, tokens, rotated]` -> what attention takes for keys and for values. As
        values they are longer than needed, since the cache holds both at once.
        """
        if self.module.config._attn_implementation != self._attention:
            return self._expand(latent, rotated)
        joined = torch.cat((latent, rotated), dim=-1)
        return joined, joined

    def _weights(self) -> tuple[Tensor, Tensor]:
        """`[heads, key, rank]` and `[heads, value, rank]`, which make keys and values of latents."""
        sizes = [self.module.qk_nope_head_dim, self.module.v_head_dim]
        key, value = torch.split(self.module.kv_b_proj.weight.view(-1, sum(sizes), self.rank), sizes, dim=1)
        return key, value

    def absorb(self, query: Tensor) -> Tensor:
        """`[1, heads, tokens, key + rotated]` -> `[1, heads, tokens, rank + rotated]`, for products with latents."""
        weight, _ = self._weights()
        plain, rotated = torch.split(query[0], [weight.shape[1], query.shape[-1] - weight.shape[1]], dim=-1)
        return torch.cat((torch.bmm(plain, weight), rotated), dim=-1)[None]

    def values(self, mean: Tensor) -> Tensor:
        """`[1, tokens, heads, rank or more]` means of latents -> `[1, tokens, heads, value]`."""
        _, weight = self._weights()
        return torch.bmm(mean[0, :, :, : self.rank].transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)[None]


def latents_of(module: nn.Module) -> Latents | None:
    """Those of an attention module that `keep_latents` has changed."""
    found = vars(module).get(METHOD)
    return found if isinstance(found, Latents) else None


def keep_latents(model: nn.Module, attention: str) -> list[Latents]:
    """Let the latent attention of `model` hand out latents, where `attention` computes. Their weights stay plain: what
    is quantised is widened.

    Returns:
        Those of all its modules with latent attention; none if one is of another form, and all are left as they are.
    """
    modules = [module for module in model.modules() if hasattr(module, METHOD)]
    if not all(_is_known(module) for module in modules):
        return []
    for module in modules:
        if latents_of(module) is None:
            _make_plain(module)
            vars(module)[METHOD] = Latents(module, attention)
    return [found for module in modules if (found := latents_of(module)) is not None]


def _is_known(module: Any) -> bool:
    linear, sizes = getattr(module, "kv_b_proj", None), ("qk_nope_head_dim", "v_head_dim")
    plain = type(linear) is nn.Linear and type(linear.weight) is nn.Parameter
    if linear is None or not all(isinstance(getattr(module, name, None), int) for name in sizes):
        return False
    return (plain or isinstance(linear, QuantizedLinear)) and linear.bias is None


def _make_plain(module: Any) -> None:
    linear = module.kv_b_proj
    if isinstance(linear, QuantizedLinear):
        linear = module.kv_b_proj = linear_of(linear.weight, None)
    linear.plain = True  # see `engine.model.code`
