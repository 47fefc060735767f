"""8-bit and 4-bit weights of linears, by torchao (https://github.com/pytorch/ao). Activations, norms, embeddings and
the output layer stay as they are.

Weights are quantised after linears were merged, so that a merged product is one quantised product. A checkpoint that
torchao quantised is loaded as it is; some others are dequantised (`engine.model.dequantize`), the rest refused by name.
"""

import logging
from typing import Any

import torch
from torch import nn

from engine.errors import LoadError, UnsupportedModelError
from engine.model import fuse
from engine.model.dequantize import method_of
from engine.model.memory import size

_log = logging.getLogger(__name__)
INT4_GROUP = 128  # weights that share a scale
TOLERANCE = {"int8": 0.25, "int4": 1.5}  # of logits, in standard deviations: a larger error is not quantisation


def quantize(model: Any, how: str) -> int:
    """Quantise the linears of a `transformers` model in place, the output layer left out; return how many.

    int8 has a scale per output row, and works on any device in any dtype. int4 has one per `INT4_GROUP` weights, and
    works on CUDA in bfloat16, the only kernel that torchao brings itself. int8 has no kernel: torchao widens a weight
    at each product, which costs the time of writing it once more, and for that moment its room.

    Raises:
        LoadError: torchao is not installed, or cannot do it on this device or in this dtype.
    """
    weight = next(model.parameters())
    torchao = _torchao()
    if how == "int8":
        config = torchao.Int8WeightOnlyConfig(set_inductor_config=False)
    elif weight.device.type != "cuda" or weight.dtype != torch.bfloat16:
        raise LoadError(
            f"int4 weights need CUDA and bfloat16, this is {weight.device.type} and {str(weight.dtype)[6:]}: "
            "set --quantization int8, or --device cuda --dtype bfloat16"
        )
    else:
        config = torchao.Int4WeightOnlyConfig(
            group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    output = model.get_output_embeddings()
    chosen = {id(module) for module in model.modules() if module is not output and is_linear(module)}
    before = linear_bytes(model)
    try:
        torchao.quantize_(model, config, filter_fn=lambda module, name: id(module) in chosen)
    except (ImportError, AssertionError, NotImplementedError, ValueError, RuntimeError) as error:
        raise LoadError(f"torchao cannot quantise this model to {how}: {error}") from error
    _log.info("%s weights: linears take %s, %s before", how, size(linear_bytes(model)), size(before))
    return len(chosen)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear, merged ones included, whose weight is not quantised yet."""
    weight = getattr(module, "weight", None)
    known = isinstance(module, nn.Linear) or type(module).__module__ == fuse.__name__
    if getattr(module, "plain", False):  # see `engine.model.states`
        return False
    return known and type(weight) is nn.Parameter and weight.ndim == 2


def check_checkpoint(config: Any) -> bool:
    """Whether a checkpoint is quantised, and stays so when it is loaded.

    Raises:
        UnsupportedModelError: by something else than torchao.
        LoadError: torchao is not installed.
    """
    found = getattr(config, "quantization_config", None)
    if not found or method_of(config):
        return False
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    name = str(getattr(method, "value", method))
    if name != "torchao":
        raise UnsupportedModelError(
            f"weights quantised by {name}",
            "load the original checkpoint with --quantization int8, or one in another format (docs/models.md)",
        )
    _torchao()
    return True


def linear_bytes(model: Any) -> int:
    """Bytes that the weights of linears take, scales included; embeddings and the output layer not counted."""
    output = model.get_output_embeddings()
    return sum(
        _bytes(module.weight)
        for module in model.modules()
        if module is not output and not isinstance(module, nn.Embedding) and getattr(module, "weight", None) is not None
    )


def _bytes(weight: Any) -> int:
    names = weight.__tensor_flatten__()[0] if hasattr(weight, "__tensor_flatten__") else []
    return sum(_bytes(getattr(weight, name)) for name in names) or weight.numel() * weight.element_size()


def _torchao() -> Any:
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of kernels for other devices
    try:
        from torchao import quantization
    except ImportError as error:
        raise LoadError("quantised weights need a package: pip install torchao") from error
    return quantization
