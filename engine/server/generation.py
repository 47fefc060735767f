"""Endpoints that generate: chat and plain completions."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest

from engine.errors import RequestError
from engine.schedule.sequence import Request
from engine.server.chat_answer import ChatForm, ChatOptions
from engine.server.completion_answer import CompletionForm, CompletionOptions
from engine.server.delivery import deliver
from engine.server.protocol import ChatRequest, CompletionRequest, Generation
from engine.server.replies import ReplyPlan
from engine.server.schema import ChatAnswer, CompletionAnswer, answers
from engine.server.service import Service
from engine.text.grammar import Grammar


def add_generation(app: FastAPI, service: Service) -> None:
    """Chat and plain completions."""

    @app.post("/v1/chat/completions", responses=answers(ChatAnswer, streamed=True))
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        body.refuse_unsupported()
        request, plan = await service.in_tokenizer(lambda: _chat_request(service, body))
        options = ChatOptions(
            plan.reader,
            plan.call_id,
            body.include_reasoning is not False,
            bool(body.logprobs),
            bool(body.return_token_ids),
            body.prompt_logprobs,
        )
        return await deliver(service, http, body, [request], ChatForm(service.tokenizer, service.name, options))

    @app.post("/v1/completions", responses=answers(CompletionAnswer, streamed=True))
    async def completions(body: CompletionRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        body.refuse_unsupported()
        make = _completion_maker(service, body)
        prompts = body.prompts()
        requests = [await service.in_tokenizer(partial(make, prompt)) for prompt in prompts]  # others in between
        texts = await service.in_tokenizer(lambda: _texts(service, prompts, requests)) if body.echo else None
        options = CompletionOptions(
            body.choices,
            body.logprobs,
            texts,
            body.max_tokens == 0,
            bool(body.return_token_ids),
            body.prompt_logprobs,
        )
        return await deliver(service, http, body, requests, CompletionForm(service.tokenizer, service.name, options))


def _chat_request(service: Service, body: ChatRequest) -> tuple[Request, ReplyPlan]:
    """The engine's request, and how its replies are read."""
    prompt = service.prompt(body)
    plan = service.replies.plan(body, prompt)
    grammar = service.replies.grammar(body, plan, prompt)
    wanted = body.max_completion_tokens or body.max_tokens
    otherwise = service.defaults.get("max_new_tokens")
    request = _request(
        service, body, prompt.tokens, grammar, wanted or otherwise, wanted is not None, body.alternatives
    )
    request.named_tokens = plan.named_tokens
    if plan.ends:
        stops = request.params.stop_token_ids | plan.ends
        request.params = replace(request.params, stop_token_ids=stops)
    return request, plan


def _completion_maker(service: Service, body: CompletionRequest) -> Callable[[str | list[int] | None], Request]:
    """Makes the engine's request of a prompt, in the tokenizer's thread."""
    grammar, limit = body.grammar(), 1 if body.max_tokens == 0 else body.max_tokens

    def make(prompt: str | list[int] | None) -> Request:
        tokens = service.encode(prompt)
        return _request(service, body, tokens, grammar, limit or 16, limit is not None, body.logprobs)

    return make


def _texts(service: Service, prompts: list[str | list[int] | None], requests: list[Request]) -> list[str]:
    """The prompts as they are echoed."""
    pairs = zip(prompts, requests, strict=True)
    return [given if isinstance(given, str) else service.tokenizer.text(request.prompt) for given, request in pairs]


def _request(
    service: Service,
    body: Generation,
    prompt: list[int],
    grammar: Grammar | None,
    wanted: int | None,
    strictly: bool,
    logprobs: int | None,
) -> Request:
    """The engine's request. Its limit is `wanted` tokens, refused if too long where `strictly`; else what the context
    leaves.
    """
    room = service.loop.core.max_model_len - len(prompt)
    limit = wanted if wanted and strictly else min(wanted or room, room)
    params = body.sampling(service.defaults, max(1, limit), logprobs)
    if params.min_tokens > params.max_tokens:
        raise RequestError(f"min_tokens is more than the limit of {params.max_tokens} tokens", "min_tokens")
    for name in ("min_tokens", "bad_words"):
        if getattr(body, name) and grammar is not None:
            raise RequestError(f"{name} can't be combined with a grammar, which may demand otherwise", name)
    service.check_tokens([token for token, _ in params.logit_bias], "logit_bias")
    params = replace(params, bad_words=service.bad_words(body.bad_words or ()))
    return Request(
        prompt,
        params,
        n=body.choices,
        stream=bool(body.stream),
        guide=None if grammar is None else service.grammars.compile(grammar),
        client=f"user {body.user}" if body.user else "",
        returns_tokens=bool(body.return_token_ids),
    )
