"""Bounds connections by number and their headers by time, so that idle and slow clients can't silence the webhook.

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

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

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


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with both bounds."""

    most = MOST
    header_seconds = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._watch()
        if len(self.connections) > self.most:
            waiting = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting]
            min(waiting or [self], key=lambda one: one._waits_since).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._waits_since = self.loop.time()

    @property
    def is_waiting(self) -> bool:
        """For a request's headers, or for the rest of a body that was answered before it came."""
        return self.cycle is None or bool(self.cycle.response_complete)

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
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # every delivery is logged already
                server_header=False,
                proxy_headers=False,
                http=bounded(most=most_connections()),
                backlog=ACCEPTED_AT_ONCE,
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
