"""Linears that keep quantised weights as they are, and multiply by kernels that torch brings.

| kind | few rows | many rows |
|---|---|---|
| `fp8`, `fp8-blocks` | `torch._scaled_mm`, inputs rounded to FP8 row by row (or in groups of 128) | the same |
| `int8` | `torch._weight_int8pack_mm` | the weight is widened at each product |
| `int4` | `torch._weight_int4pack_mm` | the weight is widened at each product |
| `table4` (NF4, FP4) | our kernel for experts, of one expert, on a GPU | the weight is widened at each product |

A kernel that is not there, or computes something else on random inputs, is not used: all products widen the weight. How
many rows are few is measured at load (`engine.model.linear_forms`). Kernels for four bits have a layout of their own;
the plain one stays for many rows, so that such a weight takes one byte.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from engine.choices import ways
from engine.model.experts import WEIGHTS, keep, knows, linear_on, runs
from engine.model.kernel_trial import is_rounding, trial_inputs
from engine.model.linear_forms import Form, Product, try_forms
from engine.model.memory import size
from engine.model.quantized import FOUR, FP8, Packed, join_experts, stack, stack_experts
from kernels.expert_linear.reference import Groups
from kernels.expert_linear.weight import KINDS as EXPERT_KINDS
from kernels.expert_linear.weight import ExpertWeight

KINDS = ("fp8", "fp8-blocks", "int8", "int4", "table4")
BLOCK = 128  # inputs, and outputs, that share a scale in the kernel for FP8 blocks
TRIAL = 256  # inputs and outputs of a weight that is tried before any is loaded
_log = logging.getLogger(__name__)


def kept_kinds(way: ways, device: torch.device, dtype: torch.dtype) -> frozenset[str]:
    """The kinds of weights that are kept as they are, those of experts as `experts-` and their kind: `auto` means those
    for which a GPU has a kernel.

    On a CPU kernels are faster for few rows only (`python -m tests.bench.bench_quantized`).
    """
    if way == "dequantized" or (way == "auto" and device.type != "cuda"):
        return frozenset()
    if way == "native":
        return frozenset((*KINDS, *(f"experts-{kind}" for kind in EXPERT_KINDS)))
    experts = (f"experts-{kind}" for kind in EXPERT_KINDS if runs(kind, device, dtype))
    return frozenset((*(kind for kind in KINDS if kernel_for(_example(kind, device), dtype) is not None), *experts))


def _example(kind: str, device: torch.device) -> Packed:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-120, 120, (TRIAL, TRIAL // 2 if kind in FOUR else TRIAL), generator=generator)
    groups = TRIAL // BLOCK if kind in (*FOUR, "fp8-blocks") else 1
    scale = torch.rand(TRIAL // BLOCK, groups, generator=generator).add(0.5).repeat_interleave(BLOCK, 0)
    numbers = codes.to(FP8) if kind.startswith("fp8") else codes.to(torch.int8)
    table = torch.linspace(-1, 1, 16) if kind == "table4" else None
    packed = Packed(kind, numbers.view(torch.uint8) if kind in FOUR else numbers, scale, table=table)
    return packed.to(device)


class Ways(NamedTuple):
    """What may keep a weight of few bits."""

    linear: bool = True
    experts: bool = False
    turned: bool = False  # experts have their inputs before their outputs


LINEAR = Ways()


class QuantizedLinear(nn.Module):
    """A linear over a quantised weight, which it widens at each product until `use_kernels` is called."""

    codes: Tensor
    scale: Tensor
    offset: Tensor | None
    order: Tensor | None
    table: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        """
        Args:
            packed: the weight; its tensors are buffers of the module.
            bias: `[out]`.
            dtype: that the model is computed in. Inputs in another one are multiplied in theirs, exactly.
        """
        super().__init__()
        for name in ("codes", "scale", "offset", "order", "table"):
            self.register_buffer(name, getattr(packed, name))
        self.kind, self.dtype = packed.kind, dtype
        self.out_features, self.in_features = packed.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._product: Product | None = None

    @property
    def packed(self) -> Packed:
        """The weight."""
        return Packed(self.kind, self.codes, self.scale, self.offset, self.order, self.table)

    @property
    def weight(self) -> Tensor:
        """The plain weight, made anew: for code that reads it without calling the linear."""
        return self.packed.plain(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]`."""
        rows = x.reshape(-1, self.in_features)
        if self.order is not None:
            rows = rows.index_select(1, self.order)
        product = self._product if x.dtype == self.dtype else None
        found = (product or _widened(self.packed))(rows)
        if self.bias is not None:
            found = found + self.bias
        return found.view(*x.shape[:-1], self.out_features)

    def use(self, product: Product) -> None:
        """Multiply by this from now on, where inputs are in the model's dtype."""
        self._product = product

    @classmethod
    def stacked(cls, linears: "Sequence[QuantizedLinear]") -> "QuantizedLinear":
        """Several whose weights `engine.model.quantized.stacks`, as one."""
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        packed = stack([linear.packed for linear in linears])
        return cls(packed, torch.cat(biases) if biases else None, linears[0].dtype)


