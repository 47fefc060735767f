"""Limits on request bodies: their size, with and without a declared length, and what their JSON may hold."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import RequestError, one_line

MAX_BODY = 64 << 20  # bytes
MAX_KEYS = 10_000  # of one object: pydantic makes an error of a kilobyte for each that is wrong


class BodyLimit:
    """ASGI middleware: a body whose declared length is too large is refused unread, another one while it is read; both
    with 413.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        """
        Args:
            app: what is served.
            most: bytes of a body.
        """
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See https://asgi.readthedocs.io/en/stable/specs/www.html."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said[:20]) > self._most:
            await self._refuse(send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._reason)
            return message

        await self._app(scope, counted, send)

    @property
    def _reason(self) -> str:
        return f"the body has more than {self._most} bytes"

    async def _refuse(self, send: Send) -> None:
        body = json.dumps(RequestError(self._reason).body()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class JSONRoute(APIRoute):
    """A route whose bodies are read by `read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See https://fastapi.tiangolo.com/how-to/custom-request-and-route/."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JSONRequest(request.scope, request.receive))

        return handler


class _JSONRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """The value of a body.

    Raises:
        JSONDecodeError: it is not JSON.
        HTTPException: it is not UTF-8, or holds what no request needs.
    """
    try:
        return json.loads(body, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise HTTPException(400, "the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise HTTPException(400, "the body is not UTF-8") from error
    except ValueError as error:  # a number of thousands of digits
        raise HTTPException(400, f"the body can't be read: {one_line(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise HTTPException(400, f"an object in the body has {len(pairs)} fields, more than {MAX_KEYS}")
    return dict(pairs)
