"""Requests as OpenAI's API defines them, with the extensions that open servers share (`top_k`, `min_p`, `ignore_eos`,
...).

Whatever is unknown or not implemented is refused by name rather than ignored, unless its value asks for nothing
(`engine.server.neutral`). Fields that only describe the caller (`metadata`, ...) are ignored; `user` names the client
(`engine.schedule.turns`).
"""

import json
import secrets
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from engine.errors import RequestError
from engine.schedule.sequence import SamplingParams
from engine.server.neutral import BOTH, CHAT, COMPLETION, STREAM_OPTIONS, TOKENIZE, NeutralFields
from engine.text.grammar import Grammar

MAX_CHOICES = 1024  # prompts times n in one request
MAX_STOPS = 32
MAX_BIASES = 1024
MAX_STRUCTURED_CHOICES = 4096


def _number(value: Any) -> Any:
    """Refuse what pydantic accepts as a number but JSON does not."""
    if isinstance(value, bool | str):
        raise ValueError("a number is needed")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
BiasedToken = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")]
Bias = Annotated[float, BeforeValidator(_number), Field(ge=-100, le=100)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
TokenId = Annotated[Whole, Field(ge=0, le=2**31 - 1)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class StreamOptions(NeutralFields):
    """Options of a streamed answer."""

    neutral = STREAM_OPTIONS

    include_usage: StrictBool | None = False


class StructuredOutputs(BaseModel):
    """Constraints on the text, in one of four forms, named as in vLLM."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    json_schema: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Annotated[list[Stop], Field(min_length=1, max_length=MAX_STRUCTURED_CHOICES)] | None = None
    grammar: str | None = None  # in llguidance's dialect of Lark

    def chosen(self) -> Grammar:
        """The form that is given.

        Raises:
            RequestError: there is none, or more than one.
        """
        field = "structured_outputs"
        found: list[Grammar] = []
        if self.json_schema is not None:
            schema = self.json_schema if isinstance(self.json_schema, str) else json.dumps(self.json_schema)
            found.append(Grammar("json", schema, field))
        if self.regex is not None:
            found.append(Grammar("regex", self.regex, field))
        if self.choice is not None:
            found.append(Grammar("choice", json.dumps(self.choice), field))
        if self.grammar is not None:
            found.append(Grammar("lark", self.grammar, field))
        if len(found) != 1:
            raise RequestError("give exactly one of json, regex, choice and grammar", field)
        return found[0]


class JsonSchema(BaseModel):
    """The schema of a `response_format`; the answer follows it strictly, whatever `strict` says."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str | None = None
    strict: StrictBool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(BaseModel):
    """OpenAI's option for JSON answers."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def grammar(self) -> Grammar | None:
        """The requested grammar; `None`: any text.

        Raises:
            RequestError: the schema is missing.
        """
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Grammar("json", json.dumps({"type": "object"}), "response_format")
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise RequestError("a response_format of type json_schema needs json_schema.schema", "response_format")
        return Grammar("json", json.dumps(self.json_schema.schema_), "response_format")


class Generation(NeutralFields):
    """What chat and plain completions have in common."""

    neutral = BOTH

    model: str | None = None
    user: str | None = Field(default=None, max_length=512)
    metadata: dict[str, Any] | None = None  # as the next two, it describes the caller and is not used
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] | None = 1
    seed: Whole | None = Field(default=None, ge=-(2**63), lt=2**64)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=MAX_STOPS)
    ignore_eos: StrictBool = False
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Whole | None = Field(default=None, ge=-1, le=2**31 - 1)  # 0 and -1: off
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    max_tokens: Whole | None = Field(default=None, ge=1, le=2**31 - 1)
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    min_tokens: Whole | None = Field(default=None, ge=0, le=2**31 - 1)
    logit_bias: Annotated[dict[BiasedToken, Bias], Field(max_length=MAX_BIASES)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None

    @property
    def choices(self) -> int:
        """Answers wanted for each prompt."""
        return self.n or 1

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if self.stream_options:
            self.stream_options.refuse_unsupported("stream_options")

    def grammar(self) -> Grammar | None:
        """The grammar that the text must follow, if any.

        Raises:
            RequestError: it is incomplete or ambiguous.
        """
        return self.structured_outputs.chosen() if self.structured_outputs else None

    def sampling(self, defaults: dict[str, Any], max_tokens: int, logprobs: int | None) -> SamplingParams:
        """Sampling parameters; for those that the request leaves out, `defaults` (of `generation_config.json`) apply,
        then OpenAI's. Penalties come from the request alone: those of a model's file spoil code, which repeats itself.
        """

        def pick(name: str, otherwise: float) -> float:
            value = getattr(self, name)
            value = defaults.get(name) if value is None else value
            return otherwise if value is None else float(value)

        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return SamplingParams(
            temperature=pick("temperature", 1.0),
            top_p=pick("top_p", 1.0),
            top_k=max(0, int(pick("top_k", 0))),
            min_p=pick("min_p", 0.0),
            seed=secrets.randbits(63) if self.seed is None else self.seed,
            max_tokens=max_tokens,
            stop=stop,
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            min_tokens=self.min_tokens or 0,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
        )


class ContentPart(BaseModel):
    """A part of a message; only text is served."""

    model_config = ConfigDict(extra="allow")  # of parts of other types, which are refused by their type

    type: str
    text: str | None = None


class Message(BaseModel):
    """One message of a conversation. Other fields reach the chat template as they are."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1, max_length=64)
    content: str | list[ContentPart] | None = None

    def plain(self) -> dict[str, Any]:
        """The message as chat templates expect it, with its text in one string.

        Raises:
            RequestError: a part is not text.
        """
        found = self.model_dump()
        if isinstance(self.content, list):
            for part in self.content:
                if part.type != "text" or part.text is None:
                    raise RequestError(f"content parts of type {part.type!r} are not supported: text only", "messages")
                for name in part.model_extra or ():
                    raise RequestError(f"unknown field {name!r} of a content part", "messages")
            found["content"] = "".join(part.text or "" for part in self.content)
        elif self.content is None:
            found["content"] = ""
        return found


class ChatRequest(Generation):
    """Body of `POST /v1/chat/completions`."""

    neutral: ClassVar = {**BOTH, **CHAT}

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: Whole | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: StrictBool | None = False
    top_logprobs: Whole | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if self.top_logprobs and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs to be true", "top_logprobs")

    def grammar(self) -> Grammar | None:
        """See `Generation`."""
        found = [self.response_format.grammar() if self.response_format else None, super().grammar()]
        if None not in found:
            raise RequestError("give either response_format or structured_outputs", "structured_outputs")
        return found[0] or found[1]

    @property
    def alternatives(self) -> int | None:
        """Log-probabilities wanted per token: `None` for none at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Generation):
    """Body of `POST /v1/completions`."""

    neutral: ClassVar = {**BOTH, **COMPLETION}

    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    max_tokens: Whole | None = Field(default=None, ge=0, le=2**31 - 1)  # 0: only the prompt's own log-probabilities
    logprobs: Whole | None = Field(default=None, ge=0, le=20)
    echo: StrictBool | None = False
    best_of: Whole | None = None
    suffix: str | None = None

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if self.max_tokens == 0 and not self.echo:
            raise RequestError("max_tokens is 0, which makes sense only with echo: ask for 1 or more", "max_tokens")
        if self.best_of not in (None, self.choices):
            raise RequestError("best_of is not supported by this engine", "best_of")
        if self.suffix:
            raise RequestError("suffix is not supported by this engine", "suffix")

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or a list of tokens.

        Raises:
            RequestError: there is none, or there are too many.
        """
        prompt = self.prompt
        several: list[str | list[int]]
        if isinstance(prompt, str):
            several = [prompt]
        elif prompt and isinstance(prompt[0], int):
            several = [[int(token) for token in prompt if isinstance(token, int)]]
        else:
            several = [one for one in prompt if not isinstance(one, int)]
        if not several:
            raise RequestError("the prompt is empty", "prompt")
        if len(several) * self.choices > MAX_CHOICES:
            raise RequestError(
                f"{len(several)} prompts times n = {self.choices} is more than {MAX_CHOICES} choices", "n"
            )
        return several


class TokenizeRequest(NeutralFields):
    """Body of `POST /tokenize`: a text, or a conversation as the chat endpoint would see it."""

    neutral = TOKENIZE

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=10_000)
    add_special_tokens: StrictBool | None = None  # default: true; the template alone writes those of a conversation
    return_token_strs: StrictBool | None = False

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if self.messages is not None and self.add_special_tokens:
            raise RequestError(
                "add_special_tokens is for a prompt: the chat template writes them", "add_special_tokens"
            )
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("give either prompt or messages", "prompt")


class DetokenizeRequest(BaseModel):
    """Body of `POST /detokenize`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    tokens: list[TokenId]
