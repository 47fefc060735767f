"""Quantised checkpoints as people download them: tiny ones, made here number by number, give the dequantised model."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig

from engine.errors import LoadError, UnsupportedModelError
from engine.model import dequantize
from engine.model.attention import ProbeContext, attending
from engine.model.dequantize import Target, dequantized
from engine.model.formats import AWQ_ORDER
from engine.model.memory import size
from engine.model.model import Model
from engine.model.quantization_config import method_of, packing_of
from engine.model.stored import Progress, open_weights
from tests.engine.conftest import make_weights

Tensors = dict[str, Tensor]
Quantizer = Callable[[Tensor], tuple[Tensors, Tensor]]  # parts by the ends of their names, and the plain weight
GROUP = 32
DATA = Path(__file__).parents[2] / "data"


def pack(numbers: Tensor, bits: int, dim: int) -> Tensor:
    """Unsigned numbers into int32 one by one, the lowest bits first."""
    rows = numbers if dim == 1 else numbers.T
    each = 32 // bits
    packed = [
        [sum(int(row[at + place]) << (bits * place) for place in range(each)) for at in range(0, len(row), each)]
        for row in rows.tolist()
    ]
    found = torch.tensor([[word - (1 << 32) if word >= 1 << 31 else word for word in row] for row in packed])
    return (found if dim == 1 else found.T).to(torch.int32).contiguous()


def fp8_blocks(weight: Tensor) -> tuple[Tensors, Tensor]:
    rows, columns = weight.shape
    scale = torch.rand(math.ceil(rows / GROUP), math.ceil(columns / GROUP)) * 0.01 + 0.001
    wide = torch.stack([scale[r // GROUP, torch.arange(columns) // GROUP] for r in range(rows)])
    small = (weight / wide).clamp(-448, 448).to(torch.float8_e4m3fn)
    return {"weight": small, "weight_scale_inv": scale}, small.float() * wide


def fp8_powers(weight: Tensor) -> tuple[Tensors, Tensor]:
    """As DeepSeek V4 has them, with scales that are powers of two in a byte."""
    parts, _ = fp8_blocks(weight)
    scale = parts["weight_scale_inv"].log2().round().exp2()
    wide = scale.repeat_interleave(GROUP, 0).repeat_interleave(GROUP, 1)[: weight.shape[0], : weight.shape[1]]
    small = (weight / wide).clamp(-448, 448).to(torch.float8_e4m3fn)
    return {"weight": small, "scale": scale.to(torch.float8_e8m0fnu)}, small.float() * wide


def fp4_powers(weight: Tensor) -> tuple[Tensors, Tensor]:
    """As DeepSeek V4 has its experts: numbers of 4 bits by the standard, with a scale for 32."""
    magnitudes = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    groups = weight.unflatten(1, (-1, 32))
    scale = (groups.abs().amax(2) / 6).log2().ceil().exp2()
    codes = (groups / scale[..., None]).abs()[..., None].sub(magnitudes).abs().argmin(-1)
    plain = (magnitudes[codes] * groups.sign() * scale[..., None]).flatten(1)
    codes = (codes + 8 * (groups < 0)).flatten(1).to(torch.uint8)
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).view(torch.int8)
    return {"weight": packed, "scale": scale.to(torch.float8_e8m0fnu)}, plain


def fp8_tensor(weight: Tensor) -> tuple[Tensors, Tensor]:
    scale = weight.abs().max() / 448
    small = (weight / scale).to(torch.float8_e4m3fn)
    parts = {"weight": small, "weight_scale": scale[None], "input_scale": torch.ones(1)}
    return parts, small.float() * scale


def fp8_rows(weight: Tensor) -> tuple[Tensors, Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 448
    small = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": small, "weight_scale": scale}, small.float() * scale


def signed(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Symmetric: numbers, scales `[out, groups]`, the plain weight."""
    cut = weight.unflatten(1, (-1, group))
    scale = cut.abs().amax(2) / (2 ** (bits - 1) - 1)
    numbers = (cut / scale[..., None]).round()
    return numbers.flatten(1).int(), scale, (numbers * scale[..., None]).flatten(1)


def ints_packed(weight: Tensor, bits: int = 4) -> tuple[Tensors, Tensor]:
    numbers, scale, plain = signed(weight, bits, GROUP)
    packed = pack(numbers + 2 ** (bits - 1), bits, 1)
    return {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor(weight.shape)}, plain


def ints_packed_8(weight: Tensor) -> tuple[Tensors, Tensor]:
    return ints_packed(weight, 8)


