"""8-bit weights by torchao: close to the exact model, smaller, and refused with a message where it is not possible."""

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
from engine.model.model import Model
from engine.model.quantize import linear_bytes
from engine.schedule.scheduler import Limits
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
    assert type(model._inner.lm_head.weight) is torch.nn.Parameter
    assert type(model._inner.get_input_embeddings().weight) is torch.nn.Parameter
    layer = model._inner.model.layers[0]
    for linear in (layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.down_proj):
        assert type(linear.weight) is not torch.nn.Parameter, "merged linears and others"


def test_int4_says_what_it_needs():
    with pytest.raises(LoadError, match="int4 weights need CUDA and bfloat16, this is cpu and float32"):
        engine_model(make_weights(), "int4")


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


def test_without_torchao_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchao"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoadError, match="pip install torchao"):
        engine_model(make_weights(), "int8")
