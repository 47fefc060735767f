"""Experts: the products of `transformers`' experts modules by our kernel, over plain weights or such of few bits.

`transformers` computes them by `torch.nn.functional.grouped_mm`. That is a kernel for bfloat16 on GPUs such as an H100;
elsewhere it fetches from the GPU how many rows each expert has, which no CUDA graph records. Our kernel
(`kernels.expert_linear`) waits for nothing, and reads the few bits of a quantised checkpoint. Where `grouped_mm` is a
kernel, the faster of both is used, by a trial at load.

Only modules of `transformers`' interface for experts are known here (`use_experts_implementation`); experts in a loop
of their own (DBRX, LongCat, JetMoe) stay as they are.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.kernel_trial import alike, experts_are_rounding
from engine.model.linear_forms import Form, Product, try_forms
from kernels.expert_linear import reference
from kernels.expert_linear.reference import Groups, group
from kernels.expert_linear.weight import BIAS, ExpertWeight

Linear = Callable[[Tensor, ExpertWeight, Groups, int, Tensor | None], Tensor]
WEIGHTS = ("gate_up_proj", "up_proj", "down_proj")  # as the modules name them
PARTS = ("codes", "scale", "offset", "table")
SEEN = 64  # rows on which both ways must give the same
OURS, THEIRS = 0, 1  # forms of a product
ALIKE = 16  # rows of a product in batch-invariant mode
_log = logging.getLogger(__name__)


def knows(module: nn.Module) -> bool:
    """Whether a module is of `transformers`' interface for experts."""
    return all(hasattr(module, name) for name in ("has_gate", "has_bias", "is_transposed", "down_proj"))


def expert_modules(model: nn.Module) -> Iterator[nn.Module]:
    """All of a model's."""
    return (module for module in model.modules() if knows(module) or "_kept" in module.__dict__)


