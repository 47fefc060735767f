"""The dtype in which a model is computed if none is given."""

import logging
import time
from typing import Any

import torch

from engine.model.features import field
from engine.model.memory import available

SMALL = 1 << 26  # weights; a step of a smaller model spends its time in calls, where float32 is as fast, and exact
FASTER = 1.2  # how much faster than float32, at many rows, a 16-bit dtype must be to be chosen
ROWS = 64  # of the trial: one row is bound by memory, where half the bytes are never slower
TRIES = 12
_log = logging.getLogger(__name__)


def resolve_dtype(asked: str, config: Any, place: str) -> torch.dtype:
    """The dtype to load a model in.

    On a GPU `auto` is the checkpoint's own if that has 16 bits, else bfloat16: float32 takes twice the memory, and
    several times as long. On a CPU it is that or float32, by what the CPU has and by a trial:
    many CPUs multiply 16-bit numbers several times faster than float32, others only emulate it. A checkpoint in
    float32 is not rounded there.

    Args:
        asked: `auto`, `float32`, `bfloat16` or `float16`.
        config: of `transformers`.
        place: `cpu` or `cuda`.
    """
    if asked != "auto":
        return getattr(torch, asked)  # type: ignore[no-any-return]
    own: torch.dtype = getattr(config, "dtype", None) or torch.bfloat16
    if place != "cpu":
        if own in (torch.bfloat16, torch.float16):
            return own
        _log.info("dtype bfloat16: the checkpoint's is %s; --dtype float32 keeps that", str(own).removeprefix("torch."))
        return torch.bfloat16
    weights = _weights(config)
    if own not in (torch.bfloat16, torch.float16) or weights <= SMALL:
        return torch.float32
    name = str(own).removeprefix("torch.")
    room = available(torch.device("cpu"))
    if room is not None and weights * 4 > room:
        _log.info("dtype %s: in float32 the weights would not fit into memory", name)
        return own
    if not _multiplies(own):
        _log.info("dtype float32: this CPU has no units for %s", name)
        return torch.float32
    many = _speedup(own, config)
    chosen = own if many > FASTER else torch.float32
    took = str(chosen).removeprefix("torch.")
    _log.info("dtype %s: %s is %.1f times as fast as float32 at %d rows here", took, name, many, ROWS)
    return chosen


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies numbers of this dtype on this CPU without turning them into float32 first."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    kind = "bf16" if dtype == torch.bfloat16 else "fp16"
    return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported")())


def _speedup(dtype: torch.dtype, config: Any) -> float:
    """How many times faster than in float32 the product with a matrix of the model's MLP is, the best of each.

    Measured with one thread: several wait for each other, so that on a busy machine the times mean little.
    """
    hidden, inner = _sizes(config)
    kinds = (torch.float32, dtype)
    numbers = [(torch.ones(ROWS, hidden, dtype=kind), torch.ones(inner, hidden, dtype=kind)) for kind in kinds]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [[_seconds(*pair) for pair in numbers] for _ in range(TRIES)]  # in turn: other work slows both
    finally:
        torch.set_num_threads(threads)
    best: list[float] = [min(column) for column in zip(*times, strict=True)]
    return best[0] / max(best[1], 1e-9)


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    begin = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    return time.perf_counter() - begin


def _sizes(config: Any) -> tuple[int, int]:
    hidden = int(field(config, "hidden_size") or 1024)
    inner = field(config, "intermediate_size")
    return hidden, inner if isinstance(inner, int) and inner > 0 else 4 * hidden


def _weights(config: Any) -> int:
    """About how many weights a dense model of these sizes has; of experts it is fewer than there are."""
    hidden, inner = _sizes(config)
    layers = int(field(config, "num_hidden_layers") or 1)
    return layers * hidden * (3 * inner + 3 * hidden) + hidden * int(field(config, "vocab_size") or 0)
