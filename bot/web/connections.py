"""Bounds connections by number and their headers by time, so that idle and slow clients can't silence the webhook.

Where all places are taken, the connection that has waited longest for its next request makes room for the new one.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # for the headers of a request, from the connection or the first byte after an answer on
MOST = 4000  # connections
ACCEPTED_AT_ONCE = 32  # asyncio accepts that many before it looks at any of them
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
            self._timer = self.loop.call_later(self.header_seconds, self.drop)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded(**bounds: Any) -> type[BoundedProtocol]:
    """The protocol with other bounds than its own."""
    return type("Bounded", (BoundedProtocol,), bounds)
