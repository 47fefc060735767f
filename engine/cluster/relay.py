"""The one address: every request goes to a replica and its answer back, byte by byte.

A request whose replica is lost is computed once more, by another, as long as none of its answer was sent. Events of a
stream are sent whole; one that has begun ends with an error.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import aiohttp
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from engine.cluster.metrics import render
from engine.cluster.replicas import Backend, Replicas
from engine.cluster.routing import Load, Router, load_of
from engine.errors import ReplicaError, RequestError, ServingError
from engine.server.body import aside
from engine.server.long_json import AT_ONCE

T = TypeVar("T")

ATTEMPTS = 2
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # that a connection is kept: less than the replicas keep it, or one could close as it is used
_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
_OWN = _HOP | {b"host", b"content-length", b"expect"}
_ENDING = ("shutting_down", "engine_failed")  # codes of an engine that goes away with its requests


@dataclass(frozen=True)
class Asked:
    """A request as it came, with all of its body."""

    method: str
    target: str  # path and query
    headers: list[tuple[str, str]]
    body: bytes
    load: Load


class LostError(Exception):
    """The replica did not answer to the end."""

    def __init__(self, begun: bool) -> None:
        self.begun = begun  # whether the client has some of the answer
        super().__init__()


class GoneError(Exception):
    """The client hung up."""


class Relay:
    """The ASGI application."""

    def __init__(self, replicas: Replicas, router: Router, key: str | None = None) -> None:
        """
        Args:
            replicas: not yet watched; they are from the application's start to its end.
            router: chooses among them.
            key: sent to the replicas instead of the client's; `None`: what the client sends, which they check.
        """
        self.retried = 0
        self.served = dict.fromkeys(replicas.names, 0)  # requests whose answer came from there
        self.replicas = replicas
        self.router = router
        self._key = key
        self._session: aiohttp.ClientSession

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See https://asgi.readthedocs.io/en/stable/specs/www.html."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the replicas, with connections to them, inside the block."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=limit, auto_decompress=False) as self._session:
            await self.replicas.start(self._session)
            try:
                yield
            finally:
                await self.replicas.stop()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
                await self._health(send, scope["method"] == "GET")
            elif scope["path"] == "/metrics" and scope["method"] == "GET":
                text = await render(self, self._session)
                await _respond(send, 200, text, "text/plain; version=0.0.4; charset=utf-8")
            else:
                asked = await _read(scope, receive)
                answer = _Answer(send)
                await _unless_gone(receive, answer, self._forward(asked, answer.send))
        except GoneError:
            pass
        except ServingError as error:
            waits = [(b"retry-after", b"5")] if error.status == 503 else []
            await _respond(send, error.status, json.dumps(error.body()).encode(), "application/json", waits)

    async def _health(self, send: Send, with_body: bool) -> None:
        up = self.replicas.up
        states = {name: "ok" if name in up else "starting" for name in self.replicas.names}
        body = json.dumps({"status": "ok" if up else "stopped", "replicas": states}).encode()
        await _respond(send, 200 if up else 503, body if with_body else b"", "application/json")

    async def _forward(self, asked: Asked, send: Send) -> None:
        """Let a replica answer, and once more another if that one is lost before it has begun to.

        Raises:
            ReplicaError: none is up, or both were lost.
        """
        tried: Backend | None = None
        for attempt in range(ATTEMPTS):
            among = {name: one for name, one in self.replicas.up.items() if one is not tried}
            if not among and tried is not None and await self.replicas.still_up(tried, self._session):
                among = {tried.replica: tried}
            if not among:
                raise ReplicaError(f"none of {len(self.replicas.names)} replicas is up; they are being started")
            name = self.router.take(asked.load, among)
            tried = among[name]
            try:
                await self._ask(tried, asked, send)
                self.served[name] += 1
                return
            except LostError as error:
                tried.suspected.set()
                if error.begun:
                    failure = ReplicaError("the replica that computed this answer ended: send the request again")
                    await send(_part(f"data: {json.dumps(failure.body())}\n\n".encode(), more=False))
                    return
                self.retried += attempt + 1 < ATTEMPTS
            finally:
                self.router.release(asked.load, name)
        raise ReplicaError(f"{ATTEMPTS} replicas ended while they computed this request")

    async def _ask(self, backend: Backend, asked: Asked, send: Send) -> None:
        """Send a request to a replica and its answer to the client.

        Raises:
            LostError: the replica was lost on the way.
        """
        sender = _Sender(send, backend.replica)
        try:
            await _until(backend.lost, self._pass_on(backend, asked, sender))
        except (aiohttp.ClientError, OSError) as error:
            raise LostError(sender.begun) from error

    async def _pass_on(self, backend: Backend, asked: Asked, sender: "_Sender") -> None:
        headers = asked.headers
        if self._key is not None:
            headers = [one for one in headers if one[0] != "authorization"] + [("authorization", f"Bearer {self._key}")]
        async with self._session.request(
            asked.method,
            URL(f"{backend.url}{asked.target}", encoded=True),
            headers=headers,
            data=asked.body or None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            if answer.content_type == "text/event-stream":
                async for events in _whole_events(answer.content):
                    if not sender.begun and _is_ending(events.removeprefix(b"data: ").split(b"\n\n")[0]):
                        raise LostError(begun=False)
                    await sender.send(answer, events, more=True)
                await sender.send(answer, b"", more=False)
                return
            body = await answer.read()
            if answer.status >= 500 and _is_ending(body):
                raise LostError(begun=False)
            await sender.send(answer, body, more=False)


class _Answer:
    """Knows whether an answer is whole: then a client that is gone has not hung up."""

    def __init__(self, send: Send) -> None:
        self.whole = False
        self._send = send

    async def send(self, message: Message) -> None:
        self.whole = message["type"] == "http.response.body" and not message["more_body"]
        await self._send(message)


class _Sender:
    """Sends the head of an answer with its first bytes."""

    def __init__(self, send: Send, replica: str) -> None:
        self.begun = False
        self._send = send
        self._replica = replica

    async def send(self, answer: aiohttp.ClientResponse, body: bytes, more: bool) -> None:
        if not self.begun:
            self.begun = True
            raw = [(name.lower(), value) for name, value in answer.raw_headers]
            headers = [one for one in raw if one[0] not in _HOP | {b"date", b"server"}]
            headers.append((b"x-troop-replica", self._replica.encode()))
            await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send(_part(body, more))


async def _read(scope: Scope, receive: Receive) -> Asked:
    """The whole request, which may have to be sent twice.

    Raises:
        GoneError: the client hung up.
        RequestError: the body is too large.
    """
    parts = []
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
    except HTTPException as error:  # of `BodyLimit`
        refused = RequestError(str(error.detail))
        refused.status = error.status_code
        raise refused from None
    body = b"".join(parts)
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"] if name not in _OWN
    ]
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += f"?{scope['query_string'].decode('latin-1')}"
    load = partial(load_of, scope["path"])
    return Asked(scope["method"], target, headers, body, await aside(body, load) if len(body) > AT_ONCE else load(body))


async def _whole_events(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Server-sent events as they come, never a part of one."""
    rest = b""
    async for chunk in stream.iter_any():
        rest += chunk
        end = rest.rfind(b"\n\n") + 2
        if end > 1:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _is_ending(body: bytes) -> bool:
    """Whether an answer or event says that its engine goes away."""
    if b'"error"' not in body:
        return False
    try:
        return json.loads(body)["error"]["code"] in _ENDING
    except (ValueError, KeyError, TypeError):
        return False


async def _until(lost: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, unless the replica is lost: a machine that vanished closes no connection.

    Raises:
        ConnectionError: it is lost.
    """
    if not await _first(work, lost.wait()):
        raise ConnectionResetError("the replica is lost")


async def _unless_gone(receive: Receive, answer: _Answer, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, which sends `answer`, unless the client hangs up before that is whole.

    Raises:
        GoneError: it did.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if answer.whole:
            await asyncio.Event().wait()  # for ever: `work` has only to tidy up

    if not await _first(work, gone()):
        raise GoneError


async def _first(work: Coroutine[Any, Any, None], end: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` until `end` comes; whether it was done. Whatever is not done is cancelled, and has ended."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in (working, ending):
            task.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


def _part(body: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _respond(
    send: Send, status: int, body: bytes, kind: str, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(_part(body, more=False))
