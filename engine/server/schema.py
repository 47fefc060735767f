"""Answers as `/openapi.json` describes them; `engine.server.answers` writes them. Tests hold every answer to these
models."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Described(BaseModel):
    """A model that allows no other fields."""

    model_config = ConfigDict(extra="forbid")


class Error(Described):
    """What went wrong; `param` names the wrong field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Described):
    """Every answer whose status is 400 or more."""

    error: Error


class PromptDetails(Described):
    """Tokens of the prompt that were not computed."""

    cached_tokens: int


class Usage(Described):
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Token(Described):
    """A token with its log-probability; `bytes` is exact where `token` is not valid text by itself."""

    token: str
    logprob: float
    bytes: list[int]


class SampledToken(Token):
    """A token of an answer, and the likeliest alternatives."""

    top_logprobs: list[Token]


class ChatLogprobs(Described):
    """Of each token of an answer."""

    content: list[SampledToken]
    refusal: None


class PromptToken(Described):
    """A token of a prompt or an alternative to it; rank 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = dict[str, PromptToken] | None  # by token id; of the first token: null


class CalledFunction(Described):
    """What is called; `arguments` is a JSON object."""

    name: str
    arguments: str


class ToolCall(Described):
    """A call of one of the request's tools."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Described):
    """What the model says; fields that have nothing to say are left out."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[ToolCall] = []


class ChatChoice(Described):
    """One of `n` answers."""

    index: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    message: ChatMessage
    logprobs: ChatLogprobs | None
    token_ids: list[int] = []  # with `return_token_ids`, here and below


class ChatAnswer(Described):
    """Of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] = []
    prompt_logprobs: list[PromptLogprobs] = []  # with `prompt_logprobs`, here and below


class CompletionLogprobs(Described):
    """Parallel lists, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]  # the first token of an echoed prompt has none
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Described):
    """One of `n` continuations of one prompt."""

    index: int
    finish_reason: Literal["stop", "length"]
    text: str
    logprobs: CompletionLogprobs | None
    token_ids: list[int] = []
    prompt_token_ids: list[int] = []
    prompt_logprobs: list[PromptLogprobs] = []


class CompletionAnswer(Described):
    """Of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class ModelCard(Described):
    """A served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    device: str  # `cpu` or `cuda`: a client may ask for less on a slow device
    continue_final_message: bool  # whether replies can be begun for the model
    structured_outputs: list[str]  # supported forms of constraints; `lark`: grammars in llguidance's dialect


class ModelList(Described):
    """Of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelCard]


class Tokens(Described):
    """Of `POST /tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None  # as the vocabulary writes them, where they were asked for


class Text(Described):
    """Of `POST /detokenize`."""

    prompt: str


class Version(Described):
    """Of `GET /version`."""

    version: str


class Health(Described):
    """Of `GET /health`."""

    status: Literal["ok", "stopped"]


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


def answers(model: type[Described], streamed: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint: `model`, or events where the client asked for a stream; else an error."""
    found: dict[str, Any] = {"model": model}
    if streamed:
        found["content"] = {"text/event-stream": {}}  # OpenAPI 3.1 cannot describe events
    return {200: found, **ERRORS}
