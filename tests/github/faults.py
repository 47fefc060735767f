"""Faults on demand, and the log of every request: an ASGI middleware around the whole server."""

import asyncio
import json
import re
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.github.description import description

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
API = "/api/v3"


@dataclass
class Fault:
    """The next `times` requests that match are answered so. With `after` the request is carried out first; with
    `hang` no answer comes until the client gives up."""

    method: str
    path: str  # regular expression, searched in the path
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "Server Error"
    times: int = 1
    after: bool = False
    hang: bool = False

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("*", method) and re.search(self.path, path) is not None


@dataclass
class LoggedRequest:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    status: int = 0  # 0: never answered

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FaultsAndLog:
    """The middleware. `faults` and `requests` may be read and changed from other threads."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.faults: list[Fault] = []
        self.requests: list[LoggedRequest] = []
        self.undescribed: list[str] = []  # what is wrong with the requests, by GitHub's own description
        self.stopping = threading.Event()

    def written(self) -> list[LoggedRequest]:
        """The API's writes that succeeded."""
        writes = (r for r in self.requests if r.method in WRITES and r.path.startswith(f"{API}/"))
        return [r for r in writes if 200 <= r.status < 300 and not r.path.endswith("/access_tokens")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        logged = LoggedRequest(scope["method"], scope["path"], query, headers, body)
        self.requests.append(logged)
        known = description()
        raw = scope["raw_path"].decode("latin-1").partition("?")[0]
        if known is not None and raw.startswith(API):
            self.undescribed += known.problems(logged.method, raw.removeprefix(API), query, body)
        fault = next((f for f in self.faults if f.matches(logged.method, logged.path)), None)
        if fault is not None:
            fault.times -= 1

        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                logged.status = message["status"]
                message["headers"] = [(b"date", formatdate(usegmt=True).encode()), *message["headers"]]
            if fault is None:
                await send(message)

        if fault is None or fault.after:
            await self.app(scope, replay, watch)
        if fault is None:
            return
        if fault.hang:
            await self._until_gone(receive)
            return
        if not fault.after:
            logged.status = fault.status
        content = json.dumps({"message": fault.message}).encode()
        answer = {
            "date": formatdate(usegmt=True),
            "content-type": "application/json",
            "content-length": str(len(content)),
        } | fault.headers
        raw = [(name.encode(), value.encode()) for name, value in answer.items()]
        await send({"type": "http.response.start", "status": fault.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _until_gone(self, receive: Receive) -> None:
        gone = asyncio.ensure_future(receive())
        while not gone.done() and not self.stopping.is_set():
            await asyncio.wait([gone], timeout=0.1)
        gone.cancel()
