"""Models that the engine would compute wrongly are refused at load, naming the feature."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.errors import LoadError, UnsupportedModelError
from engine.model.attention import NAME, paged_tree_attention
from engine.model.features import check_config
from engine.model.model import Model
from tests.engine.conftest import copy_into_engine, make_config

CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "alibi": ("Falcon", {"alibi": True}, "ALiBi"),
    "encoder": ("T5", {}, "an encoder"),
    "longrope": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "short_factor": [1.0] * 8,
                "long_factor": [2.0] * 8,
                "original_max_position_embeddings": 128,
            }
        },
        "longest sequence of a batch.*limit the context",
    ),
}


OTHER_INPUT = {
    "musicgen": "sounds, as several codes at each position",
    "musicgen_melody": "sounds, as several codes at each position",
    "blt": "bytes in patches",
    "gemma4_assistant": "the keys and values of another model",
    "gemma4_unified_assistant": "the keys and values of another model",
    "muse_glimmer_assistant": "the hidden states of another model",
}


@pytest.mark.parametrize("kind", OTHER_INPUT)
def test_kinds_that_read_no_text_alone_are_refused_by_what_they_read(kind: str, tmp_path: Path):
    """Before anything is loaded, and where `transformers` can't tell which half of a model is the text's."""
    written: dict[str, Any] = {"model_type": kind}
    if kind.startswith("musicgen"):
        written |= {part: {"model_type": name} for part, name in (("text_encoder", "t5"), ("audio_encoder", "encodec"))}
        written["decoder"] = {"model_type": f"{kind}_decoder"}
    if kind == "gemma4_assistant":
        sizes = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 0}
        written["text_config"] = {"model_type": "gemma4_text"} | sizes
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UnsupportedModelError, match=OTHER_INPUT[kind]):
        Model.load(str(tmp_path))


def load(config: Any) -> Model:
    """As `Model.load` does it, without a folder."""
    check_config(config)
    return Model(AutoModelForCausalLM.from_config(config, attn_implementation=NAME))


@pytest.mark.parametrize("name", CONFIGS)
def test_refused_by_name(name: str):
    kind, changes, words = CONFIGS[name]
    if kind in ("Mamba", "Falcon", "T5"):
        import transformers

        config = getattr(transformers, f"{kind}Config")(**changes)
    else:
        config = make_config(kind, **changes)
    with pytest.raises(UnsupportedModelError, match=words):
        load(config)


@pytest.mark.parametrize("argument", ["head_mask", "alibi", "position_bias"])
def test_attention_arguments_that_would_be_ignored_are_refused(argument: str):
    from engine.model.attention import ProbeContext, attending

    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    query = torch.randn(1, 2, 3, 8)
    with attending(ProbeContext()):
        assert paged_tree_attention(module, query, query, query, None)[0].shape == (1, 3, 2, 8)
        with pytest.raises(UnsupportedModelError):
            paged_tree_attention(module, query, query, query, None, **{argument: torch.ones(1)})
        with pytest.raises(UnsupportedModelError, match="causal"):
            paged_tree_attention(module, query, query, query, None, is_causal=False)


def test_a_model_that_computes_something_else_is_refused(weights: Any):
    """An unknown feature: the layer scales what attention returns, but only with other implementations."""
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    layer = twin.model.layers[1].self_attn.o_proj
    forward = layer.forward
    layer.forward = lambda x: forward(x) * (2.0 if twin.config._attn_implementation == "eager" else 1.0)
    with pytest.raises(UnsupportedModelError, match="does not name"):
        Model(twin)


def test_merged_linears_change_nothing(weights: Any):
    twin = copy_into_engine(weights)
    assert "k_proj.weight" not in "".join(twin._inner.state_dict())


def test_folders_that_hold_no_model(tmp_path: Path):
    with pytest.raises(LoadError):
        Model.load(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    with pytest.raises(LoadError):
        Model.load(str(tmp_path))


def test_weights_that_a_checkpoint_lacks_are_not_drawn_at_random(weights: Any, tmp_path: Path):
    weights.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        LoadError, match=r"lacks 1 of the model's weights, model\.layers\.1\.mlp\.up_proj\.weight first"
    ):
        Model.load(str(tmp_path))


@pytest.mark.parametrize("field", ["hidden_size", "vocab_size", "num_attention_heads"])
def test_a_configuration_that_does_not_fit_its_weights_is_told_in_a_line(weights: Any, tmp_path: Path, field: str):
    weights.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {field: config[field] * 2}))
    with pytest.raises(LoadError, match=r"^\S+\.weight of \S+ has the shape \[\d.*\], where \S+ makes it \[\d"):
        Model.load(str(tmp_path), dtype="float32")


@pytest.mark.parametrize("field", [{"hidden_act": "magic"}, {"rope_scaling": {"rope_type": "magic"}}])
def test_an_unknown_name_in_a_configuration_is_told(weights: Any, tmp_path: Path, field: dict[str, Any]):
    weights.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | field))
    with pytest.raises(LoadError, match="unknown name 'magic'"):
        Model.load(str(tmp_path), dtype="float32")


def test_a_configuration_of_wrong_types_is_told_in_a_line(weights: Any, tmp_path: Path):
    weights.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": "wide", "num_hidden_layers": None}))
    with pytest.raises(LoadError) as caught:
        Model.load(str(tmp_path), dtype="float32")
    assert "\n" not in str(caught.value)


def test_half_precision_is_served_too(weights: Any):
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    model = Model(twin.to(torch.bfloat16))
    assert model.dtype == torch.bfloat16
    assert model.shape.token_bytes == 2 * 2 * 2 * 16 * 2


def test_transformers_loads_models_with_our_kernels_importable(model_folder: Path):
    """`kernels` is also the name of a package that transformers looks for."""
    import kernels

    assert kernels.__doc__
    assert "bot" in kernels.__doc__
    model = Model.load(str(model_folder))
    assert model.context_length == 512
    assert model.end_tokens == {0}
