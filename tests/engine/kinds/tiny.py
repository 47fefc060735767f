"""Tiny configurations of every kind of causal language model in `transformers`."""

from typing import Any

import torch
from transformers import AutoConfig

from engine.model.causal_half import DECODERS
from engine.model.text_half import NAMED, decoder_class, text_half
from tests.engine.conftest import END, VOCABULARY

KINDS = sorted(NAMED.keys() | {whole for whole, _ in DECODERS.values()})
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
    "pad_token_id": 1,
    "sliding_window": 24,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "attention_chunk_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
}
LATENT = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}
# Of an indexer that chooses a few tokens of each text of the sweep; with few heads, scores would often be equal.
INDEXED = LATENT | {"index_topk": 12, "index_n_heads": 16, "index_head_dim": 16, "n_shared_experts": 1}
STATE = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}
RECURRENT = {"layer_types": ["linear_attention", "full_attention"]}
SHARING = {  # one block of attention in several layers
    "layer_types": ...,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
}
INKLING = {
    "unpadded_vocab_size": VOCABULARY,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 16,
    "sliding_window_size": 24,
}
GPT = {"n_embd": 64, "n_head": 4, "n_layer": LAYERS, "n_positions": 256}

MIX = {"layer_types": ["sliding_attention", "full_attention"]}
DECODER = {"is_decoder": True}  # encoders, which `transformers` also has as decoders

HALF = {"is_encoder_decoder": False}  # decoders of translation models


def mrope(*sections: int) -> dict[str, Any]:
    """Rotary embeddings by three axes, which turn so many pairs of numbers each."""
    plain = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    return plain | {"mrope_section": list(sections)}


# Blocks of four tokens, of which an indexer chooses three; and embeddings of two and three tokens in the first layer.
QWEN4 = {
    "layer_types": ["linear_attention", "indexed_attention"],
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 12,
    "indexer_compress_ratio": 4,
    "hc_count": 2,
    "hc_lowrank": 8,
    "ple_layer_ids": [1],
    "ple_embed_dim": 32,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 50,
    "make_ngram_vocab_size_divisible_by": 8,
    "split_ngram_parts": 2,
    "shared_expert_intermediate_size": 32,
    "rope_parameters": mrope(4, 2, 2),
}

# Entries for every 4 and 16 tokens, of which an indexer chooses three.
COMPRESSED = {
    "num_key_value_heads": 1,
    "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
    "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
    "mlp_layer_types": ["hash_moe", "moe"],
    "partial_rotary_factor": 0.5,
    "q_lora_rank": 32,
    "o_groups": 2,
    "o_lora_rank": 16,
    "hc_mult": 4,
    "index_n_heads": 16,
    "index_head_dim": 16,
    "index_topk": 3,
}

