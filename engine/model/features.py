"""Features of a model's configuration that the engine does not implement: refused at load, by name.

The configuration is only the first of three gates. The second is the attention function, which refuses arguments it
does not know; the third compares the loaded model's output with `transformers`' own attention (`engine.model.model`).
"""

from typing import Any

from engine.errors import UnsupportedModelError

_ATTENTION_KINDS = {"full_attention", "attention"}


def check_config(config: Any, longest: int | None = None) -> None:
    """Refuse configurations with features that are not implemented.

    Args:
        config: of `transformers`.
        longest: tokens in the longest sequence that will be served; the model's own context where `None`.

    Raises:
        UnsupportedModelError: with the feature's name.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError("an encoder")
    if getattr(config, "vision_config", None) is not None or getattr(config, "audio_config", None) is not None:
        raise UnsupportedModelError("images or sound")
    kinds = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_KINDS
    for kind in sorted(kinds):
        if "sliding" in kind or "chunked" in kind:
            _check_window(config, longest, kind.replace("_", " "))
        else:
            raise UnsupportedModelError(kind.replace("_", " "))
    if not getattr(config, "layer_types", None):
        _check_window(config, longest, "sliding window attention")
    _check_rope(config, longest)
    for name in ("attn_logit_softcapping", "attn_logit_softcap"):
        if getattr(config, name, None):
            raise UnsupportedModelError("soft-capped attention scores", f"{name} is {getattr(config, name)}")
    if getattr(config, "alibi", False):
        raise UnsupportedModelError("ALiBi biases")
    for name in ("kv_lora_rank", "q_lora_rank"):
        if getattr(config, name, None):
            raise UnsupportedModelError("multi-head latent attention")
    for name in ("ssm_cfg", "mamba_d_state", "state_size", "linear_num_value_heads", "conv_L_cache"):
        if getattr(config, name, None):
            raise UnsupportedModelError("recurrent or linear attention layers", name)


def _check_window(config: Any, longest: int | None, feature: str) -> None:
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", True) is False:
        return
    length = longest or context_length(config)
    if window < length:
        detail = f"a window of {window} tokens in a context of {length}: limit the context to it"
        raise UnsupportedModelError(feature, detail)


def _check_rope(config: Any, longest: int | None) -> None:
    """Refuse RoPE whose frequencies depend on the longest sequence of a batch: here each sequence has its own length.

    (`dynamic` is of that kind too, but changes nothing within `max_position_embeddings`, which is the context here.)
    """
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for entry in (found, *(value for value in found.values() if isinstance(value, dict))):
        if entry.get("rope_type", entry.get("type")) != "longrope":
            continue
        short = entry.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", 0)
        length = longest or context_length(config)
        if not short or length > short:
            detail = f"longrope changes at {short} tokens, in a context of {length}: limit the context to it"
            raise UnsupportedModelError("RoPE that depends on the longest sequence of a batch", detail)


def context_length(config: Any) -> int:
    """Longest sequence, in tokens, that the model supports."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048
