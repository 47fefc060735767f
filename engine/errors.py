"""Everything the engine raises on purpose.

EngineError
├── GraphError                 decode steps cannot be recorded as CUDA graphs; they are launched kernel by kernel
├── LoadError                  the model cannot be served; the process ends
│   └── UnsupportedModelError  it uses a feature that the attention backend does not implement
└── ServingError               one request fails; has a status and OpenAI's error fields
    ├── RequestError           400, the request is wrong
    │   └── ContextLengthError 400, the prompt or what it asks for does not fit
    ├── AuthenticationError    401
    ├── UnknownModelError      404
    ├── OverloadedError        429, too many requests wait
    ├── StepError              500, the step that computed this request failed
    ├── RankError              500, a process of a tensor-parallel engine is gone; the engine ends
    ├── ReplicaError           503, no replica could compute this request
    └── ShutdownError          503, the engine is stopping
"""


class EngineError(Exception):
    """Base of all."""


class GraphError(EngineError):
    """The model's step cannot be recorded, or gives another result when it is replayed."""


class LoadError(EngineError):
    """The model cannot be served."""


class UnsupportedModelError(LoadError):
    """The model uses `feature`, which the attention backend does not implement."""

    def __init__(self, feature: str, detail: str = "") -> None:
        self.feature = feature
        super().__init__(
            f"the model uses {feature}, which this engine does not implement{': ' if detail else ''}{detail}"
        )


class ServingError(EngineError):
    """One request fails. `status`, `kind`, `code` and `param` are the fields of OpenAI's error object."""

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)

    def body(self) -> dict[str, dict[str, str | None]]:
        """The JSON object that OpenAI's clients expect."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


class RequestError(ServingError):
    """The request is wrong; `param` names the field."""

    status = 400
    kind = "invalid_request_error"


class ContextLengthError(RequestError):
    """The prompt, or the prompt and what may be generated, is longer than the context or the cache."""

    code = "context_length_exceeded"


class AuthenticationError(ServingError):
    """No key, or a wrong one."""

    status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"


class UnknownModelError(ServingError):
    """The request names a model that this engine does not serve."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"


class OverloadedError(ServingError):
    """Too many requests wait already."""

    status = 429
    kind = "rate_limit_error"
    code = "overloaded"


class StepError(ServingError):
    """The step that computed this request failed; other requests continue."""

    code = "step_failed"


class RankError(ServingError):
    """A process of a tensor-parallel engine is gone, and with it the engine."""

    code = "engine_failed"


class ReplicaError(ServingError):
    """No replica is up, or the one that computed this request ended."""

    status = 503
    kind = "service_unavailable"
    code = "replica_lost"


class ShutdownError(ServingError):
    """The engine is stopping."""

    status = 503
    kind = "service_unavailable"
    code = "shutting_down"


def one_line(error: object) -> str:
    """An error's message as one line of bounded length, for terminals and logs."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"unknown name {text}"
    return text if len(text) <= 500 else f"{text[:497]}..."


def ending(error: Exception) -> str:
    """The line that tells why the engine does not start, with a way out where the model is the reason."""
    if not isinstance(error, UnsupportedModelError):
        return f"troop engine: {one_line(error)}"
    way = "A server that knows this model, as vLLM may, can be named to Troop instead (--base-url, TROOP_MAIN_BASE_URL)"
    return f"troop engine: {one_line(error)}. {way}"


def reason(error: BaseException) -> str:
    """Why something failed, without the path that the system's message repeats: `Permission denied`."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
