"""8-bit and 4-bit weights of linears, rounded at load. Activations, norms, embeddings and the output layer stay as they
are.

Weights are quantised after linears were merged, so that a merged product is one quantised product, and multiplied as
those of quantised checkpoints are (`engine.model.quantized_linear`). A checkpoint that torchao quantised is loaded as
it is (https://github.com/pytorch/ao); others are kept or dequantised (`engine.model.dequantize`), the rest refused.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import LoadError, UnsupportedModelError
from engine.model.memory import size
from engine.model.quantization_config import method_of, quantization_of
from engine.model.quantized import GROUPS, Packed, Quantized
from engine.model.quantized_linear import QuantizedLinear

_log = logging.getLogger(__name__)
INT4_GROUP = 128  # weights that share a scale, at most
TOLERANCE = {"int8": 0.25, "int4": 1.5}  # of logits, in standard deviations: a larger error is not quantisation


def quantize(model: Any, how: str) -> int:
    """Quantise the linears of a `transformers` model in place, the output layer left out; return how many.

    int8 has a scale per output row. int4 has one, and an offset, per `INT4_GROUP` weights of a row or fewer; linears
    whose inputs are no multiple of 32 stay as they are.
    """
    output = model.get_output_embeddings()
    before, done = linear_bytes(model), 0
    for name, module in list(model.named_modules()):
        if module is output or not is_linear(module):
            continue
        packed = int8_of(module.weight) if how == "int8" else int4_of(module.weight)
        if packed is None:
            continue
        model.set_submodule(name, QuantizedLinear(packed, module.bias, module.weight.dtype))
        done += 1
    _log.info("%s weights: linears take %s, %s before", how, size(linear_bytes(model)), size(before))
    return done


def int8_of(weight: Tensor) -> Packed:
    """A weight rounded to 255 levels of each row."""
    scale = weight.detach().float().abs().amax(1, keepdim=True).clamp_min(1e-20) / 127
    return Packed("int8", (weight.detach() / scale).round_().to(torch.int8), scale)


def int4_of(weight: Tensor) -> Packed | None:
    """A weight rounded to 16 levels of each group; `None` where it can't be cut into groups."""
    group = next((each for each in GROUPS if each <= INT4_GROUP and weight.shape[1] % each == 0), 0)
    if not group:
        return None
    cut = weight.detach().float().view(len(weight), -1, group)
    low, high = cut.amin(2), cut.amax(2)
    scale = ((high - low) / 15).clamp_min(1e-20)
    numbers = ((cut - low[..., None]) / scale[..., None]).round_().flatten(1).to(torch.int8).sub_(8)
    return Quantized(numbers, scale, -low / scale - 8, bits=4).pack()


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear, merged ones included, whose weight is not quantised yet."""
    if getattr(type(module), "forward", None) is not nn.Linear.forward or getattr(module, "plain", False):
        return False  # it computes something else, or see `engine.model.code`
    return type(module.weight) is nn.Parameter and module.weight.ndim == 2


def check_checkpoint(config: Any) -> bool:
    """Whether a checkpoint is one of torchao's, which `transformers` loads with it.

    Raises:
        UnsupportedModelError: it is quantised by something that is not known here.
        LoadError: torchao is not installed.
    """
    found = quantization_of(config)
    if found is None or method_of(config):
        return False
    if found.method != "torchao":
        raise UnsupportedModelError(
            f"weights quantised by {found.method}",
            "load the original checkpoint with --quantization int8, or one in another format (docs/models.md)",
        )
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of kernels for other devices
    try:
        import torchao  # noqa: F401 - `transformers` needs it
    except ImportError as error:
        raise LoadError("weights quantised by torchao need a package: pip install torchao") from error
    return True


def linear_bytes(model: Any) -> int:
    """Bytes that the weights of linears take, scales included; embeddings and the output layer not counted."""
    output = model.get_output_embeddings()
    modules = [module for module in model.modules() if module is not output]
    return sum(
        module.packed.bytes if isinstance(module, QuantizedLinear) else module.weight.nbytes
        for module in modules
        if isinstance(module, QuantizedLinear | nn.Linear)
    )
