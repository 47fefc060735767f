"""Causal language models for text halves that `transformers` has only inside of a whole model with images.

Such a half is a decoder without an output layer: that of the whole model, with its multiplier and its cap, is put on it
here. A kind is in the table once `tests/engine/model/test_text_half.py` has found its text to be that of the whole.
"""

import functools
import importlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import CausalLMOutputWithPast

from engine.model.features import field

# Of each kind of text half: the kind of the whole, and the class of the decoder.
DECODERS = {
    "glm4v_text": ("glm4v", "Glm4vTextModel"),
    "glm4v_moe_text": ("glm4v_moe", "Glm4vMoeTextModel"),
    "hy_v4_vl_text": ("hy_v4_vl", "HYV4VLTextModel"),
    "mistral_large4_text": ("mistral_large4", "MistralLarge4TextModel"),
    "muse_glimmer_text": ("muse_glimmer", "MuseGlimmerTextModel"),
    "muse_spark_text": ("muse_spark", "MuseSparkTextModel"),
    "step3p5": ("step3p7", "Step3p7TextModel"),
}


def causal_half(kind: str) -> Any:
    """The class of a causal language model over the decoder of a kind of text half, whose weights have the names that
    they have in the whole; `None`: the kind is not known, or this version of `transformers` does not have it.
    """
    place = DECODERS.get(kind)
    return None if place is None else _made(*place)


def is_causal_half(kind: Any) -> bool:
    """Whether a class is one of these."""
    return issubclass(kind, _CausalHalf)


class _CausalHalf(GenerationMixin):  # type: ignore[misc]
    """What these classes have in common."""

    config: Any
    model: nn.Module
    lm_head: nn.Linear

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def forward(self, input_ids: Tensor, logits_to_keep: int | Tensor = 0, **given: Any) -> CausalLMOutputWithPast:
        """As the causal language models of `transformers`, without a loss."""
        decoder: Any = self.model.language_model
        hidden = decoder(input_ids=input_ids, **given).last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        multiplier, cap = field(self.config, "output_multiplier"), field(self.config, "final_logit_softcapping")
        if multiplier is not None:
            logits = logits * multiplier
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        return CausalLMOutputWithPast(logits=logits)


@functools.cache
def _made(whole: str, name: str) -> Any:
    try:
        module = importlib.import_module(f"transformers.models.{whole}.modeling_{whole}")
    except ImportError:
        return None
    decoder: Any = getattr(module, name)
    base: Any = decoder.__bases__[0]

    def set_up(self: Any, config: Any) -> None:
        base.__init__(self, config)
        self.model = nn.Module()
        self.model.language_model = decoder(config)
        plan = getattr(self.model.language_model, "_tp_plan", None) or {}
        self.model._tp_plan = {f"language_model.{part}": style for part, style in plan.items()}
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    methods = {
        "__module__": module.__name__,  # whose attention it computes
        "__init__": set_up,
        "base_model_prefix": "model",
        "_tp_plan": {"lm_head": "colwise_gather_output"},
        "config_class": decoder.config_class,
        "_tied_weights_keys": {"lm_head.weight": "model.language_model.embed_tokens.weight"},
    }
    made = type(f"{name.removesuffix('Model')}ForCausalLM", (_CausalHalf, base), methods)
    renamed = get_checkpoint_conversion_mapping(whole) or []
    register_checkpoint_conversion_mapping(made.__name__, renamed, overwrite=True)
    return made
