"""Idle connections and slow headers: attack 38."""

import asyncio
import contextlib
import logging
import socket
import struct
from pathlib import Path

import pytest
import uvicorn

from bot.web.connections import BACKLOG, BoundedServer, bounded
from bot.web.flood import Flood
from tests.patience import eventually


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(served=app, **bounds):
    config = uvicorn.Config(served, port=0, log_config=None, lifespan="off", http=bounded(**bounds))
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


async def test_attack_38_who_does_not_read_its_answers_makes_room_and_is_timed_out():
    ended = 0

    async def large(scope, receive, send):
        nonlocal ended
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(100):
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": number < 99})
        finally:
            ended += 1

    async with serving(large, most=5, header_seconds=600.0) as port:
        deaf = [await deaf_one(port) for _ in range(20)]
        assert (await ask(port)).startswith(b"HTTP/1.1 200")
        for one in deaf:
            one.close()
    async with serving(large, header_seconds=0.05) as port:
        ended, one = 0, await deaf_one(port)
        await eventually(lambda: ended)
        one.close()


async def deaf_one(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(one, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return one


@pytest.mark.parametrize("count", [60, 4000])
async def test_attack_38_who_asks_on_without_waiting_for_answers_is_dropped(count: int):
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        with contextlib.suppress(ConnectionResetError):
            assert (await reader.read()).count(b"ok") < count
        writer.close()


@pytest.mark.parametrize("line", [b"a:\r\n", b"x-a: b\r\n", b"x" * 2000 + b": y\r\n"])
async def test_attack_38_very_many_headers_are_refused_before_they_are_parsed(line: bytes):
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + line * (200_000 // len(line)) + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert (await reader.read()).startswith(b"HTTP/1.1 4")
        writer.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_attack_38_a_body_in_very_many_small_parts_is_refused(chunked: bool):
    parts = 0

    async def counting(scope, receive, send):
        nonlocal parts
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            parts += len(message["body"])
        await app(scope, receive, send)

    async with serving(counting) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 100000"
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + how + b"\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            for _ in range(1 if chunked else 200):
                writer.write(b"1\r\nx\r\n" * 100_000 if chunked else b"x")
                await writer.drain()
                await asyncio.sleep(0)
            if chunked:
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
    assert parts <= 200


async def test_a_body_in_few_parts_arrives():
    async def length(scope, receive, send):
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": str(size).encode()})

    async with serving(length) as port:
        for head, body in (
            (b"Content-Length: 3000000", b"x" * 3_000_000),
            (b"Transfer-Encoding: chunked", (b"400\r\n" + b"x" * 1024 + b"\r\n") * 3000 + b"0\r\n\r\n"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body)
            size = 3_000_000 if b"Length" in head else 3000 * 1024
            assert str(size).encode() in await reader.read()
            writer.close()


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_attack_38_what_strangers_cause_has_few_lines_in_the_log(caplog: pytest.LogCaptureFixture, level: int):
    now = 0.0
    flood = Flood(most=3, seconds=10.0, clock=lambda: now)
    log = logging.getLogger("tests.flood")
    log.addFilter(flood)
    with caplog.at_level(logging.INFO, logger="tests.flood"):
        for number in range(100):
            log.log(level, "refused %d", number)
            log.log(level, f"a task failed\ntask: at {number}")  # as asyncio does
            log.info("delivery %d", number)
        now = 11.0
        log.log(level, "refused %d", 100)
    log.removeFilter(flood)
    said = [record.getMessage() for record in caplog.records if record.levelno == level]
    assert [one for one in said if one.startswith("refused")] == [
        *("refused 0", "refused 1", "refused 2"),
        "refused 100 (and 97 more like it before)",
    ]
    assert len(said) == 4 + 3
    assert sum(record.levelno == logging.INFO for record in caplog.records) == 100


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\ncontent-length: 43\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 43\r\n",
    ],
)
async def test_attack_03_a_body_whose_end_is_disputed_is_refused_with_all_behind_it(head: bytes):
    """A proxy that sees the end elsewhere would pass a stranger's body on as a request."""
    asked = 0

    async def counting(scope, receive, send):
        nonlocal asked
        asked += 1
        await app(scope, receive, send)

    async with serving(counting) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"Host: x\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = await reader.read()
        writer.close()
    assert (answers.startswith(b"HTTP/1.1 400"), answers.count(b"HTTP/1.1 "), asked) == (True, 1, 0)


@pytest.mark.parametrize("answered", [False, True], ids=["before the answer", "behind it"])
async def test_attack_38_a_body_that_breaks_off_writes_no_traceback(caplog: pytest.LogCaptureFixture, answered: bool):
    """Who reads no body answers while it comes; what follows in it is nobody's mistake but the client's."""
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        if answered:
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(b"no number\r\n")
        rest = await reader.read()
        writer.close()
    assert rest.startswith(b"HTTP/1.1 400") or answered
    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno > logging.WARNING
    ] == []
