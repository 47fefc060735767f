"""Endpoints that generate: chat and plain completions."""

from dataclasses import replace

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest

from engine.errors import RequestError
from engine.schedule.sequence import Request
from engine.server.answers import Echo
from engine.server.delivery import deliver
from engine.server.protocol import ChatRequest, CompletionRequest, Generation
from engine.server.schema import ChatAnswer, CompletionAnswer, answers
from engine.server.service import Service


def add_generation(app: FastAPI, service: Service) -> None:
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
        return await deliver(service, http, body, [request], True, bool(body.logprobs))

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
            return await deliver(service, http, body, requests, False, body.logprobs is not None)
        for request in requests:
            request.params = replace(request.params, prompt_logprobs=body.logprobs)
        heads = [service.tokenizer.text(prompt) if isinstance(prompt, list) else prompt for prompt in prompts]
        echo = Echo(requests, heads, body.choices, body.logprobs is not None, body.max_tokens == 0)
        return await deliver(service, http, body, requests, False, body.logprobs is not None, echo)


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
