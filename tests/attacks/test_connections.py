"""Idle connections and slow headers: attack 38."""

import asyncio
import contextlib
import socket
import struct
from pathlib import Path

import uvicorn

from bot.web.connections import BACKLOG, BoundedServer, bounded
from tests.patience import eventually


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(**bounds):
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", http=bounded(**bounds))
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_attack_38_idle_connections_make_room_for_a_delivery():
    async with serving(most=10, header_seconds=600.0) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        assert (await ask(port)).endswith(b"ok")
        for _, writer in idle:
            writer.close()


async def test_attack_38_slow_headers_are_timed_out_on_a_kept_connection_too():
    async with serving(header_seconds=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"ok")).endswith(b"ok")
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_attack_38_a_body_that_was_answered_before_it_came_is_timed_out_too():
    async with serving(header_seconds=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert (await reader.readuntil(b"ok")).endswith(b"ok")
        writer.write(b"x")  # no keep-alive bound counts from here on
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_attack_38_the_kernel_holds_what_comes_at_once():
    """However few asyncio accepts in one go: what the kernel has no room for, it asks the client for a second later."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = BoundedServer(app, lifespan="off")
        server.install_signal_handlers = lambda: None
        task = asyncio.create_task(server.serve([listening.dup()]))
        await eventually(lambda: server.started)
        *_, room = struct.unpack("8B6I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))
        assert room == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
        server.should_exit = True
        await task
