"""Requests as OpenAI's API defines them, with the extensions that open servers share (`top_k`, `min_p`, `ignore_eos`,
...).

Whatever is unknown or not implemented is refused by name rather than ignored, unless its value asks for nothing
(`engine.server.neutral`). Fields that only describe the caller (`metadata`, ...) are ignored; `user` names the client
(`engine.schedule.turns`).
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StrictBool, ValidationError

from engine.errors import LoadError, RequestError
from engine.schedule.sequence import SamplingParams
from engine.server.constraints import ResponseFormat, StructuredOutputs
from engine.server.conversation import Conversation, Effort, Message, NamedTool, Tool, effort_options
from engine.server.fields import Bias, BiasedToken, Closed, Listed, Number, Stop, TokenId, TokenIds, Whole
from engine.server.neutral import BOTH, CHAT, COMPLETION, STREAM_OPTIONS, TOKENIZE, NeutralFields
from engine.text.chat_template import ChatTemplate
from engine.text.grammar import Grammar

MAX_CHOICES = 1024  # prompts times n in one request
MAX_STOPS = 32
MAX_BIASES = 1024
MAX_BAD_WORDS = 64
_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")  # of a model's `generation_config.json`


class StreamOptions(NeutralFields):
    """Options of a streamed answer."""

    neutral = STREAM_OPTIONS

    include_usage: StrictBool | None = False


class Generation(NeutralFields):
    """What chat and plain completions have in common."""

    neutral = BOTH

    model: str | None = None
    user: str | None = Field(default=None, max_length=512)
    metadata: dict[str, Any] | None = None  # as the next two, it describes the caller and is not used
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] | None = 1
    seed: Whole | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**64,
        description="Choice i draws with seed + i. The same logits give the same token, see --batch-invariant.",
    )
    stop: Stop | Annotated[Listed[Stop], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Listed[TokenId] | None = Field(default=None, max_length=MAX_STOPS)
    ignore_eos: StrictBool | None = False
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
    bad_words: Annotated[Listed[Stop], Field(max_length=MAX_BAD_WORDS)] | None = None
    prompt_logprobs: Whole | None = Field(default=None, ge=0, le=20)
    return_token_ids: StrictBool | None = False

    @property
    def choices(self) -> int:
        """Answers wanted for each prompt."""
        return self.n or 1

    @property
    def echoed(self) -> int | None:
        """Log-probabilities wanted per token of an echoed prompt: `None` for none at all."""
        return None

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if self.stream_options:
            self.stream_options.refuse_unsupported("stream_options")
        if self.stream and self.prompt_logprobs is not None:
            raise RequestError("prompt_logprobs are not streamed: leave stream out", "prompt_logprobs")

    def grammar(self) -> Grammar | None:
        """The grammar that the text must follow, if any.

        Raises:
            RequestError: it is incomplete or ambiguous.
        """
        return self.structured_outputs.chosen() if self.structured_outputs else None

    def sampling(self, defaults: dict[str, Any], max_tokens: int, logprobs: int | None) -> SamplingParams:
        """Sampling parameters; for those that the request leaves out, `defaults` (of `generation_config.json`) apply,
        then OpenAI's.
        """

        def pick(name: str, otherwise: float) -> float:
            value = getattr(self, name)
            value = defaults.get(name) if value is None else value
            return otherwise if value is None else float(value)

        scored = [count for count in (self.prompt_logprobs, self.echoed) if count is not None]

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
            ignore_eos=bool(self.ignore_eos),
            logprobs=logprobs,
            min_tokens=self.min_tokens or 0,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            prompt_logprobs=max(scored, default=None),
            repetition_penalty=pick("repetition_penalty", 1.0),
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
        )


def usable_defaults(found: dict[str, Any]) -> dict[str, Any]:
    """What `generation_config.json` says of requests that leave it open.

    Raises:
        LoadError: a request that said it would be refused.
    """
    said = {name: found[name] for name in _DEFAULTS if found.get(name) is not None}
    limit = {"max_tokens": found["max_new_tokens"]} if found.get("max_new_tokens") is not None else {}
    try:
        Generation.model_validate(said | limit)
    except ValidationError as error:
        first = error.errors()[0]
        name = "max_new_tokens" if first["loc"][0] == "max_tokens" else first["loc"][0]
        raise LoadError(
            f"generation_config.json: {name} is {found[str(name)]!r} ({first['msg']}): mend it, or start with "
            "--generation-config none"
        ) from error
    return found


class AllowedTools(Closed):
    """A part of the tools."""

    mode: Literal["auto", "required"]
    tools: Listed[NamedTool] = Field(min_length=1)


class AllowedChoice(Closed):
    """The choice of a part of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ChatRequest(Generation, Conversation):
    """Body of `POST /v1/chat/completions`."""

    neutral: ClassVar = {**BOTH, **CHAT}

    messages: Listed[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: Whole | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: StrictBool | None = False
    top_logprobs: Whole | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedChoice | None = None
    parallel_tool_calls: StrictBool | None = True
    include_reasoning: StrictBool | None = True
    reasoning_effort: Effort | None = None

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        self.check_conversation()
        if self.top_logprobs and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs to be true", "top_logprobs")
        if isinstance(self.tool_choice, str) and self.tool_choice != "required":
            return
        known = {tool.function.name for tool in self.tools or ()}
        if self.tool_choice is not None and not known:
            raise RequestError("tool_choice needs tools", "tool_choice")
        for name in self._chosen or ():
            if name not in known:
                raise RequestError(f"tool_choice names {name!r}, which is not in tools", "tool_choice")

    @property
    def _chosen(self) -> list[str] | None:
        """Names of the tools that `tool_choice` leaves; `None`: all."""
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            return [choice.function.name]
        if isinstance(choice, AllowedChoice):
            return [tool.function.name for tool in choice.allowed_tools.tools]
        return [] if choice == "none" else None

    @property
    def offered(self) -> Sequence[Tool]:
        """See `Conversation`; a function that must be called is shown with the others, so that prompts begin alike."""
        named = self._chosen
        if named is None or isinstance(self.tool_choice, NamedTool):
            return self.tools or ()
        return [tool for tool in self.tools or () if tool.function.name in named]

    @property
    def must_call(self) -> tuple[str, ...]:
        """Names of the tools of which one must be called; none: the model decides."""
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            return (choice.function.name,)
        demanded = choice == "required" or (
            isinstance(choice, AllowedChoice) and choice.allowed_tools.mode == "required"
        )
        return tuple(tool.function.name for tool in self.offered) if demanded else ()

    @property
    def calls_once(self) -> bool:
        """Whether there may be only one call."""
        return self.parallel_tool_calls is False or isinstance(self.tool_choice, NamedTool)

    def options(self, template: ChatTemplate) -> dict[str, Any]:
        """See `Conversation`."""
        return effort_options(self.reasoning_effort, template) | super().options(template)

    def grammar(self) -> Grammar | None:
        """See `Generation`. Of content: calls and thoughts have their own."""
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

    prompt: str | TokenIds | Listed[str] | Listed[TokenIds] | None  # null: a text's beginning
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

    @property
    def echoed(self) -> int | None:
        """See `Generation`."""
        return self.logprobs if self.echo else None

    def prompts(self) -> list[str | list[int] | None]:
        """The prompts, each a text or a list of tokens, or a text's beginning.

        Raises:
            RequestError: there is none, or there are too many.
        """
        prompt = self.prompt
        alone = prompt is None or isinstance(prompt, str) or (prompt and isinstance(prompt[0], int))
        several: list[Any] = [prompt] if alone else [*(prompt or ())]
        if not several:
            raise RequestError("the prompt is empty", "prompt")
        if len(several) * self.choices > MAX_CHOICES:
            raise RequestError(
                f"{len(several)} prompts times n = {self.choices} is more than {MAX_CHOICES} choices", "n"
            )
        return several


class TokenizeRequest(Conversation):
    """Body of `POST /tokenize`: a text, or a conversation as the chat endpoint would see it."""

    neutral = TOKENIZE

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: StrictBool | None = None  # default: true; the template alone writes those of a conversation
    return_token_strs: StrictBool | None = False

    def refuse_unsupported(self, parent: str = "") -> None:
        """See `NeutralFields`."""
        super().refuse_unsupported(parent)
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("give either prompt or messages", "prompt")
        self.check_conversation()
        if self.messages is not None and self.add_special_tokens:
            raise RequestError(
                "add_special_tokens is for a prompt: the chat template writes them", "add_special_tokens"
            )
        for name in ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs"):
            if self.messages is None and getattr(self, name):
                raise RequestError(f"{name} is for messages: a prompt is taken as it is", name)


class DetokenizeRequest(Closed):
    """Body of `POST /detokenize`."""

    model: str | None = None
    tokens: TokenIds
