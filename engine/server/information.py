"""Endpoints that generate nothing: health, version, metrics, models and tokenization."""

import asyncio
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, PlainTextResponse

from engine.server.answers import installed_version
from engine.server.long_json import write_json
from engine.server.protocol import DetokenizeRequest, TokenizeRequest
from engine.server.schema import ERRORS, Health, ModelCard, ModelList, Text, Tokens, Version, answers
from engine.server.service import Service


def add_information(app: FastAPI, service: Service) -> None:
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
        found = await service.in_tokenizer(lambda: _tokens(service, body))
        return Response(await asyncio.to_thread(write_json, found), media_type="application/json")

    @app.post("/detokenize", responses=answers(Text))
    async def detokenize(body: DetokenizeRequest, http: HttpRequest) -> Response:
        service.authorize(http)
        service.check_model(body.model)
        service.check_tokens(body.tokens, "tokens")
        return JSONResponse({"prompt": await service.in_tokenizer(lambda: service.tokenizer.text(body.tokens))})


def _tokens(service: Service, body: TokenizeRequest) -> dict[str, Any]:
    """The answer of `/tokenize`.

    Raises:
        ContextLengthError: the text is far longer than any prompt.
    """
    tokenizer, longest = service.tokenizer, service.loop.core.max_model_len
    if body.messages is not None:
        tokens = service.prompt(body).tokens
    else:
        text = body.prompt or ""
        tokenizer.check_length(text, longest)
        tokens = tokenizer.encode(text, body.add_special_tokens is not False)
    names = tokenizer.names(tokens) if body.return_token_strs else None
    return {"count": len(tokens), "max_model_len": longest, "tokens": tokens, "token_strs": names}


def _model_card(service: Service) -> dict[str, Any]:
    limit = service.loop.core.max_model_len
    card = {"id": service.name, "object": "model", "created": 0, "owned_by": "troop", "max_model_len": limit}
    where = {"device": service.loop.core.model.device.type}
    return card | where | {"structured_outputs": ["json", "regex", "choice", "lark"], "continue_final_message": True}