def quantized_linears(model: nn.Module) -> list[QuantizedLinear]:
    """All of a model."""
    return [module for module in model.modules() if isinstance(module, QuantizedLinear)]


# -- kernels ----------------------------------------------------------------------------------------------------------


def use_kernels(model: nn.Module) -> int:
    """Let the quantised linears of a model multiply by kernels where there are; return how many there are.

    The last change to them: they can't be merged or moved afterwards.
    """
    products: dict[tuple[str, tuple[int, int], torch.dtype], list[Product]] = defaultdict(list)
    taken: Counter[str] = Counter()
    device = next(model.parameters()).device
    for module in quantized_linears(model):
        packed = module.packed
        small = packed.kind.startswith("fp8")  # a CPU without units for it multiplies these a hundred times slower
        kernel = None if small and device.type == "cpu" else kernel_for(packed, module.dtype)
        forms = (kernel, None if small and kernel else _widened(packed))
        product = Product([form for form in forms if form], packed.shape)
        module.use(product)
        products[packed.kind, packed.shape, module.dtype].append(product)
        both = packed.kind == "int4" and kernel is not None  # the kernel's layout, and the plain one
        taken[packed.kind] += packed.bytes + both * packed.codes.nbytes
    for (_, _, dtype), group in products.items():
        try_forms(group, torch.empty(0, dtype=dtype, device=device))
    for kind, count in taken.items():
        _log.info("%s weights are kept as they are: %s in memory", kind, size(count))
    return sum(map(len, products.values()))


def kernel_for(packed: Packed, dtype: torch.dtype) -> Form | None:
    """The product with a weight by torch's kernel: `[rows, in]` in `dtype`, columns as they are kept, to `[rows, out]`.
    `None` where it does not run on this device, for this dtype or shape, or computes something else.
    """
    x = trial_inputs(packed)
    try:
        kernel = KERNELS[packed.kind](packed, dtype)
        found = kernel(x.to(dtype))
    except (RuntimeError, NotImplementedError, ValueError, AttributeError, TypeError) as error:
        _log.debug("no kernel for %s weights of %s in %s: %s", packed.kind, packed.shape, dtype, error)
        return None
    return kernel if found.dtype == dtype and is_rounding(found, x, packed) else None


def _widened(packed: Packed) -> Form:
    return lambda x: nn.functional.linear(x, packed.widen(x.dtype))


def _int8(packed: Packed, dtype: torch.dtype) -> Form:
    scale = packed.scale[:, 0].to(dtype)
    return lambda x: torch.ops.aten._weight_int8pack_mm(x, packed.codes, scale)


