"""Writes a checkpoint's folder, which `transformers` and the engine load without remote code."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from bot.capuchin.training import tokenizer as tok
from bot.capuchin.training.model import Shape

SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 512}


def config(shape: Shape) -> LlamaConfig:
    """The network's configuration for transformers."""
    return LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        rms_norm_eps=shape.rms_norm_eps,
        max_position_embeddings=shape.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=3,
        dtype="bfloat16",
    )


def export(weights: dict[str, Tensor], shape: Shape, tokenizer: Path, out: Path) -> None:
    """Write config, bfloat16 weights, tokenizer and sampling defaults to `out`; other files are kept.

    `weights` are named as by `Capuchin.to_transformers`. Raises `RuntimeError` if one is missing or unexpected.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = LlamaForCausalLM(config(shape)).to(torch.bfloat16)
    left = model.load_state_dict({name: tensor.bfloat16() for name, tensor in weights.items()}, strict=False)
    if left.unexpected_keys or left.missing_keys not in ([], ["lm_head.weight"]):
        raise RuntimeError(f"the weights do not fit the network: {left}")
    model.tie_weights()
    model.generation_config = GenerationConfig(**SAMPLING, eos_token_id=3, pad_token_id=0)
    model.save_pretrained(str(out))
    tok.copy(tokenizer, out)
    loaded = tok.load(out)
    if loaded.token_to_id(tok.END) != 3 or loaded.token_to_id(tok.PAD) != 0:
        raise RuntimeError("the tokenizer's special tokens are not where the config says")
