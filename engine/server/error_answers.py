"""Errors as answers in OpenAI's form."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from engine.errors import RequestError, ServingError
from engine.server.body import InvalidBody
from engine.server.elsewhere import instead_of

_WORDS = re.compile(r"^Value error, | or (?:instance of \w+|object to extract fields from)")  # pydantic's own


def add_errors(app: FastAPI) -> None:
    """Every error in OpenAI's form."""

    @app.exception_handler(ServingError)
    async def serving(_: HttpRequest, error: ServingError) -> Response:
        return _error_response(error)

    @app.exception_handler(RequestValidationError)
    async def validation(_: HttpRequest, error: RequestValidationError) -> Response:
        return _error_response(_told(error.errors(), error.body))

    @app.exception_handler(InvalidBody)
    async def invalid(_: HttpRequest, error: InvalidBody) -> Response:
        return _error_response(_told(error.errors, error.body))

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


def _told(errors: Sequence[Any], body: Any) -> RequestError:
    """What is wrong with a body, of what pydantic found: of a value that may be of several types it has the errors of
    each, with the types in their places.
    """
    if errors[0]["type"] == "json_invalid":
        return RequestError("the body is not valid JSON")
    if errors[0]["loc"] == ("body",):
        return RequestError("the body is no JSON object: send one, as application/json")
    alike = [error for error in errors if error["loc"][:2] == errors[0]["loc"][:2]]
    told = max(alike, key=lambda error: _nearness(error, body))  # the type that is meant: the value fits it best
    place, fits = _place(told, body), not told["type"].endswith("_type")
    said = [told] if fits else [error for error in alike if _place(error, body) == place]
    first, *more = dict.fromkeys(_WORDS.sub("", error["msg"]) for error in said)
    text = " or ".join([first, *(one.removeprefix("Input should be ") for one in more)])
    return RequestError(f"{'.'.join(map(str, place))}: {text}", str(place[0]))


def _nearness(error: Any, body: Any) -> tuple[bool, int, int]:
    """How well a value fits a type: whether it is of it, then how far one has to look for what is not."""
    place = _place(error, body)
    return not error["type"].endswith("_type"), len(place), place[-1] if isinstance(place[-1], int) else 0


def _place(error: Any, value: Any) -> tuple[int | str, ...]:
    """Where in the body an error is."""
    _, *parts = error["loc"]
    found = []
    for part in parts:
        inside = isinstance(part, int) and isinstance(value, list) and part < len(value)
        if inside or (isinstance(value, dict) and part in value):
            value = value[part]
            found.append(part)
    if error["type"] == "missing":
        found.append(parts[-1])
    return tuple(found) or (parts[0],)


def _methods(app: FastAPI, request: HttpRequest) -> list[str]:
    """Of all routes that a request's path has; each route by itself knows only its own."""
    routes = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", ())})


def _error_response(error: ServingError, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(error.body())  # ASCII: anything that the message quotes can be encoded
    return Response(text, error.status, headers, media_type="application/json")