def _int4(packed: Packed, dtype: torch.dtype) -> Form:
    offset = torch.zeros_like(packed.scale) if packed.offset is None else packed.offset
    scales = torch.stack((packed.scale, offset), -1).transpose(0, 1).to(dtype).contiguous()  # [groups, out, 2]
    group = packed.shape[1] // len(scales)
    operations: Any = torch.ops.aten
    if packed.codes.device.type == "cpu":
        codes = operations._convert_weight_to_int4pack_for_cpu(packed.numbers().int(), 2)
        return lambda x: operations._weight_int4pack_mm_for_cpu(x, codes, group, scales)
    codes = operations._convert_weight_to_int4pack(packed.codes, 8)
    return lambda x: operations._weight_int4pack_mm(x, codes, group, scales)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers in FP8 and their scales, `[..., 1]` float32: one for those of the last dimension."""
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_min(1e-12) / torch.finfo(FP8).max
    return (wide / scale).to(FP8), scale


def _fp8(packed: Packed, dtype: torch.dtype) -> Form:
    columns = packed.scale.T.contiguous()  # [1, out]

    def product(x: Tensor) -> Tensor:
        small, scale = _rounded(x)
        return torch._scaled_mm(small, packed.codes.T, scale, columns, out_dtype=dtype)

    return product


def _fp8_blocks(packed: Packed, dtype: torch.dtype) -> Form:
    """By cuBLASLt, on GPUs that have it (H100): a scale for 128 x 128 numbers of the weight, and for 128 of a row."""
    outputs, inputs = packed.shape
    scale = packed.scale[::BLOCK]  # [out / 128, in / 128]
    if (
        inputs % BLOCK
        or scale.shape[1] != inputs // BLOCK
        or not torch.equal(scale.repeat_interleave(BLOCK, 0)[:outputs], packed.scale)
    ):
        raise ValueError("blocks of another size")
    functional: Any = nn.functional
    kinds = functional.ScalingType
    spare = -scale.shape[1] % 4  # the kernel reads columns of four
    blocks = nn.functional.pad(scale, (0, spare)).T  # [in / 128, out / 128], a column's numbers side by side
    recipes = kinds.BlockWise1x128, kinds.BlockWise128x128

    def product(x: Tensor) -> Tensor:
        small, scale = _rounded(x.view(len(x), -1, BLOCK))
        rows = scale[..., 0].T.contiguous().T  # [rows, in / 128], a column's numbers side by side
        found: Tensor = functional.scaled_mm(
            small.view(x.shape), packed.codes.T, rows, recipes[0], blocks, recipes[1], output_dtype=dtype
        )
        return found

    return product


def _on_cpu(packed: Packed) -> bool:
    return packed.codes.device.type == "cpu"


def _table4(packed: Packed, dtype: torch.dtype) -> Form:
    if _on_cpu(packed):
        raise NotImplementedError("no kernel on a CPU")
    linear = linear_on(packed.codes.device)
    weight = ExpertWeight("table4", packed.codes[None], packed.scale[None], table=packed.table)

    def product(x: Tensor) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        bounds = torch.arange(2, device=x.device, dtype=torch.int32) * len(x)
        return linear(x, weight, Groups(rows, bounds), 1, None)

    return product


KERNELS: dict[str, Callable[[Packed, torch.dtype], Form]] = {
    "fp8": _fp8,
    "fp8-blocks": _fp8_blocks,
    "int8": _int8,
    "int4": _int4,
    "table4": _table4,
}


# -- on the way through transformers' loader ---------------------------------------------------------------------------


class Carried(Tensor):
    """A quantised weight on its way into a model. It looks like the plain one to `transformers`' loader; all that is
    done to it, but moving it, and making one weight of all experts', is done to the plain one. `settle` makes linears
    and experts of those that arrive.
    """

    packed: Packed | ExpertWeight
    ways: Ways
    count: int

    @staticmethod
    def __new__(
        cls, packed: Packed | ExpertWeight, dtype: torch.dtype, ways: Ways = LINEAR, count: int = 1
    ) -> "Carried":
        """In place of a weight in `dtype`.

        Args:
            packed: the weight.
            dtype: of the plain one.
            ways: what may keep it.
            count: how many weights of the checkpoint it is.
        """
        made: Any = Tensor._make_wrapper_subclass
        experts, *shape = packed.shape if isinstance(packed, ExpertWeight) else (0, *packed.shape)
        shape = [experts, *(shape[::-1] if ways.turned else shape)] if experts else shape
        found: Carried = made(cls, shape, dtype=dtype, device=packed.codes.device)
        found.packed, found.ways, found.count = packed, ways, count
        return found

    def plain(self) -> Tensor:
        """What it looks like."""
        if isinstance(self.packed, Packed):
            return self.packed.plain(self.dtype)
        found = torch.stack([self.packed.of(at, at + 1).widen(self.dtype)[0] for at in range(self.packed.shape[0])])
        return found.transpose(1, 2).contiguous() if self.ways.turned else found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Called by torch for each operation."""
        kwargs = kwargs or {}
        first = args[0]
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(first.packed, first.dtype, first.ways, first.count)
        if func is torch.ops.aten._to_copy.default:
            moved = first.packed.to(kwargs.get("device"))
            return cls(moved, kwargs.get("dtype") or first.dtype, first.ways, first.count)
        if func in JOINED and (joined := _joined(func, *args, **kwargs)) is not None:
            return joined

        def plain(value: Any) -> Any:
            return value.plain() if isinstance(value, Carried) else value

        return func(*tree_map(plain, args), **tree_map(plain, kwargs))


JOINED = {
    torch.ops.aten.stack.default: 0,
    torch.ops.aten.cat.default: 1,
}  # and the dimension that experts are joined by


def _joined(func: Any, weights: Any, dim: int = 0) -> Carried | None:
    """One weight of all experts', if these are such and may be kept."""
    if dim != JOINED[func] or not all(isinstance(each, Carried) and each.ways.experts for each in weights):
        return None
    parts = [each.packed for each in weights]
    found = None
    if func is torch.ops.aten.stack.default and all(isinstance(each, Packed) for each in parts):
        found = stack_experts(parts)
    elif func is torch.ops.aten.cat.default and all(isinstance(each, ExpertWeight) for each in parts):
        found = join_experts(parts)
    if found is None:
        return None
    return Carried(found, weights[0].dtype, weights[0].ways, sum(each.count for each in weights))


def settle(model: nn.Module) -> None:
    """Make `QuantizedLinear`s of linears whose weight is a `Carried`, and let experts compute with such, in place;
    elsewhere make it plain.
    """
    for name, module in list(model.named_modules()):
        for own, weight in list(module._parameters.items()):
            if not isinstance(weight, Carried):
                continue
            packed = weight.packed
            if isinstance(packed, ExpertWeight) and knows(module) and own in WEIGHTS:
                keep(module, own, packed, weight.count)
            elif isinstance(packed, Packed) and weight.ways.linear and type(module) is nn.Linear and own == "weight":
                model.set_submodule(name, QuantizedLinear(packed, module.bias, weight.dtype))
            else:
                module._parameters[own] = nn.Parameter(weight.plain(), requires_grad=False)
