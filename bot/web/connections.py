"""Bounds connections by number, and what they send and don't read by time and size, so that no client can silence the
webhook.

Where all places are taken, the connection that has waited longest for its next request makes room for the new one.
"""

import asyncio
import gc
import os
import random
import resource
import socket
import sys
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from bot.web.flood import bound_logs

HEADER_BYTES = 16 * 1024  # of the headers of a request; parsing many small ones takes 10 us each
AHEAD_BYTES = 1024  # of further requests that come before the answer to the present one; browsers and GitHub send none
SMALL_PARTS = 64  # of a body that may have fewer than ...
PART_BYTES = 512  # ... these on average: each part costs as much as a large one
# That a connection stays open behind an answer: longer than proxies keep one (nginx and AWS 60, Caddy 120, Google 600),
# or they would send a delivery on what is being closed, and answer GitHub with a 502.
KEEP_ALIVE_SECONDS = 620
HEADER_SECONDS = 10.0  # for the headers of a request, from the connection or the first byte after an answer on
MOST = 4000  # connections
ACCEPTED_AT_ONCE = 8  # asyncio accepts that many before it looks at any of them, some 0.1 ms each
SWITCH_SECONDS = 0.0002  # that a thread keeps the interpreter from another one that asks for it
BACKLOG = 2048  # connections that the kernel holds until they are accepted; more are tried again by it after a second
_ONCE_MORE = b"troop: ending; once more ends at once, and the next start goes on with what is under way\n"
_RESERVED = 96  # file descriptors for the database, Redis, logs and what is accepted at once


def most_connections() -> int:
    """How many the process may hold: what its limit of file descriptors leaves, after raising that to the most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        wanted = MOST + _RESERVED if hard == resource.RLIM_INFINITY else min(hard, MOST + _RESERVED)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(8, min(MOST, soft - _RESERVED))


class _Parser(h11.Connection):
    """h11's, which refuses a body in very many very small parts, and one whose end two readers would see in two places:
    what a proxy takes for the rest of a stranger's body would be the next request here, before a genuine delivery."""

    _parts, _bytes = 0, 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._parts = self._bytes = 0
            named = {name for name, _ in event.headers}  # in lower case
            if b"transfer-encoding" in named and (b"content-length" in named or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("the length of the body is given in two ways")
        elif isinstance(event, h11.Data):
            self._parts, self._bytes = self._parts + 1, self._bytes + len(event.data)
            if self._parts > SMALL_PARTS and self._bytes < PART_BYTES * self._parts:
                raise h11.RemoteProtocolError("the body comes in too many small parts")
        return event


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with all bounds."""

    most = MOST
    header_seconds = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _waits_since = 0.0
    _stalled = False  # the client does not read what it asked for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.conn = _Parser(h11.SERVER, HEADER_BYTES)
        self._waits_since = self.loop.time()
        self._watch()
        if len(self.connections) > self.most:
            waiting = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting]
            min(waiting or [self], key=lambda one: one._waits_since).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # In pieces, since the parser looks at the size of headers only while they are not whole.
        for start in range(0, len(data), HEADER_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + HEADER_BYTES])
            if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) > AHEAD_BYTES:
                self.drop()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer is out, or on its way
            super().send_400_response(msg)
        if self.cycle is not None:  # the application is not to answer what is answered; uvicorn would log a traceback
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled, self._waits_since = True, self.loop.time()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled = False
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._waits_since = self.loop.time()

    @property
    def is_waiting(self) -> bool:
        """For a request's headers, for the rest of a body that was answered before it came, or for the client to read
        an answer."""
        return self._stalled or self.cycle is None or bool(self.cycle.response_complete)

    def drop(self) -> None:
        self._unwatch()
        self.connections.discard(self)
        self.transport.abort()

    def _watch(self) -> None:
        if not self.is_waiting:
            self._unwatch()
        elif self._timer is None:
            # Those that came together don't leave, and come again, together.
            self._timer = self.loop.call_later(self.header_seconds * random.uniform(0.75, 1.0), self.drop)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded(**bounds: Any) -> type[BoundedProtocol]:
    """The protocol with other bounds than its own."""
    return type("Bounded", (BoundedProtocol,), bounds)


class BoundedServer(uvicorn.Server):
    """Serves sockets of its caller, with both bounds. `options` are uvicorn's."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self._signals = 0  # that came
        bound_logs()
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # every delivery is logged already
                server_header=False,
                proxy_headers=False,
                http=bounded(most=most_connections()),
                backlog=ACCEPTED_AT_ONCE,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                **options,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the server in order. The second is answered, the third ends it at once.

        Uvicorn's own way with a second SIGINT leaves the service running, whose end is then a traceback.
        """
        self._signals += 1
        if self._signals == 1:
            super().handle_exit(sig, frame)
        elif self._signals == 2:
            os.write(2, _ONCE_MORE)  # a handler may run within a print of the main program's
        else:
            os._exit(128 + sig)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # A transaction is a dozen calls of the database's driver, and each gives the interpreter up and waits so long
        # for it where the loop is busy, or a page is computed, while deliveries wait: `python -m tests.bench
        # --only pages` shows it.
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # modules and routes stay; to look through them takes a full collection a sixth of a second
        for listening in sockets or ():
            listening.listen(BACKLOG)  # asyncio's number is the kernel's, too
