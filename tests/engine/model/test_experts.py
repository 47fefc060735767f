"""Experts by our kernel: the numbers of `transformers`, nothing that a CUDA graph can't record, and few bits kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from engine.choices import WeightNumbers
from engine.model import dequantize, experts
from engine.model.attention import ProbeContext, attending
from engine.model.experts import ExpertsForward, compute_alike, expert_modules, kept_weights, use_kernels_for_experts
from engine.model.model import Model
from engine.model.upcast import float32_weights
from kernels.expert_linear import reference, weight
from kernels.expert_linear import triton as kernel
from kernels.expert_linear.reference import Groups
from kernels.expert_linear.weight import ExpertWeight
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import config_of
from tests.engine.model.test_dequantize import FORMS, checkpoint
from tests.engine.run.capturing import recording
from tests.kernels.interpreting import DEVICE, DTYPES, interpret

interpret()
SIMULATED = pytest.mark.skipif(DEVICE == "cuda", reason="there it is no simulation")
SIZES: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
KINDS = (
    "qwen3_moe",
    "mixtral",
    "gpt_oss",
    "glm4_moe",
    "deepseek_v3",
    "qwen3_next",
    "granitemoe",
    "nemotron_h",
    "aria_text",
)


def block(kind: str, **sizes: int) -> tuple[nn.Module, Any]:
    """A layer's block of experts, its router included, and the experts."""
    torch.manual_seed(0)
    config = config_of(kind)
    config.update(sizes)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).to(DEVICE)
    for parameter in model.parameters():
        parameter.normal_(0, 0.3)
    name, found = next((name, each) for name, each in model.named_modules() if experts.knows(each))
    return model.get_submodule(name.rpartition(".")[0]), found


def result(run: Any, x: Tensor) -> Tensor:
    found = run(x)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_transformers_without_waiting_for_the_device(kind: str):
    """The whole block, router included, as it is recorded in a decoding step."""
    run, module = block(kind)
    x = torch.randn(1, 7, config_of(kind).hidden_size, device=DEVICE)
    expected = result(run, x)
    for linear in (reference.expert_linear, kernel.expert_linear):
        module.forward = ExpertsForward(module, linear)
        torch.testing.assert_close(result(run, x), expected, atol=1e-4, rtol=1e-4)
    if DEVICE == "cpu":
        with recording() as seen:
            found = result(run, x)
        seen.end(found)
        assert not seen.faults
        assert sum(event[0] == "launch _expert_linear" for event in seen.events) == 2


@SIMULATED
def test_on_a_gpu_experts_are_ours_where_torch_has_no_kernel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experts, "on_gpu", lambda weight: True)
    monkeypatch.setattr(experts, "linear_on", lambda device: kernel.expert_linear)
    monkeypatch.setattr(experts, "has_grouped_kernel", lambda like: False)
    run, _ = block("qwen3_moe")
    x = torch.randn(1, 3, 64, device=DEVICE)
    expected = run(x)
    assert use_kernels_for_experts(run) == 1
    with recording() as seen:
        torch.testing.assert_close(run(x), expected, atol=1e-4, rtol=1e-4)
    assert [event[0] for event in seen.events].count("launch _expert_linear") == 2
    assert use_kernels_for_experts(run) == 0, "a forward of ours, or of a split model, is left alone"


@SIMULATED
def test_on_a_gpu_the_faster_way_computes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experts, "on_gpu", lambda weight: True)
    monkeypatch.setattr(experts, "linear_on", lambda device: kernel.expert_linear)
    monkeypatch.setattr(experts, "has_grouped_kernel", lambda like: True)
    monkeypatch.setattr(experts, "try_forms", lambda products, like: [0, 0, 0])  # up to two rows
    run, _ = block("qwen3_moe")
    assert use_kernels_for_experts(run) == 1
    for rows, launches in ((2, 2), (3, 0)):
        with recording() as seen:
            run(torch.randn(1, rows, 64, device=DEVICE))
        assert [event[0] for event in seen.events].count("launch _expert_linear") == launches


@SIMULATED
def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experts, "on_gpu", lambda weight: True)
    monkeypatch.setattr(experts, "linear_on", lambda device: lambda x, *rest: kernel.expert_linear(x, *rest) * 1.01)
    run, module = block("qwen3_moe")
    assert use_kernels_for_experts(run) == 0
    assert "forward" not in module.__dict__


