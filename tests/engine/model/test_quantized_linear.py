"""Quantised weights that stay as they are: the same numbers as the dequantised ones, by kernels and without."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.choices import WeightNumbers
from engine.core import Core
from engine.model import dequantize, quantized_linear
from engine.model.attention import ProbeContext, attending
from engine.model.experts import kept_weights
from engine.model.linear_forms import Product
from engine.model.model import Model
from engine.model.quantize import int4_of, int8_of
from engine.model.quantized import FP8, Packed, Quantized, Tabled
from engine.model.quantized_linear import (
    KINDS,
    Carried,
    QuantizedLinear,
    kept_kinds,
    kernel_for,
    quantized_linears,
    use_kernels,
)
from engine.schedule.limits import Limits
from engine.text.tokenizer import Tokenizer
from kernels.expert_linear import reference
from kernels.expert_linear.weight import KINDS as EXPERT_KINDS
from kernels.expert_linear.weight import ExpertWeight
from tests.engine.conftest import make_weights
from tests.engine.model.test_dequantize import FORMS, checkpoint, fp8_rows, same
from tests.engine.test_greedy import check, prompts

CPU = torch.device("cpu")
IN_GROUPS_OF_8_BITS = {"compressed-int8-packed"}  # no kernel of torch has these


def packed(kind: str, outputs: int = 48, inputs: int = 192) -> Packed:
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs)
    if kind == "int8":
        return int8_of(weight)
    if kind == "int4":
        found = int4_of(weight)
        assert found
        return found
    groups = 1 if kind == "fp8" else inputs // 64
    scale = torch.rand(outputs, groups) * 0.01 + 0.001
    if kind == "table4":
        return Tabled(torch.randint(0, 16, (outputs, inputs)).to(torch.uint8), torch.linspace(-1, 2, 16), scale).pack()
    index = torch.arange(inputs) * groups // inputs
    found = Quantized((weight / scale[:, index]).clamp(-448, 448).to(FP8), scale, group=index).pack()
    assert found
    return found


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows and many are multiplied by the kernel, however fast it is here."""
    monkeypatch.setattr(Product, "choose", lambda self, best: setattr(self, "_last", self.forms[0]))


# -- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
def test_a_kernel_computes_what_the_plain_weight_does(kind: str, dtype: str):
    weight = packed(kind)
    kernel = kernel_for(weight, getattr(torch, dtype))
    if kind == "fp8" and kernel is None:
        pytest.skip("torch has no FP8 product for this dtype on this CPU")
    assert kernel
    for rows in (1, 7, 33):
        x = torch.randn(rows, 192).to(getattr(torch, dtype))
        expected = x.float() @ weight.plain(torch.float32).T
        error = (kernel(x).float() - expected).square().mean().sqrt() / expected.std()
        assert error < (0.06 if kind == "fp8" else 0.01 if dtype != "float32" else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_widened_weight_is_the_plain_one(kind: str):
    weight = packed(kind)
    linear = QuantizedLinear(weight, torch.randn(48), torch.float32)
    x = torch.randn(2, 3, 192)
    torch.testing.assert_close(linear(x), nn.functional.linear(x, linear.weight, linear.bias))


def test_a_kernel_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch):
    weight = packed("int8")

    def wrong(packed: Packed, dtype: torch.dtype) -> Any:
        return lambda x: x @ packed.plain(dtype).T * 1.03

    monkeypatch.setitem(quantized_linear.KERNELS, "int8", wrong)
    assert kernel_for(weight, torch.float32) is None


