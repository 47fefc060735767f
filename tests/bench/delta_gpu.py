"""The gated delta rule of a decoding step on a GPU: our kernel in the pool of states, against the bytes of the states
read and written once, and against torch and flash-linear-attention, for which states are copied out and back.
"""

from typing import Any

import torch

from kernels.delta_rule import triton
from tests.bench import gpu_timing as timing
from tests.bench.recurrent_steps import Bed, Step

AGREED = 0.05  # standard deviations


@torch.inference_mode()
def measured(step: Step, bytes_per_second: float) -> dict[str, Any]:
    """Seconds of each in a CUDA graph, and the floor.

    Raises:
        AssertionError: the kernel computes something else than torch does.
    """
    gpu = timing.gpu
    bed = Bed(step, gpu.device, gpu.dtype)
    error = bed.error("rule", triton.advance)
    assert error < AGREED, f"the rule of {step.kind} is {error:.2g} standard deviations off"
    seconds: dict[str, Any] = {"ours": gpu.seconds(gpu.recorded(lambda: bed.rule(triton.advance)))}
    seconds["torch"] = gpu.seconds(gpu.recorded(lambda: bed.rule(None)))
    seconds["fla"] = "flash-linear-attention is not installed"
    if bed.packages:
        try:
            seconds["fla"] = gpu.seconds(gpu.recorded(lambda: bed.rule(None, packages=True)))
        except Exception as problem:  # another's kernel; ours counts
            seconds["fla"] = f"{type(problem).__name__}: {problem}"
    return {"seconds": seconds, "floor": 2 * bed.state.nbytes / bytes_per_second}
