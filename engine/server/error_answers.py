"""Errors as answers in OpenAI's form."""

import json
from collections.abc import Mapping

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from engine.errors import RequestError, ServingError
from engine.server.elsewhere import instead_of


def add_errors(app: FastAPI) -> None:
    """Every error in OpenAI's form."""

    @app.exception_handler(ServingError)
    async def serving(_: HttpRequest, error: ServingError) -> Response:
        return _error_response(error)

    @app.exception_handler(RequestValidationError)
    async def validation(_: HttpRequest, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first.get("type") == "json_invalid":
            return _error_response(RequestError("the body is not valid JSON"))
        if first.get("loc") == ("body",):
            return _error_response(RequestError("the body is no JSON object: send one, as application/json"))
        place = [str(part) for part in first.get("loc", ()) if part != "body"]
        param = place[0] if place else None
        return _error_response(RequestError(f"{'.'.join(place) or 'body'}: {first.get('msg', 'invalid')}", param))

    @app.exception_handler(HTTPException)
    async def http(request: HttpRequest, error: HTTPException) -> Response:
        known = instead_of(request.url.path) if error.status_code == 404 else None
        wrapped = RequestError(known or str(error.detail))
        wrapped.status = error.status_code
        headers = {"Allow": ", ".join(_methods(app, request))} if error.status_code == 405 else error.headers
        return _error_response(wrapped, headers)

    @app.exception_handler(Exception)
    async def unexpected(_: HttpRequest, error: Exception) -> Response:
        return _error_response(ServingError(f"internal error: {type(error).__name__}"))


def _methods(app: FastAPI, request: HttpRequest) -> list[str]:
    """Of all routes that a request's path has; each route by itself knows only its own."""
    routes = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", ())})


def _error_response(error: ServingError, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(error.body())  # ASCII: anything that the message quotes can be encoded
    return Response(text, error.status, headers, media_type="application/json")
