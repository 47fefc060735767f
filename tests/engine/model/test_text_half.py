"""The text half of models that also take images: loaded alone from the whole checkpoint, and equal to it on text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.core import Core
from engine.errors import UnsupportedModelError
from engine.model.attention import ProbeContext, attending
from engine.model.model import Model, read_config
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost
from tests.engine.conftest import SIZES, make_tokenizer
from tests.engine.kinds.tiny import INDEXED, LATENT, QWEN4, mrope
from tests.engine.test_greedy import check_at_once, prompts

SIGHT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "depth": 1}
MROPE = mrope(2, 3, 3)
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
SEEING = SIGHT | {"embed_dim": 32, "num_heads": 2, "out_hidden_size": 64, "num_position_embeddings": 16}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
WRAPPERS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "mistral3": ("Mistral3", {"model_type": "mistral", "sliding_window": None}, SIGHT, "mistral"),
    "qwen2-vl": ("Qwen2VL", {"rope_parameters": MROPE}, SEEING | {"hidden_size": 64}, "qwen2"),
    "qwen2.5-vl": ("Qwen2_5_VL", {"rope_parameters": MROPE}, SEEING | {"fullatt_block_indexes": [0]}, "qwen2"),
    "qwen3-vl": ("Qwen3VL", {"rope_parameters": MROPE}, SEEING | {"deepstack_visual_indexes": [0]}, "qwen3"),
    "qwen3-vl-moe": (
        "Qwen3VLMoe",
        {"rope_parameters": MROPE, **EXPERTS},
        SEEING | {"deepstack_visual_indexes": [0]},
        "qwen3_moe",
    ),
    "gemma3": ("Gemma3", {"sliding_window": 24}, SIGHT, "gemma3_text"),
    "llama4": (
        "Llama4",
        {"attention_chunk_size": 16, "num_local_experts": 4, "intermediate_size_mlp": 96},
        SIGHT | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
        "llama4_text",
    ),
    "mistral4": ("Mistral3", {"model_type": "mistral4", **LATENT, **ROUTED}, SIGHT, "mistral4"),
    "glm4v": ("Glm4v", {"rope_parameters": MROPE}, SEEING, "glm4v_text"),
    "glm4v-moe": ("Glm4vMoe", {"rope_parameters": MROPE, **ROUTED}, SEEING, "glm4v_moe_text"),
    "mistral-large4": ("MistralLarge4", INDEXED | ROUTED | {"pad_token_id": 1}, SIGHT, "mistral_large4_text"),
    "hy-v4-vl": ("HYV4VL", INDEXED | ROUTED | {"rope_parameters": mrope(2, 1, 1)}, SEEING, "hy_v4_vl_text"),
    "step3.7": ("Step3p7", ROUTED | {"pad_token_id": 1, "sliding_window": 24}, SIGHT, "step3p5"),
    "muse-spark": ("MuseSpark", ROUTED, SIGHT, "muse_spark_text"),
    "muse-glimmer": ("MuseGlimmer", ROUTED, SIGHT, "muse_glimmer_text"),
    "qwen4": (
        "Qwen4Exp",
        QWEN4 | EXPERTS,
        SEEING | {"deepstack_visual_indexes": [0]},
        "qwen4_exp_text",
    ),
    "llava": ("Llava", {"model_type": "llama"}, SIGHT, "llama"),
}


def whole(name: str) -> Any:
    """A whole tiny model."""
    kind, text, sight, _ = WRAPPERS[name]
    config = getattr(transformers, f"{kind}Config")(
        text_config=SIZES | text,
        vision_config=sight,
        tie_word_embeddings=False,
        image_token_id=5,
        video_token_id=6,
        **({"audio_config": {"out_hidden_size": SIZES["hidden_size"]}} if name.startswith("muse") else {}),
    )
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}ForConditionalGeneration")._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_text_half_computes_what_the_whole_computes(name: str, tmp_path: Path):
    made = whole(name)
    made.save_pretrained(tmp_path)
    assert read_config(str(tmp_path)).model_type == WRAPPERS[name][3]
    model = Model.load(str(tmp_path), dtype="float32")
    assert model._inner.num_parameters() < made.num_parameters()
    reference = made.language_model if name == "llama4" else made  # which wants an image in that version
    core = Core(model, Tokenizer(make_tokenizer()), 200, Limits(block_size=8, prefill_chunk=19), RunOptions(CutCost(0)))
    texts = [[token if token > 8 else 9 for token in text] for text in prompts(4, 30, 20, seed=3)]
    check_at_once(core, reference, texts, 6)


FORMS = {
    "new": ("model.language_model.", "lm_head."),
    "older": ("language_model.model.", "language_model.lm_head."),
    "oldest": ("model.", "lm_head."),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_weights_in_older_checkpoints(form: str, tmp_path: Path):
    made = whole("qwen2.5-vl")
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    forms = list(FORMS.values())
    body, head = next(each for each in forms if any(name.startswith(each[0]) and "norm" in name for name in tensors))
    renamed = {}
    for name, value in tensors.items():
        new = name.replace(body, FORMS[form][0], 1) if name.startswith(body) else name
        renamed[new.replace(head, FORMS[form][1], 1) if new.startswith(head) else new] = value
    assert (renamed.keys() == tensors.keys()) == (FORMS[form] == (body, head))
    save_file(renamed, file, metadata={"format": "pt"})
    tokens = torch.arange(9, 60)
    model = Model.load(str(tmp_path), dtype="float32")
    places = torch.arange(len(tokens))
    with torch.inference_mode(), attending(ProbeContext()):
        found = model.run(tokens, places, places)
        torch.testing.assert_close(found, made(tokens[None]).logits[0], atol=1e-3, rtol=1e-3)


def test_images_without_a_known_text_half_are_refused(tmp_path: Path):
    config = {"model_type": "git", "vision_config": {}, "vocab_size": 384}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="images or sound"):
        Model.load(str(tmp_path))
