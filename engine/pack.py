"""Packed weights: on CPU in float32, linears multiply with a copy of their weight in oneDNN's blocked layout.

A plain product lays its weight out anew, block by block, each time it is called; for the few rows of a decoding step
that is a good part of the work. A single row of a small matrix is faster without.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.fuse import MergedLinear

ROWS = 64  # the layout is chosen for so many; any number may come
SMALL = 1 << 19  # numbers in a weight that is kept as it is, too, for steps of one row and of many
# oneDNN keeps half a megabyte of code for each number of rows that it has met, so few numbers are let come to it.
STEP = 8  # rows that smaller products are filled up to a multiple of
FEW = 128  # rows from which on laying a weight out anew costs little beside the work
WIDE_STEP = 64  # as STEP, where more rows than FEW meet a weight that is not kept as it is


def pack(model: nn.Module) -> int:
    """Pack the linears of a model, merged ones included, in place, as the last change to it: a large `weight` is then
    no longer a matrix that other code could read. Return how many were packed; none on other devices or in other
    dtypes.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    packed = 0
    for module in model.modules():
        if not isinstance(module, MergedLinear) and type(module) is not nn.Linear:
            continue
        weight, bias = module.weight, module.bias
        if type(weight) is not nn.Parameter or weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        if module._forward_hooks or module._forward_pre_hooks:  # shards of a split model
            continue
        layout = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        product = _Product(layout, bias, weight if weight.numel() <= SMALL else None)
        if weight.numel() > SMALL:  # nothing is held twice
            del module.weight
            module.weight = layout
        if isinstance(module, MergedLinear):
            module.product = product  # type: ignore[method-assign]
        else:
            module.forward = product  # type: ignore[assignment, method-assign]
        packed += 1
    return packed


class _Product:
    """What `torch.nn.functional.linear` computes, with a packed weight."""

    __slots__ = ("_bias", "_call", "_plain", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None, plain: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias
        self._plain = plain
        self._call: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if self._plain is not None and (rows == 1 or rows > FEW):
            return nn.functional.linear(x, self._plain, self._bias)
        step = STEP if rows <= FEW else WIDE_STEP
        if rows == 1 or rows % step == 0:
            return self._call(x, self._weight, self._bias, "none", [], "")
        flat = nn.functional.pad(x.reshape(rows, -1), (0, 0, 0, -rows % step))
        found = self._call(flat, self._weight, self._bias, "none", [], "")[:rows]
        return found.view(*x.shape[:-1], -1)
