"""Tiny configurations of every kind of causal language model in `transformers`."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.engine.conftest import END, VOCABULARY

KINDS = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
LAYERS = 2
LARGEST = 3e8  # weights; a configuration that can't be made smaller is not tried

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "eos_token_id": END,
    "pad_token_id": None,
    "sliding_window": 24,
    "attention_chunk_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {"q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12}
GPT = {"n_embd": 64, "n_head": 4, "n_layer": LAYERS, "n_positions": 256}

# What a kind needs beside or instead of `SIZES`; `...` leaves a size out.
CHANGES: dict[str, dict[str, Any]] = {}


def config_of(kind: str) -> Any:
    """A small configuration of two layers; where there are layers of several kinds, of the first two of them."""
    default = AutoConfig.for_model(kind)
    sizes = dict(SIZES)
    types = getattr(default, "layer_types", None)
    if types:
        found = list(dict.fromkeys(types))[:LAYERS]
        sizes["layer_types"] = (found * LAYERS)[:LAYERS]
    sizes |= CHANGES.get(kind, {})
    return type(default)(**{name: value for name, value in sizes.items() if value is not ...})


def make(config: Any, attention: str) -> Any:
    """A model with random weights, wide enough that its greedy text is not one repeated token.

    Raises:
        MemoryError: it is too large to be tried.
    """
    with torch.device("meta"):
        count = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    if count > LARGEST:
        raise MemoryError(f"{count:.1e} weights")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms too
    return model