def test_a_row_is_the_same_whatever_the_others_choose():
    """In float32 a library takes another kernel for up to three rows."""
    run, module = block("qwen3_moe")
    x = torch.randn(32, 64, device=DEVICE)
    index, weights = torch.tensor([[0, 1]] * 32, device=DEVICE), torch.full((32, 2), 0.5, device=DEVICE)
    expected = module(x, index, weights)
    if DEVICE == "cpu":
        assert compute_alike(run) == 1
    found = module(x, index, weights)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for alone in (1, 2, 3, 17):
        others = torch.where(torch.arange(32, device=DEVICE)[:, None] < alone, index, 3 - index)
        assert torch.equal(module(x, others, weights)[:alone], found[:alone])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", weight.KINDS)
def test_kinds_of_few_bits_that_a_gpu_computes(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experts, "linear_on", lambda device: kernel.expert_linear)
    assert experts.runs(kind, torch.device(DEVICE), dtype)
    monkeypatch.setattr(experts, "linear_on", lambda device: lambda x, *rest: kernel.expert_linear(x, *rest) * 1.1)
    assert not experts.runs(kind, torch.device(DEVICE), dtype)


def with_another_scale(x: Tensor, weight: ExpertWeight, *rest: Any) -> Tensor:
    scale = weight.scale
    if scale is not None:
        scale = scale.clone()
        scale[-1, 7, -1] += 1 if weight.kind == "mxfp4" else 0.5 * scale[-1, 7, -1]
    return reference.expert_linear(x, weight._replace(scale=scale), *rest)


def with_the_scales_of_another(x: Tensor, weight: ExpertWeight, *rest: Any) -> Tensor:
    scale = weight.scale
    return reference.expert_linear(x, weight._replace(scale=None if scale is None else scale.roll(1, 0)), *rest)


def with_other_signs(x: Tensor, weight: ExpertWeight, *rest: Any) -> Tensor:
    """Of FP8."""
    codes = (weight.codes.view(torch.uint8) & 0x7F).view(weight.codes.dtype)
    return reference.expert_linear(x, weight._replace(codes=codes), *rest)


def without_zero_points(x: Tensor, weight: ExpertWeight, *rest: Any) -> Tensor:
    return reference.expert_linear(x, weight._replace(offset=None), *rest)


def with_a_swapped_block(x: Tensor, weight: ExpertWeight, groups: Groups, *rest: Any) -> Tensor:
    """Of the last expert, whose products are small."""
    found = reference.expert_linear(x, weight, groups, *rest)
    last = groups.order[int(groups.bounds[-2]) :]
    found[last[:, None], torch.arange(16)] = found[last[:, None], torch.arange(16).roll(8)]
    return found


def with_a_row_of_another(x: Tensor, weight: ExpertWeight, groups: Groups, *rest: Any) -> Tensor:
    found = reference.expert_linear(x, weight, groups, *rest)
    last = groups.order[-2:]
    found[last] = found[last.flip(0)]
    return found


def without_a_number(x: Tensor, *rest: Any) -> Tensor:
    found = reference.expert_linear(x, *rest)
    found[-1, 5] = torch.nan
    return found


WRONG = [("fp8", with_other_signs), ("int4", without_zero_points)]
for each in (
    with_another_scale,
    with_the_scales_of_another,
    with_a_swapped_block,
    with_a_row_of_another,
    without_a_number,
):
    WRONG += [(kind, each) for kind in ("mxfp4", "int8")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "wrong"), WRONG)
