"""The text half of a model that also takes images or sound: its decoder is served as the plain decoder that it is.

The configuration of the text half is that of a causal language model of `transformers`, whose weights lie under other
names in the whole checkpoint; what belongs to the other half is not loaded. Rotary embeddings by several axes (mrope)
turn text, whose axes are all equal, as plain ones do.
"""

from typing import Any

import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from engine.model.causal_half import causal_half

# Text halves without a causal language model of their own: the kind that computes the same, with these fields.
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_vl_text": ("qwen2", {}),
    "qwen2_5_vl_text": ("qwen2", {}),
    "qwen3_vl_text": ("qwen3", {}),
    "qwen3_vl_moe_text": ("qwen3_moe", {"norm_topk_prob": True}),
}
# Causal language models by kind, those included that `transformers` has only as the text half of another.
NAMED = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | {
    kind: name for kind, name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items() if name.endswith("ForCausalLM")
}
_MROPE = ("mrope_section", "mrope_interleaved")
# Names of weights in whole checkpoints, old and new, as those of the text half.
NAMES = {
    r"^model\.language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
    r"^language_model\.model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}


def text_half(config: Any) -> Any:
    """The configuration of the text half; `config` itself where there is no other half, or none that is known.

    Args:
        config: of `transformers`.
    """
    text = config.get_text_config(decoder=True)
    if text is config or getattr(config, "is_encoder_decoder", False):
        return config
    kind, more = PLAIN.get(text.model_type, (text.model_type, {}))
    if kind == text.model_type and decoder_class(text) is None:
        return config
    fields = text.to_dict()
    if kind != text.model_type:
        fields = {name: value for name, value in fields.items() if name not in ("model_type", "rope_scaling")}
        fields["rope_parameters"] = _plain_rope(fields.get("rope_parameters") or {})
        text = AutoConfig.for_model(kind, **(fields | more))
    for name in ("dtype", "quantization_config"):
        if getattr(text, name, None) is None and getattr(config, name, None) is not None:
            setattr(text, name, getattr(config, name))
    if "tie_word_embeddings" in config.to_dict():
        text.tie_word_embeddings = config.tie_word_embeddings
    return text


def decoder_class(config: Any) -> Any:
    """The causal language model of `transformers` for a configuration, also if that is the text half of another;
    `None` if there is none.
    """
    mapping = AutoModelForCausalLM._model_mapping
    if type(config) in mapping:
        return mapping[type(config)]
    names = (name for kind, name in NAMED.items() if config.model_type.startswith(kind))
    found = (getattr(transformers, name, None) for name in names)
    listed = next((made for made in found if getattr(made, "config_class", None) is type(config)), None)
    return listed or causal_half(config.model_type)


def _plain_rope(found: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in found.items() if name not in _MROPE}
    if plain.get("rope_type", plain.get("type")) == "mrope":
        plain = {name: value for name, value in plain.items() if name != "type"} | {"rope_type": "default"}
    return plain
