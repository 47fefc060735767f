"""Replicas that answer as told, on real sockets, and a placement of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from engine.cluster.relay import Relay
from engine.cluster.replicas import Replicas
from engine.cluster.routing import Router
from tests.patience import eventually

EVENT = b'data: {"word": "one"}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def answer(status: int, body: dict[str, Any], reason: str = "Said") -> bytes:
    """An answer in JSON."""
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status, reason.encode(), len(text), text,
    )  # fmt: skip


def chunk(data: bytes) -> bytes:
    """A part of a stream."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class FakeReplica:
    """Answers every request but those for its health by `script`, then closes if that does not end as HTTP does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: bytes | None = None  # None: what it was asked
        self.healthy = True
        self.hangs = asyncio.Event()  # set: requests are not answered
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.arrived = asyncio.Event()
        self.hung_up = asyncio.Event()  # whoever asked while it hangs
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        """Listen; returns the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def die(self) -> None:
        """As a killed process does."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if " /health " in head[0]:
                    writer.write(answer(200 if self.healthy else 503, {}))
                    continue
                self.asked.append((head[0], headers, body))
                self.arrived.set()
                if self.hangs.is_set():
                    await reader.read()
                    self.hung_up.set()
                    break
                asked = {"replica": self.name, "line": head[0], "body": body.decode()}
                writer.write(answer(200, asked) if self.script is None else self.script)
                await writer.drain()
                if self.script is not None and not self.script.endswith((b"}", b"0\r\n\r\n")):
                    break
        self._writers.discard(writer)
        writer.close()


class FakePlacement:
    """Knows where the fakes are; those that died come back when `revive` is called."""

    def __init__(self) -> None:
        self.urls: dict[str, asyncio.Future[str]] = {}
        self.restarted: list[str] = []
        self.on_restart: Callable[[str], None] = lambda replica: None

    def put(self, replica: str, url: str | None) -> None:
        """Where a replica is; `None`: nowhere for now."""
        self.urls[replica] = asyncio.get_running_loop().create_future()
        if url is not None:
            self.urls[replica].set_result(url)

    async def address(self, replica: str) -> str:
        """See `Placement`."""
        return await asyncio.shield(self.urls[replica])

    async def restart(self, replica: str) -> None:
        """See `Placement`."""
        self.restarted.append(replica)
        self.on_restart(replica)


@contextlib.asynccontextmanager
async def cluster(count: int = 2, **more: Any) -> AsyncIterator[tuple[Relay, dict[str, FakeReplica], FakePlacement]]:
    """A relay over fakes, all up."""
    fakes = {str(number): FakeReplica(str(number)) for number in range(count)}
    placement = FakePlacement()
    for name, fake in fakes.items():
        placement.put(name, await fake.start())
    relay = Relay(Replicas(list(fakes), placement), Router(list(fakes)), **more)
    try:
        async with relay.running():
            await eventually(lambda: len(relay.replicas.up) == count)
            yield relay, fakes, placement
    finally:
        for fake in fakes.values():
            await fake.die()