def ints_with_zeros(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, zero, scale, plain = unsigned(weight)
    parts = {"weight_packed": pack(numbers, 4, 1), "weight_zero_point": pack(zero, 4, 0), "weight_scale": scale}
    return parts | {"weight_shape": torch.tensor(weight.shape)}, plain


def int8_rows(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, scale, plain = signed(weight, 8, weight.shape[1])
    return {"weight": numbers.to(torch.int8), "weight_scale": scale}, plain


def unsigned(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Asymmetric, 4 bits: numbers, zeros and scales `[out, groups]`, the plain weight. Zeros are at least 1."""
    cut = weight.unflatten(1, (-1, GROUP))
    low, high = cut.amin(2).clamp(max=0), cut.amax(2).clamp(min=0)
    scale = (high - low) / 14
    zero = (-low / scale).round().clamp(1, 15)
    numbers = (cut / scale[..., None] + zero[..., None]).round().clamp(0, 15)
    plain = ((numbers - zero[..., None]) * scale[..., None]).flatten(1)
    return numbers.flatten(1).int(), zero.int(), scale, plain


def gptq_parts(weight: Tensor) -> tuple[Tensors, Tensor]:
    """With its columns in another order (act-order), as `g_idx` says."""
    order = torch.randperm(weight.shape[1])
    numbers, zero, scale, plain = unsigned(weight[:, order])
    back = order.argsort()
    parts = {
        "qweight": pack(numbers[:, back].T, 4, 0),
        "qzeros": pack(zero.T - 1, 4, 1),
        "scales": scale.T.contiguous(),
    }
    return parts | {"g_idx": (back // GROUP).int()}, plain[:, back]


def awq_parts(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, zero, scale, plain = unsigned(weight)
    place = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # the order in which AWQ's packer takes them

    def packed(found: Tensor) -> Tensor:
        return pack(found.T.unflatten(1, (-1, 8))[:, :, place].flatten(1), 4, 1)

    return {"qweight": packed(numbers), "qzeros": packed(zero), "scales": scale.T.contiguous()}, plain


def bitsandbytes_rows(weight: Tensor) -> tuple[Tensors, Tensor]:
    largest = weight.abs().amax(1)
    numbers = (weight * 127 / largest[:, None]).round()
    parts = {"weight": numbers.to(torch.int8), "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, numbers * largest[:, None] / 127


def bitsandbytes_nf4(weight: Tensor) -> tuple[Tensors, Tensor]:
    """Values of any kind in a table: what it is filled with is the checkpoint's own."""
    table, blocks = torch.linspace(-1, 1, 16) ** 3, weight.reshape(-1, GROUP)
    largest = blocks.abs().amax(1)
    numbers = (blocks[..., None] / largest[:, None, None] - table).abs().argmin(-1).to(torch.uint8)
    state = json.dumps({"blocksize": GROUP, "shape": list(weight.shape)}).encode()
    pairs = numbers.view(-1, 2)
    parts = {"weight": (pairs[:, :1] << 4) | pairs[:, 1:], "weight.absmax": largest, "weight.quant_map": table}
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(state), dtype=torch.uint8)
    return parts, (table[numbers.int()] * largest[:, None]).view(weight.shape)


def group_of(kind: str, bits: int) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"type": kind, "num_bits": bits}}}}


def compressed(layout: str, kind: str, bits: int) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "format": layout} | group_of(kind, bits)


