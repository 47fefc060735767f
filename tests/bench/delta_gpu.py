"""The gated delta rule or state space of a decoding step on a GPU: our kernel in the pool of states, against the bytes
of the states read and written once, and against torch and flash-linear-attention or mamba-ssm, for which states are
copied out and back; and the whole layer, with its convolution, both ways.
"""

from typing import Any

import torch

from engine.model.in_pool import COPIES, Advances
from kernels.delta_rule import triton as delta_rule
from kernels.short_conv import triton as short_conv
from kernels.state_space import triton as state_space
from tests.bench import gpu_timing as timing
from tests.bench.recurrent_steps import Bed, Step

AGREED = 0.02  # standard deviations
PACKAGE = "package"  # that computes single tokens


@torch.inference_mode()
def measured(step: Step, bytes_per_second: float) -> dict[str, Any]:
    """Seconds of each in a CUDA graph, and the floor.

    Raises:
        AssertionError: the kernel computes something else than torch does.
    """
    gpu = timing.gpu
    bed = Bed(step, gpu.device, gpu.dtype)
    ours = Advances(delta_rule.advance, short_conv.advance, state_space.advance)
    for part in ("rule", "whole"):
        error = bed.error(part, ours)
        assert error < AGREED, f"the {part} of {step.kind} is {error:.2g} standard deviations off"
    seconds: dict[str, Any] = {"ours": gpu.seconds(gpu.recorded(lambda: bed.rule(ours)))}
    seconds["torch"] = gpu.seconds(gpu.recorded(lambda: bed.rule(COPIES)))
    for name, way in (("layer", ours), ("layer, copied", COPIES)):
        seconds[name] = gpu.seconds(gpu.recorded(lambda way=way: bed.whole(way)))  # type: ignore[misc]
    seconds[PACKAGE] = "it is not installed"
    if bed.packages:
        try:
            seconds[PACKAGE] = gpu.seconds(gpu.recorded(lambda: bed.rule(COPIES, packages=True)))
        except Exception as problem:  # another's kernel; ours counts
            seconds[PACKAGE] = f"{type(problem).__name__}: {problem}"
    return {"seconds": seconds, "floor": 2 * bed.state.nbytes / bytes_per_second}
