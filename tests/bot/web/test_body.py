import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from bot.web.body import BodyReader
from bot.webhook.delivery import Refusal


def _request(parts: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> Request:
    async def receive() -> dict[str, object]:
        try:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _status(reader: BodyReader, request: Request) -> int:
    outcome = await reader.read(request)
    return outcome.status if isinstance(outcome, Refusal) else 200


async def test_a_body_in_parts() -> None:
    assert await BodyReader().read(_request(_parts(b"a", b"", b"bc"))) == b"abc"
    assert await BodyReader().read(_request(_parts())) == b""


@pytest.mark.parametrize(("size", "status"), [(9, 200), (10, 200), (11, 413), (20, 413), (21, 413), (1000, 413)])
async def test_the_limit(size: int, status: int) -> None:
    assert await _status(BodyReader(limit=10), _request(_parts(*[b"x"] * size))) == status


async def test_a_declared_length_far_over_the_limit_is_not_read() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    for declared in ("21", "9" * 5000):
        assert await _status(BodyReader(limit=10), _request(never(), {"Content-Length": declared})) == 413


@pytest.mark.parametrize("declared", ["-1", "x", "²", ""])
async def test_a_declared_length_that_is_no_number_counts_for_nothing(declared: str) -> None:
    assert await _status(BodyReader(limit=10), _request(_parts(b"a"), {"Content-Length": declared})) == 200


async def test_a_body_that_never_ends_is_408() -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    assert await _status(BodyReader(timeout=0.01), _request(drip())) == 408


async def test_a_connection_that_ends_is_400() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    assert await _status(BodyReader(), request) == 400


@pytest.mark.parametrize("size", [3, 5, 10])
async def test_attack_38_slow_bodies_make_room_for_others(size: int) -> None:
    """The one that has come for longest first."""
    reader = BodyReader(most_held=10)
    begun = asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 5
        begun.release()
        await asyncio.Event().wait()

    reading = []
    for _ in range(2):
        reading.append(asyncio.create_task(_status(reader, _request(slow()))))
        await begun.acquire()
    assert await reader.read(_request(_parts(b"y" * size))) == b"y" * size
    first, second = reading
    assert await first == 503
    assert second.done() == (size > 5)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert await reader.read(_request(_parts(b"x" * 10))) == b"x" * 10, "all was given back"


async def test_beyond_the_memory_of_all_bodies_is_503_until_some_are_answered() -> None:
    reader = BodyReader(most_held=10)
    async with reader.held(_request(_parts(b"x" * 4, b"x" * 4))) as first:
        assert first == b"x" * 8
        assert await _status(reader, _request(_parts(b"xx", b"x"))) == 503
        assert await reader.read(_request(_parts(b"xx"))) == b"xx"
    assert await reader.read(_request(_parts(b"x" * 10))) == b"x" * 10


async def test_what_is_dropped_is_not_held() -> None:
    reader = BodyReader(limit=5, most_held=10)
    for _ in range(3):
        assert await _status(reader, _request(_parts(b"xxxx", b"xxxx"))) == 413
    assert await _status(reader, _request(_parts(b"xxxxx"))) == 200
