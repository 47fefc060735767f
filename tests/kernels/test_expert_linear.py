"""The linears of experts: the kernel against the definition, the definition against the formula."""

import pytest
import torch
from torch import Tensor

from kernels.expert_linear import reference
from kernels.expert_linear import triton as kernel
from kernels.expert_linear.reference import group
from kernels.expert_linear.weight import ExpertWeight
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.poison import poisoned
from tests.kernels.test_rms_norm import TOLERANCE, TYPES, some

pytestmark = pytest.mark.gpu

FORMS = {  # a kind, inputs and the inputs of a group
    "plain": ("plain", 96, 96),
    "fp8-a-scale-a-row": ("fp8", 80, 80),
    "fp8-blocks": ("fp8", 256, 128),
    "fp8-small-blocks": ("fp8", 96, 32),
    "int8": ("int8", 96, 96),
    "int4-long-groups": ("int4", 256, 128),
    "int4-short-groups": ("int4", 192, 32),
    "int4-in-one-group": ("int4", 64, 64),
    "table4": ("table4", 192, 64),  # as bitsandbytes' blocks
    "mxfp4": ("mxfp4", 160, 32),  # as gpt-oss' 2880, no multiple of 128
    "mxfp4-whole-steps": ("mxfp4", 256, 32),
}
EXPERTS, OUTPUTS = 5, 70