FORMS: dict[str, tuple[Quantizer, dict[str, Any]]] = {
    "fp8-blocks": (fp8_blocks, {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}),
    "fp8-tensor": (fp8_tensor, {"quant_method": "fp8"}),
    "fp8-powers": (fp8_powers, {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}),
    "fp4-powers": (fp4_powers, {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}),
    "compressed-fp8": (fp8_rows, compressed("float-quantized", "float", 8)),
    "compressed-int4": (ints_packed, compressed("pack-quantized", "int", 4)),
    "compressed-int4-zeros": (ints_with_zeros, compressed("pack-quantized", "int", 4)),
    "compressed-int8-packed": (ints_packed_8, compressed("pack-quantized", "int", 8)),
    "compressed-int8": (int8_rows, compressed("int-quantized", "int", 8)),
    "gptq": (gptq_parts, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True}),
    "awq": (awq_parts, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
    "bitsandbytes": (bitsandbytes_rows, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "bitsandbytes-nf4": (bitsandbytes_nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
}


def checkpoint(folder: Path, weights: Any, quantizer: Quantizer, fields: dict[str, Any]) -> Any:
    """Quantise the linears of a model into a folder, those of experts too; returns the model as it is dequantised."""
    twin = folder / "plain"
    for place in (folder, twin):
        weights.save_pretrained(place)
    tensors = load_file(folder / "model.safetensors")
    found: Tensors = {}
    for name, tensor in tensors.items():
        if not name.endswith("proj.weight"):
            found[name] = tensor
            continue
        parts, plain = quantizer(tensor)
        found |= {name.removesuffix("weight") + end: part.contiguous() for end, part in parts.items()}
        tensors[name] = plain.contiguous()
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(tensors, twin / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": fields}))
    attention = weights.config._attn_implementation
    return type(weights).from_pretrained(twin, attn_implementation=attention, dtype=weights.dtype).eval()


def same(model: Model, expected: Any) -> None:
    tokens, places = torch.arange(9, 60), torch.arange(51)
    with torch.inference_mode(), attending(ProbeContext(model.reaches)):
        found = model.run(tokens, places, places)
        torch.testing.assert_close(found, expected(tokens[None]).logits[0], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_is_dequantised(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = checkpoint(tmp_path, make_weights(), *FORMS[form])
    told: list[str] = []
    monkeypatch.setattr(dequantize._log, "warning", lambda text, *values: told.append(text % values))
    model = Model.load(str(tmp_path), dtype="float32")
    needed = sum(tensor.numel() for tensor in expected.state_dict().values()) * 4
    assert len(told) == 1
    assert f"dequantised: {size(needed)} in memory" in told[0]
    same(model, expected)


def test_parameters_that_are_called_scale_are_no_scales(tmp_path: Path):
    """Beside no weight, and beside a plain one."""
    stored = {"router.scale": torch.ones(4), "norm.scale": torch.ones(4), "norm.weight": torch.ones(4)}
    save_file(stored, tmp_path / "model.safetensors")
    found = open_weights(tmp_path, Progress("a"))
    config = LlamaConfig(quantization_config={"quant_method": "fp8"})
    read = dequantized(found, config, Target(torch.float32))
    assert read == found
    dequantize.check_plain(read)


def test_mxfp4_experts_beside_plain_weights(tmp_path: Path):
    """As gpt-oss has them; numbers and scales one by one by the standard."""
    weights = make_weights("GptOss", attention="eager", sliding_window=32, num_local_experts=2, num_experts_per_tok=1)
    weights.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, columns, rows = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
        scales = torch.randint(120, 127, (experts, rows, columns // 32), dtype=torch.uint8)
        plain = torch.zeros(experts, columns, rows)
        for index in torch.cartesian_prod(*(torch.arange(count) for count in blocks.shape)).tolist():
            expert, row, group, at = index
            byte, scale = int(blocks[expert, row, group, at]), 2.0 ** (int(scales[expert, row, group]) - 127)
            for half, nibble in enumerate((byte & 15, byte >> 4)):
                value = magnitudes[nibble & 7] * (-1 if nibble & 8 else 1)
                plain[expert, group * 32 + 2 * at + half, row] = value * scale
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        weights.get_parameter(name).data.copy_(plain)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    same(Model.load(str(tmp_path), dtype="float32"), weights)


REFUSED = {
    "hqq": ({"quant_method": "hqq"}, "hqq"),
    "three-bits": ({"quant_method": "gptq", "bits": 3}, "3 bits"),
    "nvfp4": (compressed("nvfp4-pack-quantized", "float", 4), "nvfp4"),
    "awq-gemv": ({"quant_method": "awq", "version": "gemv"}, "version gemv"),
    "gptq-dynamic": ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*up_proj": {"bits": 8}}}, "bits of their own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_formats_are_refused_by_name(name: str, tmp_path: Path):
    checkpoint(tmp_path, make_weights(), awq_parts, REFUSED[name][0])
    with pytest.raises(UnsupportedModelError, match=REFUSED[name][1]):
        Model.load(str(tmp_path), dtype="float32")


@pytest.mark.parametrize("form", ["gptq", "fp8-tensor", "bitsandbytes", "compressed-int4"])
def test_weights_of_which_the_configuration_says_nothing_are_not_taken_for_plain_ones(form: str, tmp_path: Path):
    """Some tools write how they quantise into a file of their own: `quantize_config.json`, `hf_quant_config.json`."""
    checkpoint(tmp_path, make_weights(), FORMS[form][0], {})
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match=r"mlp\.down_proj\.\w+ \(\w+\) is quantised, and quantization_config"):
        Model.load(str(tmp_path), dtype="float32")


def test_a_quantised_weight_without_its_scale_is_not_taken_for_a_plain_one(tmp_path: Path):
    checkpoint(tmp_path, make_weights(), *FORMS["fp8-tensor"])
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight_scale"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"layers\.1\.mlp\.up_proj\.weight \(F8_E4M3\) is quantised"):
        Model.load(str(tmp_path), dtype="float32")


@pytest.mark.parametrize("block", [[128, 64], "128x64"])
def test_blocks_as_compressed_tensors_wrote_them_at_first(block: Any):
    group = {"weights": {"type": "float", "num_bits": 8, "block_structure": block}}
    config = LlamaConfig(quantization_config={"quant_method": "compressed-tensors", "config_groups": {"0": group}})
    assert packing_of(config).block == (128, 64)


DAMAGED: dict[str, tuple[Any, str]] = {
    "a-list": ([1], r"config is \[1\]"),
    "a-text": ("gptq", "config is 'gptq'"),
    "no-method": ({"bits": 4}, "quant_method is None"),
    "method": ({"quant_method": 5}, "quant_method is 5"),
    "bits-in-words": ({"quant_method": "gptq", "bits": "four"}, "bits is 'four'"),
    "bits-true": ({"quant_method": "gptq", "bits": True}, "bits is True"),
    "no-bits-at-all": ({"quant_method": "gptq", "bits": 0}, "bits is 0"),
    "dynamic": ({"quant_method": "gptq", "bits": 4, "dynamic": ["a"]}, r"dynamic is \['a'\]"),
    "version": ({"quant_method": "awq", "version": 5}, "version is 5"),
    "block": ({"quant_method": "fp8", "weight_block_size": 128}, "weight_block_size is 128"),
    "block-of-one": ({"quant_method": "fp8", "weight_block_size": [128]}, r"weight_block_size is \[128\]"),
    "block-of-none": ({"quant_method": "fp8", "weight_block_size": [0, 0]}, r"weight_block_size is \[0, 0\]"),
    "block-in-words": ({"quant_method": "fp8", "weight_block_size": "big"}, "weight_block_size"),
    "format": ({"quant_method": "compressed-tensors", "format": 5}, "format is 5"),
    "groups": ({"quant_method": "compressed-tensors", "config_groups": [1]}, r"config_groups is \[1\]"),
    "group": ({"quant_method": "compressed-tensors", "config_groups": {"g": ["Linear"]}}, r"config_groups\.g is"),
    "weights": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": "4"}}}},
        r"config_groups\.g\.weights\.num_bits is '4'",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_configuration_is_told_with_its_field(name: str):
    said, words = DAMAGED[name]
    config = LlamaConfig()
    config.quantization_config = said
    with pytest.raises(
        LoadError, match=rf"^config\.json: quantization_{words}.*: correct it|quantization_config\.{words}"
    ):
        method_of(config)


@pytest.mark.parametrize("block", [[16, 16], [48, 48], [64, 64]])
def test_blocks_that_do_not_fit_their_scales_are_told(block: list[int], tmp_path: Path):
    checkpoint(tmp_path, make_weights(), fp8_blocks, {"quant_method": "fp8", "weight_block_size": block})
    with pytest.raises(
        LoadError, match=rf"no scale for each block of {block[0]} x .*does quantization_config of config"
    ):
        Model.load(str(tmp_path), dtype="float32")


def test_a_missing_part_is_told(tmp_path: Path):
    checkpoint(tmp_path, make_weights(), gptq_parts, FORMS["gptq"][1])
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.scales"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"layers\.1\.mlp\.up_proj\.scales is missing, a part of"):
        Model.load(str(tmp_path), dtype="float32")


def test_a_part_of_another_shape_is_told(tmp_path: Path):
    checkpoint(tmp_path, make_weights(), gptq_parts, FORMS["gptq"][1])
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.scales"] = torch.ones(1, 96)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"layers\.1\.mlp\.up_proj\.weight cannot be dequantised .*scales \[1, 96\]"):
        Model.load(str(tmp_path), dtype="float32")


@pytest.mark.parametrize("name", ["int8", "nf4", "nf4_in_bfloat16", "nf4_double", "fp4", "fp4_double"])
def test_weights_by_bitsandbytes_are_what_it_makes_of_them_itself(name: str):
    """`tests/data/bitsandbytes/make.py` says how they were made."""
    stored = open_weights(DATA / "bitsandbytes", Progress("data"))
    config = LlamaConfig(quantization_config={"quant_method": "bitsandbytes"})
    found = dequantized(stored, config, Target(torch.float32))
    expected = found[f"{name}.expected"][...]
    assert torch.equal(found[f"{name}.weight"][...].to(expected.dtype), expected)


def test_the_order_of_awq_is_the_inverse_of_its_packers():
    assert sorted(range(8), key=[0, 2, 4, 6, 1, 3, 5, 7].__getitem__) == list(AWQ_ORDER)
