"""Fields of OpenAI's and vLLM's APIs that are not implemented, with the values that are accepted: they ask for nothing.

`null` asks for nothing in each of them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from engine.errors import RequestError

Values = tuple[Any, ...]

BOTH: Mapping[str, Values] = {
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "allowed_token_ids": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "structural_tag": (),
    "logits_processors": ([],),
    "logprob_token_ids": (),
    "return_tokens_as_token_ids": (False,),
    "priority": (0,),
    "request_id": (),
    "cache_salt": (),
    "kv_transfer_params": (),
    "vllm_xargs": ({},),
}
_TEMPLATE: Mapping[str, Values] = {
    "chat_template": (),
    "mm_processor_kwargs": ({},),
}
CHAT: Mapping[str, Values] = {
    **_TEMPLATE,
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
    "add_special_tokens": (False,),
    "best_of": (1,),
    "documents": ([],),
    "echo": (False,),
    "thinking_token_budget": (),
}
COMPLETION: Mapping[str, Values] = {
    "add_special_tokens": (True,),
    "prompt_embeds": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
STREAM_OPTIONS: Mapping[str, Values] = {"include_obfuscation": (False,), "continuous_usage_stats": (False,)}
TOKENIZE: Mapping[str, Values] = _TEMPLATE


def _describe(schema: dict[str, Any], model: type["NeutralFields"]) -> None:
    schema["properties"] = {name: {"enum": [None, *values]} for name, values in model.neutral.items()} | schema[
        "properties"
    ]
    schema["additionalProperties"] = False


class NeutralFields(BaseModel):
    """A part of a request that takes fields which are not implemented, where their value asks for nothing.

    Its JSON schema lists them with these values. Call `refuse_unsupported` on what was parsed.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=(), json_schema_extra=_describe)

    neutral: ClassVar[Mapping[str, Values]] = {}  # accepted values besides null, by field

    def refuse_unsupported(self, parent: str = "") -> None:
        """Refuse fields that are unknown, or ask for something that is not implemented.

        Args:
            parent: the field of the request that this is the value of; empty: it is the request.

        Raises:
            RequestError: with the field's name.
        """
        for name, value in (self.model_extra or {}).items():
            path = f"{parent}.{name}" if parent else name
            if name not in self.neutral:
                raise RequestError(f"unknown field {path!r}", parent or name)
            if value is not None and not any(_equal(value, accepted) for accepted in self.neutral[name]):
                raise RequestError(f"{path} is not supported by this engine with this value", parent or name)


def _equal(value: Any, accepted: Any) -> bool:
    """Whether both are the same in JSON, where `true` is not 1."""
    return bool(value == accepted) and isinstance(value, bool) == isinstance(accepted, bool)
