"""The HTTP service: OpenAI's endpoints over an `EngineLoop`."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from engine.errors import AuthenticationError, RequestError, ServingError, UnknownModelError
from engine.loop import EngineLoop
from engine.schedule.sequence import Output, Request
from engine.server.answers import Answer, Choice, Echo, installed_version
from engine.server.body import BodyLimit
from engine.server.error_answers import add_errors
from engine.server.metrics import EngineMetrics
from engine.server.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    Generation,
    Message,
    TokenizeRequest,
)
from engine.server.schema import (
    ERRORS,
    ChatAnswer,
    CompletionAnswer,
    Health,
    ModelCard,
    ModelList,
    Text,
    Tokens,
    Version,
    answers,
)
from engine.text.grammar import Grammars, Guide
from engine.text.tokenizer import Tokenizer

MAX_BODY = 64 << 20  # bytes
T = TypeVar("T")


class Service:
    """What the endpoints share."""

    def __init__(self, loop: EngineLoop, name: str, api_key: str | None = None) -> None:
        self.loop = loop
        self.name = name
        self.metrics = EngineMetrics(loop.core)
        self._key = api_key
        # One thread: the tokenizer is fast, and waiting for it must not block the event loop.
        # It compiles grammars too.
        self._tokenizing = ThreadPoolExecutor(1, "tokenizer")

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the served model."""
        return self.loop.core.tokenizer

    def authorize(self, request: HttpRequest) -> None:
        """Check the bearer key, where one is set.

        Raises:
            AuthenticationError: it is missing or wrong.
        """
        if self._key is None:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {self._key}".encode()):
            raise AuthenticationError("incorrect API key: send it as 'Authorization: Bearer KEY'")

    def check_model(self, model: str | None) -> None:
        """Refuse requests for another model.

        Raises:
            UnknownModelError: it is not the one served here.
        """
        if model is not None and model != self.name:
            raise UnknownModelError(f"the model {model!r} does not exist; this engine serves {self.name!r}", "model")

    async def in_tokenizer(self, work: Callable[[], T]) -> T:
        """Run `work` in the tokenizer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    @cached_property
    def grammars(self) -> Grammars:
        """Of the served model; only the tokenizer's thread may use them."""
        core = self.loop.core
        return Grammars(core.tokenizer, core.model.vocabulary, core.model.end_tokens)

    async def guide(self, body: Generation) -> Guide | None:
        """The start of the grammar that a request asks for, if any.

        Raises:
            RequestError: the grammar can't be used.
        """
        grammar = body.grammar()
        return None if grammar is None else await self.in_tokenizer(lambda: self.grammars.compile(grammar))

    def close(self) -> None:
        """Stop the engine."""
        self.loop.stop()
        self._tokenizing.shutdown()

    def encode(self, prompt: str | list[int]) -> list[int]:
        """Tokens of one prompt.

        Raises:
            RequestError: it is empty or not valid.
        """
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        if not tokens:
            raise RequestError("the prompt is empty", "prompt")
        self.check_tokens(tokens, "prompt")
        return tokens

    def check_tokens(self, tokens: Sequence[int], field: str) -> None:
        """Refuse tokens that the model does not know.

        Raises:
            RequestError: one is not in the vocabulary.
        """
        limit, largest = self.loop.core.model.vocabulary, max(tokens, default=0)
        if largest >= limit:
            raise RequestError(f"token {largest} is not in the vocabulary of {limit}", field)

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation.

        Raises:
            RequestError: the template refuses it, or it has no tokens.
        """
        tokens = self.tokenizer.chat([message.plain() for message in messages])
        if not tokens:
            raise RequestError("the messages have no text", "messages")
        return tokens


def create_app(loop: EngineLoop, name: str, api_key: str | None = None) -> FastAPI:
    """The application. It starts `loop` when it starts, and stops it when it stops.

    Args:
        loop: not yet started.
        name: under which the model is served.
        api_key: bearer key that requests must carry; `None` for none.
    """
    service = Service(loop, name, api_key)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="Troop engine", lifespan=lifespan)
    app.state.service = service
    app.add_middleware(BodyLimit, most=MAX_BODY)
    add_errors(app)

    _add_information(app, service)
    _add_generation(app, service)
    return app


def _add_information(app: FastAPI, service: Service) -> None:
    """Health, version, metrics, models and tokenization."""

    @app.get("/health", responses=answers(Health) | {503: {"model": Health}})
    async def health() -> Response:
        return JSONResponse({"status": "ok" if service.loop.alive else "stopped"}, 200 if service.loop.alive else 503)

    @app.head("/health", response_class=Response, responses={503: {"description": "Stopped"}})
    async def health_without_body() -> Response:
        return Response(status_code=200 if service.loop.alive else 503, media_type="application/json")

    @app.get("/version", responses=answers(Version))
    async def version() -> Response:
        return JSONResponse({"version": installed_version()})

    @app.get("/metrics", response_class=PlainTextResponse, responses=ERRORS)
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", responses=answers(ModelList))
    async def models(http: HttpRequest) -> Response:
        service.authorize(http)
        return JSONResponse({"object": "list", "data": [_model_card(service)]})

    @app.get("/v1/models/{model:path}", responses=answers(ModelCard))
    async def model_card(model: str, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(model)
        return JSONResponse(_model_card(service))

    @app.post("/tokenize", responses=answers(Tokens))
    async def tokenize(body: TokenizeRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        body.refuse_unsupported()
        messages, prompt = body.messages, body.prompt or ""
        if messages is not None:
            tokens = await service.in_tokenizer(lambda: service.chat_tokens(messages))
        else:
            tokens = await service.in_tokenizer(
                lambda: service.tokenizer.encode(prompt, body.add_special_tokens is not False)
            )
        counts = {"count": len(tokens), "max_model_len": service.loop.core.max_model_len}
        names = service.tokenizer.names(tokens) if body.return_token_strs else None
        return JSONResponse(counts | {"tokens": tokens, "token_strs": names})

    @app.post("/detokenize", responses=answers(Text))
    async def detokenize(body: DetokenizeRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        service.check_tokens(body.tokens, "tokens")
        return JSONResponse({"prompt": await service.in_tokenizer(lambda: service.tokenizer.text(body.tokens))})


def _add_generation(app: FastAPI, service: Service) -> None:
    """Chat and plain completions."""

    @app.post("/v1/chat/completions", responses=answers(ChatAnswer, streamed=True))
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        body.refuse_unsupported()
        tokens = await service.in_tokenizer(lambda: service.chat_tokens(body.messages))
        wanted = body.max_completion_tokens or body.max_tokens
        otherwise = service.loop.core.model.defaults.get("max_new_tokens")
        request = _request(service, body, tokens, wanted, otherwise, body.alternatives)
        request.guide = await service.guide(body)
        return await _answer(service, http, body, [request], True, bool(body.logprobs))

    @app.post("/v1/completions", responses=answers(CompletionAnswer, streamed=True))
    async def completions(body: CompletionRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        body.refuse_unsupported()
        prompts = body.prompts()
        texts = await service.in_tokenizer(lambda: [service.encode(prompt) for prompt in prompts])
        wanted = 1 if body.max_tokens == 0 else body.max_tokens
        requests = [_request(service, body, tokens, wanted, 16, body.logprobs) for tokens in texts]
        for request in requests:
            request.guide = await service.guide(body)
        if not body.echo:
            return await _answer(service, http, body, requests, False, body.logprobs is not None)
        for request in requests:
            request.params = replace(request.params, prompt_logprobs=body.logprobs)
        heads = [service.tokenizer.text(prompt) if isinstance(prompt, list) else prompt for prompt in prompts]
        echo = Echo(requests, heads, body.choices, body.logprobs is not None, body.max_tokens == 0)
        return await _answer(service, http, body, requests, False, body.logprobs is not None, echo)


def _model_card(service: Service) -> dict[str, Any]:
    limit = service.loop.core.max_model_len
    card = {"id": service.name, "object": "model", "created": 0, "owned_by": "troop", "max_model_len": limit}
    where = {"device": service.loop.core.model.device.type}
    return card | where | {"structured_outputs": ["json", "regex", "choice", "lark"]}


def _request(
    service: Service,
    body: Generation,
    prompt: list[int],
    wanted: int | None,
    otherwise: int | None,
    logprobs: int | None,
) -> Request:
    """The engine's request. Its limit is `wanted` tokens if given, else `otherwise`, else what the context leaves;
    refused if too long.
    """
    room = service.loop.core.max_model_len - len(prompt)
    limit = wanted or min(otherwise or room, room)
    params = body.sampling(service.loop.core.model.defaults, max(1, limit), logprobs)
    if params.min_tokens > params.max_tokens:
        raise RequestError(f"min_tokens is more than the limit of {params.max_tokens} tokens", "min_tokens")
    if params.min_tokens and body.grammar() is not None:
        raise RequestError("min_tokens can't be combined with a grammar, which may end earlier", "min_tokens")
    service.check_tokens([token for token, _ in params.logit_bias], "logit_bias")
    client = f"user {body.user}" if body.user else ""
    return Request(prompt, params, n=body.choices, stream=bool(body.stream), client=client)


async def _answer(
    service: Service,
    http: HttpRequest,
    body: Generation,
    requests: list[Request],
    chat: bool,
    logprobs: bool,
    echo: Echo | None = None,
) -> Response:
    """Run requests to the end, whole or as a stream. The choices of request `i` have indices `i * n` and up."""
    queue: asyncio.Queue[Output] = asyncio.Queue()
    for request in requests:
        service.loop.core.check(request)
        request.notify = queue.put_nowait
    answer = Answer(service.tokenizer, service.name, chat, logprobs, echo)
    firsts = {id(request): place * body.choices for place, request in enumerate(requests)}
    for request in requests:
        service.loop.submit(request)
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        events = _stream(service, queue, requests, firsts, answer, chat, include_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    try:
        choices = await _unless_disconnected(http, _collect(queue, requests, firsts))
    finally:
        _abort(service, requests)
    if choices is None:
        return Response(status_code=499)  # the client is gone
    return JSONResponse(answer.whole(choices, requests))


async def _collect(queue: asyncio.Queue[Output], requests: list[Request], firsts: dict[int, int]) -> list[Choice]:
    choices = [Choice(index) for index in range(sum(request.n for request in requests))]
    missing = len(choices)
    while missing:
        output = await queue.get()
        if output.error is not None:
            raise output.error
        choices[firsts[id(output.request)] + output.index].add(output)
        missing -= output.finish_reason is not None
    return choices


async def _stream(
    service: Service,
    queue: asyncio.Queue[Output],
    requests: list[Request],
    firsts: dict[int, int],
    answer: Answer,
    chat: bool,
    include_usage: bool,
) -> AsyncIterator[str]:
    """Server-sent events. Closing the generator, as the server does when the client is gone, aborts the requests."""
    missing = sum(request.n for request in requests)
    opened: set[int] = set()
    try:
        while missing:
            outputs = [await queue.get()]
            while not queue.empty():  # a step's choices leave together
                outputs.append(queue.get_nowait())
            events: list[str] = []
            for output in outputs:
                if output.error is not None:
                    failure = (
                        output.error if isinstance(output.error, ServingError) else ServingError(str(output.error))
                    )
                    yield "".join([*events, _event(failure.body())])
                    return
                choice = Choice(firsts[id(output.request)] + output.index)
                choice.add(output)
                if chat and choice.index not in opened:
                    opened.add(choice.index)
                    events.append(_event(answer.chunk(Choice(choice.index), first=True)))
                events.append(_event(answer.chunk(choice)))
                missing -= output.finish_reason is not None
            yield "".join(events)
            await asyncio.sleep(0)  # let other tasks run even if the queue never gets empty
        if include_usage:
            yield _event(answer.last_chunk(requests))
        yield "data: [DONE]\n\n"
    finally:
        _abort(service, requests)


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _abort(service: Service, requests: list[Request]) -> None:
    for request in requests:
        if not (request.sequences and request.finished):
            service.loop.abort(request)


async def _unless_disconnected(http: HttpRequest, work: Awaitable[T]) -> T | None:
    """The result of `work`, or `None` if the client hung up first."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, watching):
            task.cancel()
