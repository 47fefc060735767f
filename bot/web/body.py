"""Reads a request's body within limits of memory and time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from bot.webhook.delivery import MAX_BODY, Refusal

MOST_HELD = 128 * 1024 * 1024  # bytes of all bodies together
_DRAINED = 2  # times the limit are read and dropped, so that the sender gets the answer instead of a broken pipe
READ_TIMEOUT = 20.0  # seconds for a whole body; GitHub itself gives up after 10
_FULL = Refusal(status=503, reason="too many bodies are being read; deliver it again")


@dataclass(eq=False)
class _Reading:
    """A body of which some has come. `given_up`: for others."""

    timeout: asyncio.Timeout
    body: bytearray = field(default_factory=bytearray)
    given_up: bool = False


class BodyReader:
    """Reads bodies of at most `limit` bytes. At most `most_held` bytes of all are held until they are answered, which
    bounds the memory: the body that has come for longest and is not whole yet makes room for others."""

    def __init__(self, *, limit: int = MAX_BODY, timeout: float = READ_TIMEOUT, most_held: int = MOST_HELD) -> None:
        self.limit = limit
        self.timeout = timeout
        self.most_held = most_held
        self._held = 0
        self._readings: dict[_Reading, None] = {}  # the oldest first

    @contextlib.asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes | Refusal]:
        """The body, which counts as held within the block; or a refusal: 413 (too large), 408 (too slow), 400 (cut
        off), 503 (others fill the memory)."""
        reading = _Reading(asyncio.timeout(self.timeout))
        try:
            yield await self._read(request, reading)
        finally:
            self._drop(reading)

    async def read(self, request: Request) -> bytes | Refusal:
        """As `held`, for one who drops the body at once."""
        async with self.held(request) as body:
            return body

    async def _read(self, request: Request, reading: _Reading) -> bytes | Refusal:
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > _DRAINED * self.limit:
            return self._too_large()
        size = 0
        try:
            async with reading.timeout:
                self._readings[reading] = None
                async for part in request.stream():
                    size += len(part)
                    if size > _DRAINED * self.limit:
                        return self._too_large()
                    if size > self.limit:
                        self._drop(reading)
                        continue
                    if not self._make_room(reading, len(part)):
                        return _FULL
                    self._held += len(part)
                    reading.body += part
            if reading.given_up:
                return _FULL
            return bytes(reading.body) if size <= self.limit else self._too_large()
        except TimeoutError:
            if reading.given_up:
                return _FULL
            return Refusal(status=408, reason=f"the body did not arrive within {self.timeout:g} s; deliver it again")
        except ClientDisconnect:
            return Refusal(status=400, reason="the connection ended before the body did")
        finally:
            self._readings.pop(reading, None)

    def _make_room(self, reading: _Reading, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        while self._held + size > self.most_held:
            oldest = next((one for one in self._readings if one is not reading), None)
            if oldest is None:
                return False
            oldest.given_up = True
            oldest.timeout.reschedule(asyncio.get_running_loop().time())
            self._drop(oldest)
        return True

    def _drop(self, reading: _Reading) -> None:
        self._readings.pop(reading, None)
        self._held -= len(reading.body)
        reading.body = bytearray()

    def _too_large(self) -> Refusal:
        return Refusal(status=413, reason=f"the body is larger than {self.limit:,} bytes")
