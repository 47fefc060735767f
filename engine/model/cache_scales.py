"""A cache of 8-bit numbers (`--cache-dtype fp8_e4m3`): half the memory of 16-bit ones, for 3 bits of mantissa.

Each layer's keys and values are divided by a scale that brings them into the range of `torch.float8_e4m3fn`. Scales
come from the checkpoint where it has them, as those do that were quantised for vLLM or by compressed-tensors
(`k_scale`, `v_scale`); else from the trial run of the gate. All are rounded up to powers of two: the numbers are
floating, so that another factor would only round twice.
"""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from engine.errors import LoadError
from kernels.kv_store.reference import LARGEST, Scales

HEADROOM = 8  # how many times larger than in the trial's few hundred random tokens a number may be
CAPABILITY = (8, 9)  # of CUDA: Triton converts these numbers from there on
_NAME = re.compile(r"\.layers\.(\d+)\..*\b([kv])_scale$")
_log = logging.getLogger(__name__)


def cache_dtype(asked: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of keys and values that `auto` or `fp8_e4m3` means for a model in `dtype`."""
    return dtype if asked == "auto" else torch.float8_e4m3fn


def choose_scales(largest: Sequence[tuple[float, float]], folder: str | None) -> tuple[Scales, ...]:
    """Scales of each layer that attends.

    Args:
        largest: of each, the largest key and value in the trial run, without their signs.
        folder: of the checkpoint.
    """
    found = {} if folder is None else _read(Path(folder))
    if len(found) == len(largest):
        _log.info("the KV cache's scales are the checkpoint's own")
        return tuple(Scales(*map(_up, found[layer])) for layer in sorted(found))
    if found:
        _log.warning("the checkpoint has scales for %d of %d layers; all are measured", len(found), len(largest))
    _log.info("the KV cache's scales are measured in the trial run: the checkpoint has none")
    return tuple(Scales(*map(_fitting, pair)) for pair in largest)


def _fitting(largest: float) -> float:
    """1 where numbers up to `largest` and `HEADROOM` times as large are in range, and smaller ones lose little: what
    is lost is absolute, and below what the largest are rounded by.
    """
    if 1 <= largest <= LARGEST / HEADROOM or not largest:
        return 1.0
    return _up(largest * HEADROOM / LARGEST)


def _up(scale: float) -> float:
    """The next power of two that is no smaller."""
    return float(2.0 ** math.ceil(math.log2(scale)))


def _read(folder: Path) -> dict[int, tuple[float, float]]:
    """The scales of keys and values in a checkpoint, by layer: the larger, where heads have their own.

    Raises:
        LoadError: one is no scale.
    """
    found: dict[tuple[int, str], float] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118, not a dict
                if match := _NAME.search(name):
                    scale = float(opened.get_tensor(name).float().max())
                    if not 0 < scale < math.inf:
                        raise LoadError(f"{file.name}: {name} is {scale}, which is no scale for a KV cache")
                    found[int(match[1]), match[2]] = scale
    layers = {layer for layer, _ in found}
    return {n: (found[n, "k"], found[n, "v"]) for n in layers if (n, "k") in found and (n, "v") in found}