class ExpertsForward:
    """The forward of an experts module, over its weights as they are at the time of a call."""

    def __init__(self, experts: nn.Module, linear: Linear | None = None) -> None:
        """
        Args:
            experts: that `knows` knows.
            linear: how products are computed; `None`: by the kernel on a GPU, else in torch.
        """
        self._experts: Any = experts
        self._linear = linear

    def __call__(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """`[tokens, hidden]`, the experts of each token `[tokens, k]` and what they weigh -> `[tokens, hidden]`."""
        experts, linear = self._experts, self._linear or linear_on(hidden_states.device)
        tokens, share = top_k_index.shape
        down = weight_of(experts, "down_proj")
        groups = group(top_k_index.reshape(-1), down.shape[0])
        first = "gate_up_proj" if experts.has_gate else "up_proj"
        inner = linear(hidden_states, weight_of(experts, first), groups, share, _bias(experts, first))
        inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
        found = linear(inner, down, groups, 1, _bias(experts, "down_proj"))
        if getattr(experts, "has_post_expert_norm", False):
            found = experts.post_expert_norm(found)
        weighted = found * top_k_weights.reshape(-1, 1)
        return weighted.view(tokens, share, -1).sum(dim=1).to(hidden_states.dtype)


def linear_on(device: torch.device) -> Linear:
    """The product on a device."""
    if device.type != "cuda":
        return reference.expert_linear
    from kernels.expert_linear import triton  # only there is it installed for certain

    return triton.expert_linear


def weight_of(experts: Any, name: str) -> ExpertWeight:
    """One weight of an experts module."""
    if name in experts.__dict__.get("_kept", ()):
        kind = experts._kept[name][0]
        return ExpertWeight(kind, *(getattr(experts, f"{name}_{part}") for part in PARTS))
    plain = getattr(experts, name)
    return ExpertWeight("plain", plain.transpose(1, 2) if experts.is_transposed else plain)


def _bias(experts: Any, name: str) -> Tensor | None:
    return getattr(experts, f"{name}_bias") if experts.has_bias else None


# -- weights of few bits ----------------------------------------------------------------------------------------------


def keep(experts: Any, name: str, weight: ExpertWeight, count: int) -> None:
    """Let an experts module compute with a weight of few bits instead of its plain one.

    Args:
        experts: that `knows` knows.
        name: of the weight.
        weight: that stands for it; its tensors become buffers of the module.
        count: how many weights of the checkpoint it is.
    """
    del experts._parameters[name]
    for part in PARTS:
        experts.register_buffer(f"{name}_{part}", getattr(weight, part), persistent=False)
    experts.__dict__.setdefault("_kept", {})[name] = weight.kind, count
    setattr(experts, name, None)
    experts.forward = ExpertsForward(experts)


def kept_weights(model: nn.Module) -> list[tuple[ExpertWeight, int]]:
    """All of few bits, and how many of the checkpoint's each is."""
    return [
        (weight_of(module, name), count)
        for module in expert_modules(model)
        for name, (_, count) in module.__dict__.get("_kept", {}).items()
    ]


def runs(kind: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel computes products with a kind of weights of few bits there."""
    try:
        return all(_computes(weight.to(device), dtype) for weight in _examples(kind))
    except Exception as error:  # Triton's compiler fails in any way
        _log.debug("no kernel for %s experts in %s: %s", kind, dtype, error)
        return False


def _examples(kind: str) -> Iterator[ExpertWeight]:
    """Weights of a kind with a scale for all inputs of an output, for 128 and for 32, as far as checkpoints have them;
    each expert's are about eight times as large as the next one's.
    """
    generator = torch.Generator().manual_seed(0)
    experts, outputs, inputs = 3, 80, 256
    codes = torch.randint(120, (experts, outputs, inputs), generator=generator, dtype=torch.uint8)
    codes += 128 * torch.randint(2, codes.shape, generator=generator, dtype=torch.uint8)
    few = codes[..., : inputs // 2].contiguous()
    for width in {"mxfp4": (32,), "fp8": (inputs, 128), "int8": (inputs, 128)}.get(kind, (inputs, 128, 32)):
        power = torch.randint(-2, 3, (experts, outputs, inputs // width), generator=generator)
        power -= 3 * torch.arange(experts)[:, None, None]
        scale = 2.0**power * (1 + torch.rand(power.shape, generator=generator)) / 16
        if kind == "mxfp4":
            yield ExpertWeight(kind, few, (power + BIAS - 4).to(torch.uint8))
        elif kind == "table4":
            yield ExpertWeight(kind, few, scale, table=torch.linspace(-1, 1, 16))
        elif kind == "int4":
            yield ExpertWeight(kind, few, scale)
            yield ExpertWeight(kind, few, scale, offset=scale * torch.randint(-6, 7, scale.shape, generator=generator))
        else:
            yield ExpertWeight(kind, codes.view(torch.float8_e4m3fn if kind == "fp8" else torch.int8), scale)


def _computes(weight: ExpertWeight, dtype: torch.dtype, bias: Tensor | None = None) -> bool:
    """Whether the kernel's products err by no more than rounding, with few rows of each expert and with many."""
    experts, _, inputs = weight.shape
    device = weight.codes.device
    generator = torch.Generator(device).manual_seed(0)
    for pairs in (2 * experts, 34 * experts):
        x = torch.randn(pairs // 2, inputs, generator=generator, device=device).to(dtype)
        groups = group(torch.randperm(pairs, generator=generator, device=device) % experts, experts)
        found = linear_on(device)(x, weight, groups, 2, bias)
        if found.dtype != dtype or not experts_are_rounding(found, x, weight, groups, 2, bias):
            return False
    return True


# -- plain weights ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def use_kernels_for_experts(model: nn.Module) -> int:
    """On a GPU, let experts over plain weights be computed by our kernel where `grouped_mm` is none or is slower, in
    place; return how many modules have it.
    """
    groups: dict[tuple[object, ...], list[Any]] = defaultdict(list)
    for module in expert_modules(model):
        weight = weight_of(module, "down_proj").codes
        if on_gpu(weight) and "forward" not in module.__dict__:
            groups[(*weight.shape, weight.dtype)].append(module)
    changed = 0
    for modules in groups.values():
        if not _same(modules[0]):
            continue
        best = _fastest(modules)
        for module in modules if OURS in best else ():
            module.forward = _ByRows(module, best)
            changed += 1
    return changed


def on_gpu(weight: Tensor) -> bool:
    """Whether the kernel is for it."""
    return weight.is_cuda


def _same(module: Any) -> bool:
    """Whether our kernel computes what `transformers` does."""
    like = weight_of(module, "down_proj").codes
    x = torch.randn(SEEN, like.shape[1], generator=torch.Generator().manual_seed(1)).to(like)
    ours, theirs = _trials(module, like)
    names = [name for name in WEIGHTS if hasattr(module, name)]
    try:
        products = all(_computes(weight_of(module, name), like.dtype, _bias(module, name)) for name in names)
        return products and alike(ours(x), theirs(x))
    except Exception as error:  # Triton's compiler fails in any way
        _log.info("experts are left to transformers: %s", error)
        return False


def _fastest(modules: list[Any]) -> list[int]:
    """The form of each number of rows, from 0; more rows are as the last of them."""
    like = weight_of(modules[0], "down_proj").codes
    if not has_grouped_kernel(like):
        return [OURS]
    products = [Product(_trials(module, like), (like.shape[1], like.shape[1])) for module in modules]
    try:
        return [*try_forms(products, like), THEIRS]
    except RuntimeError as error:  # torch's could not be recorded after all
        _log.info("experts are computed by our kernel alone: %s", error)
        return [OURS]


def has_grouped_kernel(like: Tensor) -> bool:
    """Whether torch multiplies groups in this dtype on this GPU without waiting for it."""
    return like.dtype == torch.bfloat16 and torch.cuda.get_device_capability(like.device)[0] in (9, 10)


def _trials(module: Any, like: Tensor) -> list[Form]:
    """Both ways on random choices of two experts, the last for many rows."""
    experts = like.shape[0]
    generator = torch.Generator().manual_seed(2)
    index = torch.rand(1024, experts, generator=generator).argsort(1)[:, : min(2, experts)].to(like.device)
    weights = torch.full(index.shape, 1 / index.shape[1], device=like.device, dtype=like.dtype)
    theirs = module.forward
    ours = ExpertsForward(module)
    return [
        lambda x: ours(x, index[: len(x)], weights[: len(x)]),
        lambda x: theirs(x, index[: len(x)], weights[: len(x)]),
    ]


class _ByRows:
    """The forward that is the fastest for the number of rows."""

    def __init__(self, experts: Any, best: list[int]) -> None:
        forms = ExpertsForward(experts), experts.forward
        self._forms = [forms[index] for index in best]

    def __call__(self, hidden_states: Tensor, *routing: Tensor) -> Tensor:
        found: Tensor = self._forms[min(len(hidden_states), len(self._forms) - 1)](hidden_states, *routing)
        return found


# -- batch-invariant mode ---------------------------------------------------------------------------------------------


def compute_alike(model: nn.Module) -> int:
    """On a CPU, let a row's numbers not depend on how many others have its expert, in place: a library takes another
    kernel for a few rows. Return how many modules were changed.
    """
    changed = 0
    for module in expert_modules(model):
        if weight_of(module, "down_proj").codes.device.type == "cpu":
            module.forward = ExpertsForward(module, _alike)
            changed += 1
    return changed


def _alike(x: Tensor, weight: ExpertWeight, groups: Groups, share: int, bias: Tensor | None = None) -> Tensor:
    """As `reference.expert_linear`, by products of `ALIKE` rows."""
    out = x.new_empty(len(groups.order), weight.shape[1])
    bounds = groups.bounds.tolist()
    for expert in range(weight.shape[0]):
        pairs = groups.order[bounds[expert] : bounds[expert + 1]]
        plain = weight.of(expert, expert + 1).widen(x.dtype)[0] if len(pairs) else None
        for some in torch.split(pairs, ALIKE) if plain is not None else ():
            rows = nn.functional.pad(x[some // share], (0, 0, 0, ALIKE - len(some)))
            assert plain is not None
            own = None if bias is None else bias[expert].to(x.dtype)
            out[some] = nn.functional.linear(rows, plain, own)[: len(some)]
    return out
