"""Request bodies: limits on their size, with and without a declared length, and how their JSON is read."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import RequestError
from engine.server.long_json import AT_ONCE, read_json

T = TypeVar("T")

MAX_BODY = 64 << 20  # bytes
_READING = ThreadPoolExecutor(1, "bodies")  # one thread: more would take more of the interpreter from the engine


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


class InvalidBody(HTTPException):
    """What pydantic finds wrong with a long body."""

    def __init__(self, errors: Sequence[Any], body: Any) -> None:
        self.errors = errors
        self.body = body
        super().__init__(400)


class JSONRoute(APIRoute):
    """A route whose bodies are read by `read_json`; long ones in a thread, where they are validated, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See https://fastapi.tiangolo.com/how-to/custom-request-and-route/."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JSONRequest(request, self._valid))

        return handler

    def _valid(self, body: bytes) -> Any:
        """What the endpoint is given; FastAPI takes it as it is."""
        value = read_json(body)
        if self.body_field is None:
            return value
        valid, errors = self.body_field.validate(value, loc=("body",))
        if errors:
            raise InvalidBody(errors, value)
        return valid


class _JSONRequest(Request):
    def __init__(self, request: Request, valid: Callable[[bytes], Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._valid = valid

    async def json(self) -> Any:
        body = await self.body()
        return await aside(body, self._valid) if len(body) > AT_ONCE else read_json(body)


async def aside(body: bytes, work: Callable[[bytes], T]) -> T:
    """What `work` makes of a body, in the thread for long ones."""
    return await asyncio.get_running_loop().run_in_executor(_READING, work, body)
