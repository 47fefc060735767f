"""A limit on the size of request bodies, with and without a declared length."""

import json

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import RequestError

MAX_BODY = 64 << 20  # bytes


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
