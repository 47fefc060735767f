"""The configuration of a GGUF file's model, as `transformers` has it.

`transformers` translates the keys that it knows and ignores the rest, so that a feature of the model could be left out.
Here every key of the architecture is either translated, or checked to change nothing, or refused by name.
"""

import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import LoadError, UnsupportedModelError, one_line
from engine.model.features import check_config
from engine.weights.gguf_file import GGUFFile

logging.getLogger("gguf").setLevel(logging.WARNING)  # it logs every file that it writes

ROPE_FACTORS = "rope_freqs.weight"  # by which Llama 3's frequencies are divided; half a head's numbers
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # all releases
_NO_CHANGE = {  # keys that do not change the computed numbers, or repeat others
    "vocab_size",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scale_linear",
    "tensor_data_layout",
    "expert_feed_forward_length",  # a wrong width would not fit the tensors
    "expert_shared_feed_forward_length",
    "use_parallel_residual",
    "pooling_type",
    "attention.causal",
}


def known_architectures() -> list[str]:
    """llama.cpp's names of the architectures that `transformers` translates."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    spellings = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
    none = {"general", "tokenizer", "t5", "umt5"}  # groups of keys, and encoders
    return sorted(spellings.get(name, name) for name in GGUF_SUPPORTED_ARCHITECTURES if name not in none)


def check_architecture(file: GGUFFile) -> None:
    """Raise `LoadError` where the loader does not know the file's architecture."""
    known = known_architectures()
    if file.architecture not in known:
        raise LoadError(
            f"{file.path} is of the architecture {file.architecture!r}, which transformers cannot read from GGUF; "
            f"it reads {', '.join(known)}: use the model's folder of safetensors instead"
        )


def translated_config(file: GGUFFile, longest: int | None = None) -> Any:
    """The `transformers` configuration of the file's model; for `longest` see `engine.model.features.check_config`.

    Raises:
        LoadError: the loader does not know the architecture, the file lacks something required, or has a key that the
            loader would ignore.
        UnsupportedModelError: the engine does not implement a feature of the model.
    """
    from transformers import AutoConfig

    check_architecture(file)
    try:
        config = AutoConfig.for_model(**_translated(file))
    except Exception as error:  # whatever error a file causes in the loader
        raise LoadError(f"{file.path}: transformers cannot read its configuration: {one_line(error)}") from error
    check_config(config, longest)
    _set_rope(file, config)
    _check_keys(file, config)
    return config


def _translated(file: GGUFFile) -> dict[str, Any]:
    """What `transformers` reads from the header. Reading a vocabulary takes seconds, so it gets a header without
    one.
    """
    from gguf import GGUFWriter
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.gguf"
        writer = GGUFWriter(path, file.architecture)
        for key, value in file.metadata.items():
            own = key.startswith(f"{file.architecture}.") or key == "general.name"
            if own or (key.startswith("tokenizer.ggml.") and isinstance(value, int)):
                _copy(writer, key, value)
        writer.add_array("tokenizer.ggml.tokens", ["a"])
        for tensor in file.tensors:  # their names count
            writer.add_tensor(tensor.name, np.zeros(1, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found: dict[str, Any] = load_gguf_checkpoint(str(path))["config"]
    found.pop("_model_name_or_path", None)
    if f"{file.architecture}.vocab_size" not in file.metadata:
        found["vocab_size"] = len(file.metadata.get("tokenizer.ggml.tokens", ()))
    return found


def _copy(writer: Any, key: str, value: Any) -> None:
    """Write a value of a head, in the widest type that holds it."""
    from gguf import GGUFValueType

    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.INT64,
        float: GGUFValueType.FLOAT64,
        str: GGUFValueType.STRING,
    }
    if not isinstance(value, list):
        writer.add_key_value(key, value, kinds[type(value)])
    elif value and type(value[0]) in kinds:
        writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kinds[type(value[0])])


def _key(file: GGUFFile, name: str, otherwise: Any = None) -> Any:
    return file.metadata.get(f"{file.architecture}.{name}", otherwise)


def _set_rope(file: GGUFFile, config: Any) -> None:
    """Read how positions are scaled, which `transformers` does not."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    kind = _key(file, "rope.scaling.type", "none")
    factor = _key(file, "rope.scaling.factor") or _key(file, "rope.scale_linear") or 0.0
    if kind == "linear" or (kind == "none" and _key(file, "rope.scale_linear", 1.0) != 1.0):
        rope |= {"rope_type": "linear", "factor": float(factor)}
    elif kind == "yarn":
        original = _key(file, "rope.scaling.original_context_length")
        if not factor or not original:
            raise LoadError(f"{file.path} scales positions by YaRN and does not say from which length")
        rope |= {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": int(original)}
    elif kind != "none":
        raise UnsupportedModelError(f"positions scaled by {kind!r}", "transformers does not read it from GGUF")
    if _key(file, "rope.scaling.attn_factor", 1.0) != 1.0:
        raise UnsupportedModelError("a scale of attention for long contexts", "transformers does not read it from GGUF")
    if any(tensor.name == ROPE_FACTORS for tensor in file.tensors):
        rope |= _llama3(file, config, float(rope.get("rope_theta", 10000.0)))
    if rope:
        config.rope_parameters = rope


def _llama3(file: GGUFFile, config: Any, base: float) -> dict[str, Any]:
    """Llama 3's scaling, reconstructed: a GGUF file holds the result for each frequency and not the rule."""
    from gguf import dequantize

    entry = next(tensor for tensor in file.tensors if tensor.name == ROPE_FACTORS)
    raw = np.fromfile(file.path, dtype=np.uint8, count=entry.size, offset=entry.start)
    found = dequantize(raw.view(np.float32) if entry.kind.name == "F32" else raw, entry.kind).astype(np.float64)
    factor = float(found.max())
    rule = {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    width = head_width(config)
    low, high, length = (
        _LLAMA3[key] for key in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    waves = 2 * math.pi * base ** (np.arange(0, width, 2) / width)
    smooth = np.clip((length / waves - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise UnsupportedModelError("frequencies of RoPE of its own", f"{ROPE_FACTORS} follows no rule known here")
    return rule


def head_width(config: Any) -> int:
    """Numbers in one head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _check_keys(file: GGUFFile, config: Any) -> None:
    """Refuse keys of the architecture that the loader ignores, unless they change nothing."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    prefix = f"{file.architecture}."
    translated = GGUF_TO_TRANSFORMERS_MAPPING["config"]
    known = translated.get(file.architecture) or translated.get(config.model_type) or {}
    width = head_width(config)
    rope = getattr(config, "rope_parameters", None) or {}
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    checked = {
        "attention.key_length": width,
        "attention.value_length": width,
        "rope.dimension_count": int(width * share),
    }
    for key, value in file.metadata.items():
        name = key.removeprefix(prefix)
        if name == key or name in _NO_CHANGE or known.get(name) is not None:
            continue
        if name in checked:
            if value != checked[name]:
                raise LoadError(f"{file.path} says {key} = {value}, transformers reads it as {checked[name]}")
        elif value not in (0, None, []):
            said = one_line(value)[:60]
            raise LoadError(f"{file.path} says {key} = {said}, which transformers' loader of GGUF files passes over")
