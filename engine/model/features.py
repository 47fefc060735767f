"""Features of a model's configuration that the engine does not implement: refused at load, by name.

The configuration is only the first of three gates. The second is the attention function, which refuses arguments it
does not know; the third compares the loaded model's output with `transformers`' own attention (`engine.model.model`).
"""

from typing import Any

from engine.errors import UnsupportedModelError

INDEXED = "indexed_attention"  # of some tokens that an indexer chooses, see `engine.model.indexers`
# Kinds of layers whose tokens see each other in attention alone: the gate finds out which tokens.
_ATTENTION_KINDS = {"full_attention", "attention", "sliding_attention", "chunked_attention", "sliding_window_attention"}
_ATTENTION_KINDS |= {INDEXED}
# With entries behind a window that stand for several tokens, see `engine.model.compressors`.
_ATTENTION_KINDS |= {"compressed_sparse_attention", "heavily_compressed_attention"}
# Kinds of layers with a state, or with both, or without any view of other tokens: the gate tries them.
_OTHER_KINDS = {"linear_attention", "mamba", "conv", "recurrent", "hybrid", "hybrid_sliding", "moe", "mlp"}

_CODES = "sounds, as several codes at each position"
# Kinds that read something else than a list of tokens.
_OTHER_INPUT = {
    **dict.fromkeys(("musicgen", "musicgen_decoder", "musicgen_melody", "musicgen_melody_decoder"), _CODES),
    "blt": "bytes in patches, which end where another model of the whole text finds them hard to guess",
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"), "the keys and values of another model, for which it drafts"
    ),
    "muse_glimmer_assistant": "the hidden states of another model, for which it drafts",
}


def check_kind(kind: str) -> None:
    """Refuse a `model_type` that no text alone can be given to.

    Raises:
        UnsupportedModelError: with what it reads.
    """
    if kind in _OTHER_INPUT:
        raise UnsupportedModelError(_OTHER_INPUT[kind])


def check_config(config: Any, longest: int | None = None) -> None:
    """Refuse configurations with features that are not implemented.

    Args:
        config: of `transformers`.
        longest: tokens in the longest sequence that will be served; the model's own context where `None`.

    Raises:
        UnsupportedModelError: with the feature's name.
    """
    check_kind(str(field(config, "model_type")))
    if field(config, "is_encoder_decoder"):
        raise UnsupportedModelError("an encoder")
    if field(config, "vision_config") is not None or field(config, "audio_config") is not None:
        raise UnsupportedModelError("images or sound")
    kinds = field(config, "layer_types") or field(config, "layers_block_type") or ()
    for kind in sorted(set(kinds) - _ATTENTION_KINDS - _OTHER_KINDS):
        raise UnsupportedModelError(f"{kind.replace('_', ' ')} layers")
    _check_rope(config, longest)
    alibi = field(config, "alibi") or field(config, "model_type") in ("bloom", "mpt")
    if alibi:
        raise UnsupportedModelError("ALiBi biases")


def field(config: Any, name: str) -> Any:
    """A field of a configuration; `None` if it has none of that name, or one that varies between layers."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def _check_rope(config: Any, longest: int | None) -> None:
    """Refuse RoPE whose frequencies depend on the longest sequence of a batch: here each sequence has its own length.

    (`dynamic` is of that kind too, but changes nothing within `max_position_embeddings`, which is the context here.)
    """
    found = field(config, "rope_parameters") or field(config, "rope_scaling") or {}
    for entry in (found, *(value for value in found.values() if isinstance(value, dict))):
        if entry.get("rope_type", entry.get("type")) != "longrope":
            continue
        short = entry.get("original_max_position_embeddings") or field(config, "original_max_position_embeddings")
        length = longest or context_length(config)
        if not short or length > short:
            detail = f"longrope changes at {short} tokens, in a context of {length}: limit the context to it"
            raise UnsupportedModelError("RoPE that depends on the longest sequence of a batch", detail)


def context_length(config: Any) -> int:
    """Longest sequence, in tokens, that the model supports."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = field(config, name)
        if isinstance(value, int) and value > 0:
            return value
    return 2048
