"""A real engine over real loopback HTTP, for tests."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from engine.server.machine import Server, listen
from tests.patience import PATIENCE


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread; the base URL inside."""
    listener = listen("127.0.0.1", 0)
    started = threading.Event()

    class Started(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Started(app, listener, timeout_graceful_shutdown=1)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()
