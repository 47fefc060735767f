"""A layer's experts on a GPU: our kernel over weights of each kind, against the bytes that must be read and against
torch's grouped product.
"""

from typing import Any

import torch
from torch import Tensor, nn

from kernels.expert_linear import reference, triton
from kernels.expert_linear.reference import Groups, group
from kernels.expert_linear.weight import ExpertWeight
from tests.bench import gpu_timing as timing
from tests.bench.gpu_rows import Experts

KINDS = ("plain", "fp8", "int4", "mxfp4")
GROUP = {"fp8": 128, "int4": 128, "mxfp4": 32}  # inputs that share a scale


def measured(step: Experts, bytes_per_second: float, flops_per_second: float) -> dict[str, Any]:
    """Seconds of both products of each kind, in a CUDA graph, beside the floor of each; of torch's on plain weights.

    Raises:
        AssertionError: a kernel computes something else than the reference does.
    """
    gpu = timing.gpu
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(step.rows, step.experts, generator=generator)
    chosen = scores.topk(step.share).indices.reshape(-1).to(gpu.device)
    hit = len(chosen.unique())
    x = torch.randn(step.rows, step.hidden, generator=generator).to(gpu.device, gpu.dtype)
    operations = 2 * len(chosen) * 3 * step.inner * step.hidden
    seconds: dict[str, Any] = {}
    floors: dict[str, float] = {}
    for kind in KINDS:
        up, down = _weight(kind, step, 2 * step.inner, step.hidden), _weight(kind, step, step.hidden, step.inner)
        groups = group(chosen, step.experts)
        _check(x, up, groups, step.share)

        def ours(up: ExpertWeight = up, down: ExpertWeight = down) -> Tensor:
            own = group(chosen, step.experts)
            inner = triton.expert_linear(x, up, own, step.share)
            return triton.expert_linear(inner[:, : step.inner], down, own, 1)

        seconds[kind] = gpu.seconds(gpu.recorded(ours))
        read = (up.bytes + down.bytes) * hit / step.experts
        floors[kind] = max(read / bytes_per_second, operations / flops_per_second)
        if kind == "plain":
            seconds["torch"] = _torch(x, up, down, groups, step)
    return {"seconds": seconds, "floors": floors, "experts_hit": hit}


def _weight(kind: str, step: Experts, outputs: int, inputs: int) -> ExpertWeight:
    gpu = timing.gpu
    generator = torch.Generator(gpu.device).manual_seed(1)
    shape = (step.experts, outputs, inputs)
    if kind == "plain":
        return ExpertWeight(kind, torch.randn(shape, generator=generator, device=gpu.device, dtype=gpu.dtype))
    width = inputs if kind == "fp8" else inputs // 2
    codes = torch.randint(1, 120, (*shape[:2], width), generator=generator, device=gpu.device, dtype=torch.uint8)
    groups = (*shape[:2], max(1, inputs // GROUP[kind]))
    if kind == "mxfp4":
        return ExpertWeight(kind, codes, torch.full(groups, 120, dtype=torch.uint8, device=gpu.device))
    scale = torch.full(groups, 0.01, device=gpu.device)
    return ExpertWeight(kind, codes.view(torch.float8_e4m3fn) if kind == "fp8" else codes, scale)


def _check(x: Tensor, weight: ExpertWeight, groups: Groups, share: int) -> None:
    found = triton.expert_linear(x, weight, groups, share).float()
    expected = reference.expert_linear(x, weight, groups, share).float()
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert error < 0.02, f"experts of {weight.kind} weights are {error:.2g} standard deviations off"


def _torch(x: Tensor, up: ExpertWeight, down: ExpertWeight, groups: Groups, step: Experts) -> Any:
    """The products alone, rows gathered and weights laid out beforehand."""
    rows = x[groups.order // step.share]
    ends = groups.bounds[1:].contiguous()
    weights = [each.codes.transpose(1, 2) for each in (up, down)]
    grouped: Any = nn.functional.grouped_mm

    def run() -> Tensor:
        inner: Tensor = grouped(rows, weights[0], offs=ends)
        found: Tensor = grouped(inner[:, : step.inner].contiguous(), weights[1], offs=ends)
        return found

    try:
        return timing.gpu.seconds(timing.gpu.recorded(run))
    except Exception as error:  # no kernel on this GPU; ours counts
        return f"{type(error).__name__}: {error}"