def with_outliers(kind: str) -> Packed:
    """A weight in 64 groups, some of whose outputs, and some groups of inputs, are up to 3,000 times as
    large as others; of four bits with zero points as GPTQ has them.
    """
    torch.manual_seed(0)
    outputs, inputs = 256, 4096
    groups = 1 if kind == "int8" else inputs // 64
    size = torch.rand(outputs, groups) * 0.01 + 0.001
    size[::50] *= 100
    if groups > 1:
        size[:, 5] *= 30
    if kind == "int8":
        return Packed(kind, torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8), size)
    zero = torch.randint(-6, 7, (outputs, groups))
    codes = torch.randint(0, 256, (outputs, inputs // 2), dtype=torch.uint8)
    return Packed(kind, codes, size, offset=size * zero)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_outliers_are_no_reason_to_refuse(kind: str, dtype: str):
    assert kernel_for(with_outliers(kind), getattr(torch, dtype))


def wrong_scale(weight: Packed) -> Packed:
    scale = weight.scale.clone()
    scale[7, -1] *= 1.5
    return weight._replace(scale=scale)


def other_nibbles(weight: Packed) -> Packed:
    return weight._replace(codes=weight.codes << 4 | weight.codes >> 4)


def other_nibbles_of_a_small_output(weight: Packed) -> Packed:
    codes = weight.codes.clone()
    codes[7] = codes[7] << 4 | codes[7] >> 4
    return weight._replace(codes=codes)


def no_zero_points(weight: Packed) -> Packed:
    return weight._replace(offset=None)


def one_zero_point_less(weight: Packed) -> Packed:
    assert weight.offset is not None
    offset = weight.offset.clone()
    offset[7, 9] += 8 * weight.scale[7, 9]
    return weight._replace(offset=offset)


def no_number(weight: Packed) -> Packed:
    scale = weight.scale.clone()
    scale[7, 0] = torch.nan
    return weight._replace(scale=scale)


WRONG = [wrong_scale, other_nibbles, other_nibbles_of_a_small_output, no_zero_points, one_zero_point_less, no_number]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_in_one_small_output_is_seen(change: Any, dtype: str, monkeypatch: pytest.MonkeyPatch):
    """Beside outputs that are a hundred times as large."""
    right = quantized_linear.KERNELS["int4"]
    monkeypatch.setitem(quantized_linear.KERNELS, "int4", lambda weight, kind: right(change(weight), kind))
    assert kernel_for(with_outliers("int4"), getattr(torch, dtype)) is None


@pytest.mark.parametrize("name", ["fp8", "fp8-blocks"])
def test_rounding_of_inputs_to_eight_bits_does_not_hide_a_wrong_scale(name: str, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU: inputs in FP8, sums in float32."""

    def kernel(weight: Packed, wrong: bool) -> Any:
        scale = weight.scale.clone()
        scale[7, -1] *= 1.25 if wrong else 1

        def product(x: Tensor) -> Tensor:
            small, by = quantized_linear._rounded(x)
            wide = weight._replace(scale=scale).widen(torch.float32)
            return ((small.float() @ wide.T) * by).to(x.dtype)

        return product

    weight = packed(name, 64, 1024)
    for wrong in (False, True):
        monkeypatch.setitem(quantized_linear.KERNELS, name, lambda weight, kind, wrong=wrong: kernel(weight, wrong))
        assert (kernel_for(weight, torch.bfloat16) is None) == wrong


def test_a_kernel_that_refuses_a_shape_leaves_the_product_to_torch():
    linear = QuantizedLinear(packed("fp8-blocks"), None, torch.float32)  # blocks of 64, and no GPU
    before = linear(x := torch.randn(3, 192))
    assert use_kernels(nn.ModuleList([linear, nn.Linear(1, 1)])) == 1
    assert torch.equal(linear(x), before)


def test_what_is_kept_by_itself(monkeypatch: pytest.MonkeyPatch):
    """What a GPU has a kernel for; the kernels of this CPU stand for its."""
    assert kept_kinds("auto", CPU, torch.bfloat16) == frozenset()
    assert kept_kinds("native", CPU, torch.bfloat16) == {*KINDS, *(f"experts-{kind}" for kind in EXPERT_KINDS)}
    cuda = torch.device("cuda")
    monkeypatch.setattr(quantized_linear, "_example", lambda kind, device: packed(kind))
    monkeypatch.setattr(quantized_linear, "runs", lambda kind, device, dtype: kind == "mxfp4")
    found = kept_kinds("auto", cuda, torch.bfloat16)
    assert found >= {"int8", "int4"}
    assert "fp8-blocks" not in found
    assert {kind for kind in found if kind.startswith("experts-")} == {"experts-mxfp4"}
    assert kept_kinds("dequantized", cuda, torch.bfloat16) == frozenset()


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_that_are_tried_have_the_kinds_shape(kind: str):
    example = quantized_linear._example(kind, CPU)
    assert example.shape == (256, 256)
    assert example.plain(torch.float32).isfinite().all()


def test_a_table_of_four_bits_by_our_kernel(monkeypatch: pytest.MonkeyPatch):
    """As a GPU computes it, where the kernel is for experts of which there is one; here its definition."""
    weight = packed("table4")
    seen: list[ExpertWeight] = []

    def linear(x: Tensor, weight: ExpertWeight, *rest: Any) -> Tensor:
        seen.append(weight)
        return reference.expert_linear(x, weight, *rest)

    monkeypatch.setattr(quantized_linear, "linear_on", lambda device: linear)
    monkeypatch.setattr(quantized_linear, "_on_cpu", lambda packed: False)
    kernel = kernel_for(weight, torch.float32)
    assert kernel
    assert seen[0].shape == (1, 48, 192)
    x = torch.randn(7, 192)
    torch.testing.assert_close(kernel(x), x @ weight.plain(torch.float32).T, atol=1e-4, rtol=1e-4)


# -- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_is_kept(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_kernels: None):
    expected = checkpoint(tmp_path, make_weights(), *FORMS[form])
    told: list[str] = []
    monkeypatch.setattr(dequantize._log, "warning", lambda text, *values: told.append(text % values))
    model = Model.load(str(tmp_path), dtype="float32", weights=WeightNumbers(way="native"))
    linears = quantized_linears(model._inner)
    if form in IN_GROUPS_OF_8_BITS:
        assert not linears
        assert told
    else:
        assert not told
        assert len(linears) == 2 * (7 if form == "gptq" else 4)  # inputs in other orders: not merged
    same(model, expected)


@pytest.mark.parametrize("form", ["gptq", "compressed-int4-zeros", "compressed-int8", "bitsandbytes-nf4"])
def test_greedy_text_by_kernels(form: str, tmp_path: Path, tokenizer: Tokenizer, by_kernels: None):
    weights = checkpoint(tmp_path, make_weights(), *FORMS[form])
    model = Model.load(str(tmp_path), dtype="float32", weights=WeightNumbers(way="native"))
    core = Core(model, tokenizer, 100, Limits(8, prefill_chunk=19))
    check(core, weights, prompts(4, 20, 12), 8)


def test_in_bfloat16_it_is_as_exact_as_dequantised(tmp_path: Path, by_kernels: None):
    expected = checkpoint(tmp_path, make_weights(), *FORMS["compressed-int4"])
    places = torch.arange(40)
    with torch.inference_mode():
        truth = expected(places[None] + 9).logits[0]
    errors = []
    for way in ("native", "dequantized"):
        model = Model.load(str(tmp_path), dtype="bfloat16", weights=WeightNumbers(way=way))  # type: ignore[arg-type]
        with torch.inference_mode(), attending(ProbeContext(model.reaches)):
            found = model.run(places + 9, places, places)
        errors.append(float((found - truth).square().mean().sqrt() / truth.std()))
    assert errors[0] < 1.5 * errors[1]


def test_experts_are_kept_beside_linears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = make_weights("Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    weights.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        parts, plain = fp8_rows(tensors[name])
        tensors[name] = plain
        tensors |= {name.removesuffix("weight") + end: part.contiguous() for end, part in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    told: list[str] = []
    monkeypatch.setattr(dequantize._log, "warning", lambda text, *values: told.append(text % values))
    kept = Model.load(str(tmp_path), dtype="float32", weights=WeightNumbers(way="native"))
    plain = Model.load(str(tmp_path), dtype="float32", weights=WeightNumbers(way="dequantized"))
    assert len(quantized_linears(kept._inner)) == 2 * 2
    assert len(kept_weights(kept._inner)) == 2 * 2
    assert [text.split(" multiplies ")[1][:8] for text in told] == ["32 of 32"], "of the second"
    tokens = torch.arange(9, 40)
    with torch.inference_mode(), attending(ProbeContext(kept.reaches)):
        found = kept.run(tokens, tokens - 9, tokens - 9)
    with torch.inference_mode(), attending(ProbeContext(plain.reaches)):
        torch.testing.assert_close(found, plain.run(tokens, tokens - 9, tokens - 9), atol=2e-3, rtol=1e-3)


def test_what_becomes_of_a_carried_weight():
    weight = packed("int4")
    carried = Carried(weight, torch.bfloat16)
    assert isinstance(carried.to(torch.float32), Carried)
    assert isinstance(nn.Parameter(carried), Carried)
    assert torch.equal(torch.stack([carried, carried])[1], weight.plain(torch.bfloat16))
    assert torch.equal(carried[3:5], weight.plain(torch.bfloat16)[3:5])
