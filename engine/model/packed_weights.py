"""Packed weights: on a CPU, linears multiply with weights laid out for it, as `engine.model.linear_forms` describes.

A plain product lays its weight out anew, block by block, each time it is called; for the few rows of a decoding step
that is a large part of the work. A single row of a small matrix is faster without.
"""

import logging
import time
from collections import Counter, defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.linear_forms import ROWS, Blocked, FewBitForm, Form, Product, try_forms
from engine.model.memory import available, size
from kernels.few_bit_linear import native

SMALL = 1 << 19  # numbers; smaller weights are also kept in plain layout, for steps of one row and of many
SPARE = 3 << 30  # bytes that must be left beside few-bit weights: for the cache of keys and values, and for others
MOST_BITS = 7  # of a few-bit weight
_log = logging.getLogger(__name__)


def pack_linears(model: nn.Module) -> int:
    """Pack the linears of a model, merged ones included, in place, as the last change to it: afterwards, other code can
    no longer read a large `weight` as a matrix. Return how many were packed; none on other devices or in other dtypes.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    packable = {torch.float32} | ({torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())
    modules: list[Any] = [module for module in model.modules() if _is_packable(module, packable)]
    begin = time.perf_counter()
    few_bit = _has_room(modules)
    products: dict[tuple[object, ...], list[Product]] = defaultdict(list)
    bits: Counter[str] = Counter()
    for module in modules:
        weight: Tensor = module.weight
        bias: Tensor | None = module.bias
        large = weight.numel() > SMALL
        few = native.pack(weight, bias) if few_bit and large else None
        bits["few-bit" if few else "other"] += weight.numel()
        layout = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        forms: list[Form] = [FewBitForm(few, way) for way in few.ways] if few else []
        forms.append(Blocked(layout, bias, None if large else weight))
        if large:  # no weight is held twice
            del module.weight
            module.weight = layout
        product = Product(forms, (weight.shape[0], weight.shape[1]))
        products[product.shape, few and few.nbytes].append(product)
        module.forward = product if len(forms) > 1 else forms[0]
    for group in products.values():
        try_forms(group, torch.empty(0, dtype=torch.bfloat16))
    if bits["few-bit"]:
        share = bits["few-bit"] / (bits["few-bit"] + bits["other"])
        _log.info("%.0f %% of weights are few-bit ones, packed in %.0f s", 100 * share, time.perf_counter() - begin)
    return len(modules)


def _is_packable(module: Any, dtypes: set[torch.dtype]) -> bool:
    if type(module) is not nn.Linear:
        return False
    weight = module.weight
    if getattr(module, "plain", False):  # see `engine.model.code`
        return False
    if type(weight) is not nn.Parameter or weight.device.type != "cpu" or weight.dtype not in dtypes:
        return False
    return not module._forward_hooks and not module._forward_pre_hooks  # these are shards of a split model


def _has_room(modules: list[Any]) -> bool:
    """Whether memory allows few-bit weights beside the others."""
    need = sum(_numbers(module.weight) for module in modules) * MOST_BITS // 8
    room = available(torch.device("cpu"))
    if room is None or room - need > SPARE or not need:
        return True
    _log.info("few-bit weights would take up to %s, and %s are available: left out", size(need), size(room))
    return False


def _numbers(weight: Tensor) -> int:
    return weight.numel() if weight.dtype == torch.bfloat16 and weight.numel() > SMALL else 0