# What a kind needs beside or instead of `SIZES`; `...` leaves a size out.
CHANGES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "deepseek_v2", "deepseek_v3", "minicpm3", "sarvam_mla", "youtu"), LATENT),
    **dict.fromkeys(("glm4_moe_lite", "longcat_flash", "mistral4"), LATENT),
    "longcat_flash": LATENT | {"num_layers": 1, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32},
    **dict.fromkeys(
        ("bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"), DECODER
    ),
    **dict.fromkeys(("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta"), DECODER),
    **dict.fromkeys(("xlm-roberta-xl", "big_bird"), DECODER),
    "codegen": GPT | {"rotary_dim": 8},
    "gptj": GPT | {"rotary_dim": 8},
    "dots1": {"max_window_layers": 1, "n_shared_experts": 1},
    **dict.fromkeys(("deepseek_v32", "axk2"), INDEXED | {"mlp_layer_types": ["dense", "sparse"]}),
    "glm_moe_dsa": INDEXED
    | {
        "num_hidden_layers": 3,
        "layer_types": ["indexed_attention"] * 3,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "indexer_types": ["full", "shared", "full"],
    },
    "glm4v_text": {"rope_parameters": mrope(2, 3, 3)},
    "glm4v_moe_text": {"rope_parameters": mrope(2, 3, 3)},
    "qwen4_exp_text": QWEN4,
    "mistral_large4_text": INDEXED | {"pad_token_id": 1},
    "hy_v4_vl_text": INDEXED | {"indexer_types": ["full", "shared"], "rope_parameters": mrope(2, 1, 1)},
    "deepseek_v4": COMPRESSED,
    "hy_v4": INDEXED | {"indexer_types": ["full", "shared"]},
    "dots3_note_text": INDEXED
    | {
        "attention_chunk_size": ...,
        "head_dim": 24,
        "swa_num_attention_heads": 2,  # in layers with a window
        "swa_num_key_value_heads": 2,
        "swa_q_lora_rank": 32,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 24,
        "swa_qk_nope_head_dim": 16,
        "swa_v_head_dim": 12,
    },
    "gemma4_text": {
        "attention_chunk_size": ...,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 384,
        "enable_moe_block": True,
        "top_k_experts": 2,
        **MIX,
    },
    "gemma4_unified_text": {"attention_chunk_size": ..., **MIX},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 384,
        "activation_sparsity_pattern": [0.0] * 4,
        "laurel_rank": 8,
    },
    "granitemoehybrid": STATE | RECURRENT,
    "bamba": STATE | {"attn_layer_indices": [1]},
    "falcon_h1": STATE | {"mamba_d_ssm": 128},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "kimi_linear": LATENT | RECURRENT | {"linear_head_dim": 16, "linear_num_heads": 4},
    "bailing_hybrid": LATENT | {"layer_group_size": 2, "head_dim": 16, "mlp_layer_types": ["dense", "sparse"]},
    "beam": {"mlp_layer_types": ["dense", "sparse"]},
    "deepseek_v3": LATENT | {"first_k_dense_replace": 1},
    "flint": {"mlp_only_layers": [0]},
    "minimax": RECURRENT,
    "nemotron_h": {
        "layer_types": ["linear_attention", "moe", "full_attention", "mlp"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "time_step_min": 1e-9,  # with another, `transformers` computes single tokens otherwise than texts
        "moe_shared_expert_intermediate_size": 32,
    },
    "zamba": SHARING,
    "zamba2": SHARING | {"time_step_min": 1e-9},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    **dict.fromkeys(("inkling_text", "inkling2_text", "inkling2_loop_text"), INKLING),
    **dict.fromkeys(
        ("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus"), HALF
    ),
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2, "chunk_size": 16},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 24},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mimo_v2_flash": {"swa_num_key_value_heads": 4, "swa_head_dim": 16, "v_head_dim": 12, "swa_v_head_dim": 12},
    "plbart": HALF | {"decoder_attention_heads": 4},
    "whisper": HALF | {"decoder_attention_heads": 4},
    "trocr": HALF | {"d_model": 64, "decoder_attention_heads": 4, "decoder_layers": 2, "decoder_ffn_dim": 96},
    "xmod": DECODER | {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
    "xlnet": {"max_position_embeddings": ..., "d_model": 64, "n_head": 4, "n_layer": 2, "d_inner": 96},
    "prophetnet": {
        "num_hidden_layers": ...,
        "num_decoder_layers": 2,
        "num_decoder_attention_heads": 4,
        "decoder_ffn_dim": 96,
    }
    | HALF,
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds_dim": (32, 32),
        "axial_pos_shape": (16, 16),
        "attn_layers": ["local", "lsh"],
    },
    "dbrx": {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 2,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},  # as its checkpoints have it
        "ffn_config": {"ffn_hidden_size": 32, "hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
}


SPREAD = {"hrm_text": 0.05}  # of the weights: 16 layers over one another are chaotic with more


def config_of(kind: str) -> Any:
    """A small configuration of two layers; where there are layers of several kinds, of the first two of them. Of a
    model that also takes images, the text half is small.
    """
    default = AutoConfig.for_model(kind)
    text = default.get_text_config(decoder=True)
    if text is not default and text.model_type != kind:
        small = _small(text.model_type, type(text), text)
        default.text_config = small
        return text_half(default)
    return _small(kind, type(default), default)


def _small(kind: str, made: type[Any], default: Any) -> Any:
    sizes = {name: value for name, value in SIZES.items() if _has(default, name) and _can_be_set(made, name)}
    types = getattr(default, "layer_types", None)
    if types and _can_be_set(made, "layer_types") and _can_be_set(made, "layers_block_type"):
        found = list(dict.fromkeys(types))[:LAYERS]
        sizes["layer_types"] = (found * LAYERS)[:LAYERS]
    sizes |= CHANGES.get(kind, {})
    return made(**{name: value for name, value in sizes.items() if value is not ...})


def _has(config: Any, name: str) -> bool:
    try:
        return hasattr(config, name)
    except Exception:
        return True


def _can_be_set(made: type[Any], name: str) -> bool:
    found = getattr(made, name, None)
    return not isinstance(found, property) or found.fset is not None


def make(config: Any) -> Any:
    """A model with random weights, wide enough that its greedy text is not one repeated token.

    Raises:
        MemoryError: it is too large to be tried.
    """
    with torch.device("meta"):
        count = sum(each.numel() for each in decoder_class(config)._from_config(config).parameters())
    if count > LARGEST:
        raise MemoryError(f"{count:.1e} weights")
    torch.manual_seed(0)
    model = decoder_class(config)._from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, SPREAD.get(config.model_type, 0.3))
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms too
        for name, buffer in model.named_buffers():
            if name.endswith("tid2eid"):  # the experts of every token, which a checkpoint has
                buffer.random_(config.num_local_experts)
    return model