def weight(
    kind: str, inputs: int, each: int, dtype: torch.dtype = torch.float32, experts: int = EXPERTS
) -> ExpertWeight:
    """A random one."""
    generator = torch.Generator().manual_seed(0)

    def whole(low: int, high: int, columns: int, kind: torch.dtype) -> Tensor:
        return torch.randint(low, high, (experts, OUTPUTS, columns), generator=generator).to(kind)

    scale = torch.rand(experts, OUTPUTS, inputs // each, generator=generator) * 0.02 + 0.01
    if kind == "plain":
        found = ExpertWeight(kind, torch.randn(experts, OUTPUTS, inputs, generator=generator).to(dtype))
    elif kind == "fp8":
        every = whole(0, 256, inputs, torch.uint8)
        every[(every & 127) == 127] = 1  # no number
        found = ExpertWeight(kind, every.view(torch.float8_e4m3fn), scale)
    elif kind == "int8":
        found = ExpertWeight(kind, whole(-128, 128, inputs, torch.int8), scale)
    elif kind == "int4":
        offset = torch.randn(scale.shape, generator=generator) * 0.1
        found = ExpertWeight(kind, whole(0, 256, inputs // 2, torch.uint8), scale, offset)
    elif kind == "table4":
        found = ExpertWeight(kind, whole(0, 256, inputs // 2, torch.uint8), scale, table=torch.linspace(-1, 2, 16))
    else:
        found = ExpertWeight(
            kind, whole(0, 256, inputs // 2, torch.uint8), whole(120, 126, inputs // each, torch.uint8)
        )
    return found.to(DEVICE)


def chosen(pairs: int, experts: int = EXPERTS) -> Tensor:
    """Experts, one of them by nobody."""
    found = torch.randint(experts, (pairs,), generator=torch.Generator().manual_seed(pairs))
    return found.masked_fill_(found == 2, 3).to(DEVICE)


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_is_the_formula(form: str):
    kind, inputs, each = FORMS[form]
    own, experts = weight(kind, inputs, each), chosen(8)
    x, bias = some((4, inputs), torch.float32), some((EXPERTS, OUTPUTS), torch.float32)
    plain = own.widen(torch.float64)
    found = reference.expert_linear(x, own, group(experts, EXPERTS), 2, bias)
    for pair, expert in enumerate(experts.tolist()):
        expected = plain[expert] @ x[pair // 2].double() + bias[expert]
        torch.testing.assert_close(found[pair].double(), expected, atol=1e-3, rtol=1e-4)


def test_what_codes_stand_for():
    scale = torch.full((1, 1, 1), 128, dtype=torch.uint8)
    found = ExpertWeight("mxfp4", torch.tensor([[[0x21, 0x7F]]], dtype=torch.uint8), scale).widen(torch.float32)
    assert found.flatten().tolist() == [1.0, 2.0, -12.0, 12.0]
    one = torch.full((1, 1, 1), 0.5)
    found = ExpertWeight("int4", torch.tensor([[[0x0F, 0x89]]], dtype=torch.uint8), one, one).widen(torch.float32)
    assert found.flatten().tolist() == [-3.5, 4.0, 0.5, 1.0]
    found = ExpertWeight("fp8", torch.tensor([[[0.25, -448.0]]]).to(torch.float8_e4m3fn), one).widen(torch.float32)
    assert found.flatten().tolist() == [0.125, -224.0]


def test_groups():
    found = group(torch.tensor([3, 1, 3, 0, 1]), 5)
    assert found.order.tolist() == [3, 1, 4, 0, 2]
    assert found.bounds.tolist() == [0, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("pairs", [1, 6, 170], ids=["one", "few", "large-tiles"])
@pytest.mark.parametrize("form", FORMS)
@TYPES
def test_products(form: str, pairs: int, dtype: torch.dtype):
    kind, inputs, each = FORMS[form]
    own, groups = weight(kind, inputs, each, dtype), group(chosen(pairs), EXPERTS)
    share = 2 if pairs > 1 else 1
    x, bias = some((-(-pairs // share), inputs), dtype) * 0.1, some((EXPERTS, OUTPUTS), dtype)
    with poisoned():
        found = kernel.expert_linear(x, own, groups, share, bias)
    expected = reference.expert_linear(x.float(), own, groups, share, bias.float())
    tolerance = TOLERANCE[dtype] | ({"atol": 2e-2} if dtype != torch.float32 else {"atol": 1e-4})
    torch.testing.assert_close(found, expected.to(dtype), **tolerance)


def test_weights_with_inputs_before_outputs_and_rows_apart():
    codes = some((EXPERTS, 96, OUTPUTS), torch.float32)
    own, groups = ExpertWeight("plain", codes.transpose(1, 2)), group(chosen(6), EXPERTS)
    x = some((12, 96), torch.float32)[::2]
    found = kernel.expert_linear(x, own, groups, 1)
    torch.testing.assert_close(found, reference.expert_linear(x, own, groups, 1), atol=1e-4, rtol=1e-4)


def test_a_row_is_the_same_whatever_the_others_are():
    """Of as many rows: a batch-invariant step has always as many."""
    own, experts = weight("plain", 96, 96), chosen(12)
    x = some((12, 96), torch.float32)
    found = kernel.expert_linear(x, own, group(experts, EXPERTS), 1)
    alone = torch.cat([experts[:1], experts[1:].flip(0)])
    again = kernel.expert_linear(torch.cat([x[:1], x[1:] * 3]), own, group(alone, EXPERTS), 1)
    assert torch.equal(found[0], again[0])


def test_nothing_is_multiplied_with_nothing():
    none = group(torch.empty(0, dtype=torch.int64, device=DEVICE), EXPERTS)
    assert kernel.expert_linear(some((0, 96), torch.float32), weight("plain", 96, 96), none, 1).shape == (0, OUTPUTS)


@pytest.mark.parametrize(("kind", "inputs", "each"), [("fp8", 96, 24), ("int4", 96, 24), ("mxfp4", 48, 48)])
def test_groups_that_no_step_reads_are_refused(kind: str, inputs: int, each: int):
    with pytest.raises(ValueError, match=f"groups of {each} of {inputs}"):
        kernel.step_of(weight(kind, inputs, each))


COMPILED = {  # registers with few rows and with many; 4 and 3 steps are loaded ahead
    "plain": (48, 104),
    "fp8": (72, 184),
    "int8": (72, 184),
    "int4": (128, 168),
    "mxfp4": (104, 168),
    "table4": (128, 168),
}


@COMPILED_HERE
@pytest.mark.parametrize("many", [False, True], ids=["few-rows", "many"])
@pytest.mark.parametrize("kind", COMPILED)
def test_what_the_compiled_kernel_needs(kind: str, many: bool):
    """For Qwen3-Coder-30B-A3B's shapes, and gpt-oss' groups."""
    rows = kernel.rows_of_a_tile(kind, 32 * 128 if many else 128, 128)
    each = {"plain": 0, "mxfp4": 32, "table4": 64}.get(kind, 128)
    stored = "*bf16:16" if kind == "plain" else "*i8:16" if kind == "int8" else "*u8:16"
    types = dict.fromkeys(("row_stride", "expert_stride", "output_stride", "outputs", "inputs"), "i32:16")
    types |= {"x": "*bf16:16", "codes": stored, "order": "*i64:16", "bounds": "*i32:16", "out": "*bf16:16"}
    constants = {
        "input_stride": 1,
        "bias": None,
        "offset": None,
        "table": None,
        "SHARE": 8,
        "EXPERTS": 128,
        "ROOM": 128,
    }
    constants |= {
        "KIND": kind,
        "GROUP": each,
        "ROWS": rows,
        "OUTPUTS": kernel.OUTPUTS,
        "STEP": kernel.STEP,
        "EVEN": True,
    }
    if kind == "plain":
        constants |= {"scale": None, "groups": 0}
    else:
        types |= {"scale": "*u8:16" if kind == "mxfp4" else "*fp32:16", "groups": "i32"}
    if kind == "table4":
        types["table"] = "*fp32:16"
        del constants["table"]
    if kind == "int4":
        types["offset"] = "*fp32:16"
        del constants["offset"]
    registers, label = COMPILED[kind][many], f"experts {kind} {rows}"
    bounds = {"registers": registers, "shared": 66_000, "stages": 4}
    check(kernel._expert_linear, types, constants, label=label, **bounds)


@COMPILED_HERE
def test_products_of_float32_fit_into_registers():
    """On the tensor cores, in three parts: one by one they spilt eight kilobytes a thread."""
    types = dict.fromkeys(("row_stride", "expert_stride", "output_stride", "outputs", "inputs"), "i32:16")
    types |= {"x": "*fp32:16", "codes": "*u8:16", "scale": "*fp32:16", "order": "*i64:16", "bounds": "*i32:16"}
    types |= {"out": "*fp32:16", "groups": "i32"}
    constants = {
        "input_stride": 1,
        "bias": None,
        "offset": None,
        "table": None,
        "SHARE": 2,
        "EXPERTS": 5,
        "ROOM": 8,
        "KIND": "fp8",
    }
    constants |= {"GROUP": 128, "ROWS": 64, "OUTPUTS": kernel.OUTPUTS, "STEP": kernel.STEP, "EVEN": False}
    bounds = {"registers": 255, "shared": 66_000, "stages": 2, "architectures": (90,)}
    check(kernel._expert_linear, types, constants, label="experts fp8 in float32", **bounds)