def test_what_is_wrong_in_small_products_is_seen(
    kind: str, wrong: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    """Beside those of experts that are some 60 times as large."""
    for function, right in ((reference.expert_linear, True), (wrong, False)):
        monkeypatch.setattr(experts, "linear_on", lambda device, function=function: function)
        assert experts.runs(kind, torch.device("cpu"), dtype) == right


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wrong", [with_a_swapped_block, with_a_row_of_another, without_a_number, None])
def test_what_is_wrong_in_one_plain_expert_is_seen(wrong: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """In sizes of real models, where some features are 100 times as large as others, and the last expert is small."""
    run, module = block("qwen3_moe", hidden_size=1024, moe_intermediate_size=512)
    module.down_proj[:, [3, 500, 900]] *= 100
    module.down_proj[-1] /= 50
    module.gate_up_proj /= 10
    module.gate_up_proj[-1] /= 50
    module.to(dtype)
    monkeypatch.setattr(experts, "on_gpu", lambda weight: True)
    monkeypatch.setattr(experts, "has_grouped_kernel", lambda like: False)
    monkeypatch.setattr(experts, "linear_on", lambda device: wrong or reference.expert_linear)
    assert use_kernels_for_experts(run) == (not wrong)


# -- few bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("compressed-int8-packed", "gptq")])
def test_experts_keep_their_few_bits(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    monkeypatch.setattr(dequantize._log, "warning", lambda text, *values: told.append(text % values))
    expected = checkpoint(tmp_path, make_weights("Qwen3Moe", **SIZES), *FORMS[form])
    model = Model.load(str(tmp_path), dtype="float32", device="cpu", weights=WeightNumbers(way="native"))
    assert not told, "nothing is dequantised"
    kept = kept_weights(model._inner)
    assert [count for _, count in kept] == [8, 4] * 2  # gate and up of four experts, down of four
    plain = sum(each.numel() for name, each in expected.named_parameters() if ".experts." in name)
    taken = sum(each.bytes for each, _ in kept) / plain
    assert taken < (0.9 if "int4" in form or form == "awq" else 1.2), "bytes a number, groups of 32 with their scales"
    tokens, places = torch.arange(9, 60), torch.arange(51)
    with torch.inference_mode(), attending(ProbeContext(model.reaches)):
        found = model.run(tokens, places, places)
        wanted = expected(tokens[None]).logits[0]
    # Linears beside experts are multiplied by torch's kernels, whose rounding may choose other experts.
    errors = (found - wanted).abs().amax(1) / wanted.std()
    assert errors.median() < 0.1


def test_orders_of_inputs_that_differ_are_dequantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    monkeypatch.setattr(dequantize._log, "warning", lambda text, *values: told.append(text % values))
    checkpoint(tmp_path, make_weights("Qwen3Moe", **SIZES), *FORMS["gptq"])
    model = Model.load(str(tmp_path), dtype="float32", device="cpu", weights=WeightNumbers(way="native"))
    assert "multiplies 16 of 32" in told[0]
    assert [count for _, count in kept_weights(model._inner)] == [4] * 2, "down, whose inputs are one group"


@SIMULATED
@pytest.mark.parametrize("form", ["fp8-blocks", "awq"])
def test_experts_of_few_bits_by_the_kernel(form: str, tmp_path: Path):
    """Exactly what is dequantised, and in float32 as in the model's own dtype."""
    expected = checkpoint(tmp_path, make_weights("Qwen3Moe", **SIZES), *FORMS[form])
    model = Model.load(str(tmp_path), dtype="float32", device="cpu", weights=WeightNumbers(way="native"))
    (first, *_), (plain, *_) = expert_modules(model._inner), expert_modules(expected)
    x, index = torch.randn(9, 64), torch.rand(9, 4).argsort(1)[:, :2]
    weights = torch.rand(9, 2)
    with torch.inference_mode():
        wanted = plain(x, index, weights)
        torch.testing.assert_close(first(x, index, weights), wanted, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(
            ExpertsForward(first, kernel.expert_linear)(x, index, weights), wanted, atol=1e-3, rtol=1e-4
        )
        with float32_weights(first):
            torch.testing.assert_close(first(x, index, weights), wanted, atol=1e-3, rtol=1e-4)


@SIMULATED
def test_mxfp4_experts_stay_as_they_are(tmp_path: Path):
    """gpt-oss: half a byte a number and a scale for 32, biases beside them."""
    sizes = {"sliding_window": 32, "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size": 64}
    weights = make_weights("GptOss", attention="eager", **sizes)
    weights.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        count, columns, rows = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (count, rows, columns // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 127, (count, rows, columns // 32), dtype=torch.uint8)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    kept, plain = (
        Model.load(str(tmp_path), dtype="float32", device="cpu", weights=WeightNumbers(way=way))  # type: ignore[arg-type]
        for way in ("native", "dequantized")
    )
    assert not kept_weights(plain._inner)
    numbers = 2 * 2 * (64 * 128 + 64 * 64)  # of two layers with two experts
    assert sum(each.bytes for each, _ in kept_weights(kept._inner)) == numbers / 2 + numbers / 32
    (first, *_), (other, *_) = expert_modules(kept._inner), expert_modules(plain._inner)
    x, index, weighs = torch.randn(9, 64), torch.arange(9)[:, None] % 2, torch.rand(9, 1)
    with torch.inference_mode():
        wanted = other(x, index, weighs)
        torch.testing.assert_close(first(x, index, weighs), wanted, atol=1e-3, rtol=1e-4)
        by_kernel = ExpertsForward(first, kernel.expert_linear)(x, index, weighs)
        torch.testing.assert_close(by_kernel, wanted, atol=1e-3, rtol=1e-4)
