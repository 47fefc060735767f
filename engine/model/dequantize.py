"""Quantised checkpoints in formats for which there is no kernel here: dequantised while they are read.

The model is then as large as one that was never quantised, which is told in a warning. Files are read one weight at a
time, and what belongs to one weight may lie in several of them.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import LoadError, UnsupportedModelError, one_line
from engine.model.formats import FORMATS, Format, Packing
from engine.model.memory import size

_log = logging.getLogger(__name__)


def method_of(config: Any) -> str:
    """Which format of `FORMATS` a checkpoint is in; empty if it is not quantised, or by a method that is not there.

    Raises:
        UnsupportedModelError: it is a variant that is not implemented.
    """
    found = _fields(config)
    name = str(found.get("quant_method", ""))
    if name == "compressed-tensors":
        layout = str(found.get("format"))
        if layout in ("float-quantized", "naive-quantized"):
            kinds = {weights.get("type") for weights in _weights(found)}
            return "compressed-float" if kinds == {"float"} else "compressed-int"
        if layout in ("pack-quantized", "int-quantized"):
            return "compressed-int"
        raise UnsupportedModelError(f"weights quantised by compressed-tensors as {layout}")
    if name == "awq" and str(found.get("version", "gemm")).lower() != "gemm":
        raise UnsupportedModelError(f"weights quantised by AWQ, version {found['version']}")
    return name if name in FORMATS else ""


def packing_of(config: Any) -> Packing:
    """What the configuration says about all weights.

    Raises:
        UnsupportedModelError: they have a number of bits that is not implemented.
    """
    found = _fields(config)
    weights = _weights(found) or [found]
    bits = {int(each.get("num_bits") or each.get("bits") or each.get("w_bit") or 4) for each in weights}
    if len(bits) > 1:
        raise UnsupportedModelError("weights quantised to different numbers of bits", str(sorted(bits)))
    if 32 % min(bits):
        raise UnsupportedModelError(f"weights quantised to {min(bits)} bits")
    block = found.get("weight_block_size") or weights[0].get("block_structure")
    offset = 0 if found.get("checkpoint_format") == "gptq_v2" else 1
    return Packing(min(bits), block=tuple(block) if block else None, zero_offset=offset)


def _fields(config: Any) -> dict[str, Any]:
    found = getattr(config, "quantization_config", None) or {}
    return found if isinstance(found, dict) else dict(found.to_dict())


def _weights(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of compressed-tensors: what it says about the weights of each group of modules."""
    return [group.get("weights") or {} for group in (found.get("config_groups") or {}).values()]


def dequantized(folder: Path, config: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights of a checkpoint, plain, in `dtype`.

    Args:
        folder: with its safetensors files.
        config: of `transformers`, with `quantization_config`.
        dtype: of what was quantised, and of what is stored in another 16-bit or 32-bit dtype.

    Raises:
        LoadError: a part of a weight is missing or has another shape.
    """
    method, packing = method_of(config), packing_of(config)
    files = sorted(folder.glob("*.safetensors"))
    with ExitStack() as stack:
        places: dict[str, Any] = {}
        try:
            for file in files:
                opened = stack.enter_context(safe_open(file, framework="pt"))
                places |= dict.fromkeys(opened.keys(), opened)
            found = dict(_read(places, FORMATS[method], packing, dtype))
        except (SafetensorError, KeyError, RuntimeError, ValueError, IndexError) as error:
            raise LoadError(f"the {method} weights of {folder} cannot be dequantised: {one_line(error)}") from error
    stored = sum(file.stat().st_size for file in files)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    _log.warning(
        "%s: there is no kernel for %s weights here, so they are dequantised: %s in memory, %s in the files",
        folder.name,
        method,
        size(needed),
        size(stored),
    )
    return found


def _read(
    places: dict[str, Any], formats: tuple[Format, ...], packing: Packing, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its plain name."""
    done: set[str] = set()
    for form in formats:
        separator = "_" if not form.whole else "."  # MXFP4's parts are named by the weight itself
        mark = separator + form.ends[0]
        for name in places:
            if not name.endswith(mark) or name in done:
                continue
            base = name.removesuffix(mark)
            named = {end: f"{base}{separator}{end}" for end in form.ends}
            held = {end: each for end, each in named.items() if each in places}
            done.update(held.values())
            done.update(f"{base}{separator}{end}" for end in form.unused)
            parts = {end: places[each].get_tensor(each) for end, each in held.items()}
            plain = form.plain(parts, packing)
            yield (f"{base}.{form.whole}" if form.whole else base), plain.to(dtype)
    for name in places:
        if name not in done:
            tensor = places[name].get_tensor(name)
            yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor
