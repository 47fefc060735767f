"""GGUF files of tiny models, written as llama.cpp's converter writes them."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import PreTrainedTokenizerFast

from tests.engine.conftest import make_tokenizer

TEMPLATE = make_tokenizer().chat_template
F32, Q8 = GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0


def write_gguf(
    path: Path,
    weights: Any,
    architecture: str = "llama",
    kind: GGMLQuantizationType = F32,
    said: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    tokenizer: PreTrainedTokenizerFast | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a model of `transformers`.

    Args:
        path: of the file.
        weights: the model.
        architecture: llama.cpp's name of it.
        kind: of the matrices; vectors are float32.
        said: keys of the head, in place of or beside the usual ones.
        without: beginnings of keys and of tensors' names that are left out.
        tokenizer: instead of the usual one.
        extra: more tensors.
    """
    writer = GGUFWriter(path, architecture)
    config = weights.config
    head: dict[str, Any] = {
        "general.type": "model",
        "general.name": "tiny",
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{architecture}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "tokenizer.chat_template": TEMPLATE,
    }
    if architecture == "llama":
        head["llama.rope.dimension_count"] = config.head_dim
    vocabulary = _vocabulary(tokenizer or make_tokenizer(), config.vocab_size)
    for key, value in {**head, **vocabulary, **(said or {})}.items():
        if not key.startswith(without):
            _add(writer, key, value)
    for name, tensor in {**_tensors(weights, architecture), **(extra or {})}.items():
        if name.startswith(without):
            continue
        chosen = kind if tensor.ndim > 1 else F32
        data = tensor if chosen == F32 else gguf.quantize(tensor, chosen)
        writer.add_tensor(name, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _vocabulary(tokenizer: PreTrainedTokenizerFast, size: int) -> dict[str, Any]:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    special = set(tokenizer.all_special_tokens)
    unused = [f"[PAD{index}]" for index in range(len(tokens), size)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens + unused,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens] + [5] * len(unused),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
    }


def _tensors(weights: Any, architecture: str) -> dict[str, np.ndarray]:
    """Weights by llama.cpp's names; Llama's queries and keys in its order of RoPE's pairs."""
    number = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}[architecture]
    names = gguf.get_tensor_name_map(number, weights.config.num_hidden_layers)
    found: dict[str, np.ndarray] = {}
    for name, tensor in weights.state_dict().items():
        if name == "lm_head.weight" and weights.config.tie_word_embeddings:
            continue
        stem, suffix = name.rsplit(".", 1)
        values = tensor.float().numpy()
        if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
            heads = values.shape[0] // weights.config.head_dim
            pairs = values.reshape(heads, 2, weights.config.head_dim // 2, *values.shape[1:])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        found[f"{names.get_name(stem)}.{suffix}"] = np.ascontiguousarray(values)
    return found
