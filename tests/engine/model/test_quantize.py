"""Weights rounded to 8 and 4 bits: close to the exact model, and smaller; checkpoints by torchao."""

import builtins
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TorchAoConfig

from engine.core import Core
from engine.errors import LoadError, UnsupportedModelError
from engine.model.attention import NAME
from engine.model.model import Model, read_config
from engine.model.quantize import check_checkpoint, int4_of, int8_of, linear_bytes
from engine.model.quantized_linear import QuantizedLinear
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.server.process import build_core
from engine.settings import Settings
from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import make_tokenizer, make_weights

PROMPT = list(range(10, 74))


def engine_model(weights: Any, quantization: str = "none", dtype: torch.dtype = torch.float32) -> Model:
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    return Model(twin.to(dtype), quantization=quantization)


def top_logprobs(model: Model, tokenizer: Tokenizer) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary after the prompt, through the paged engine."""
    core = Core(model, tokenizer, 100, Limits(8, prefill_chunk=24))
    request = Request(PROMPT, SamplingParams(temperature=0.0, max_tokens=1, logprobs=model.vocabulary))
    (entry,) = [entry for output in core.run([request]) for entry in output.logprobs]
    return torch.tensor([value for _, value in sorted(entry.top)])


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_int8_is_close_and_takes_a_quarter(kind: str, tied: bool, tokenizer: Tokenizer):
    weights = make_weights(kind, tie_word_embeddings=tied)
    exact, small = engine_model(weights), engine_model(weights, "int8")
    truth, found = top_logprobs(exact, tokenizer), top_logprobs(small, tokenizer)
    assert not torch.equal(truth, found), "nothing was quantised"
    # Weights are rounded to 1/254 of their row's range: a few per cent of a logit's spread after two layers.
    assert (found - truth).abs().max() < 0.15 * truth.std()
    assert linear_bytes(small._inner) < 0.32 * linear_bytes(exact._inner), "a byte a weight, and a scale per row"


def test_int8_in_bfloat16(tokenizer: Tokenizer):
    weights = make_weights()
    exact = top_logprobs(engine_model(weights), tokenizer)
    found = top_logprobs(engine_model(weights, "int8", torch.bfloat16), tokenizer)
    assert (found - exact).abs().max() < 0.25 * exact.std()


def test_the_output_layer_and_embeddings_stay_exact():
    model = engine_model(make_weights(), "int8")
    assert type(model._inner.lm_head) is torch.nn.Linear
    assert type(model._inner.get_input_embeddings().weight) is torch.nn.Parameter
    layer = model._inner.model.layers[0]
    for linear in (
        layer.self_attn.q_proj.whole,
        layer.self_attn.o_proj,
        layer.mlp.gate_proj.whole,
        layer.mlp.down_proj,
    ):
        assert isinstance(linear, QuantizedLinear), "merged linears and others"


def test_int4_is_rougher_and_takes_an_eighth(tokenizer: Tokenizer):
    weights = make_weights()
    exact, small = engine_model(weights), engine_model(weights, "int4")
    truth, found = top_logprobs(exact, tokenizer), top_logprobs(small, tokenizer)
    assert not torch.equal(truth, found), "nothing was quantised"
    assert (found - truth).square().mean().sqrt() < 0.5 * truth.std()
    # Four bits a weight, and a scale and an offset for groups of 32 or 64, beside 32 bits a weight.
    assert linear_bytes(small._inner) < 0.22 * linear_bytes(exact._inner)


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_a_weight_is_rounded_to_its_nearest_level(how: str):
    torch.manual_seed(0)
    weight = torch.randn(6, 64)
    packed = int8_of(weight) if how == "int8" else int4_of(weight)
    assert packed
    error = (packed.plain(torch.float32) - weight).unflatten(1, (packed.scale.shape[1], -1)).abs().amax(2)
    assert (error <= packed.scale * 0.51).all()
    assert (error >= packed.scale * 0.3).all()


def test_what_has_no_groups_of_four_bits_stays():
    assert int4_of(torch.randn(4, 40)) is None


def save_quantized(folder: Path, weights: Any) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    plain = folder / "plain"
    weights.save_pretrained(plain)
    config = TorchAoConfig(Int8WeightOnlyConfig())
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def test_a_checkpoint_by_torchao_is_taken_as_it_is(tmp_path: Path, tokenizer: Tokenizer):
    weights = make_weights()
    save_quantized(tmp_path, weights)
    core = build_core(Settings(model=str(tmp_path), cache_tokens=1000, max_batch=4))
    truth = top_logprobs(engine_model(weights), tokenizer)
    found = top_logprobs(core.model, tokenizer)
    assert not torch.equal(truth, found)
    assert (found - truth).abs().max() < 0.15 * truth.std()
    with pytest.raises(LoadError, match="quantised already"):
        build_core(Settings(model=str(tmp_path), quantization="int8"))


def test_other_methods_are_refused_by_name(model_folder: Path, tmp_path: Path):
    config = json.loads((model_folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "hqq"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=r"weights quantised by hqq.*--quantization int8"):
        Model.load(str(tmp_path))


def test_without_torchao_it_says_what_to_install(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = json.loads((model_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "torchao"}}))
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchao"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoadError, match="pip install torchao"):
        check_checkpoint(read_config(str(tmp_path)))
