"""Reads a request's body within limits of memory and time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from bot.webhook.delivery import MAX_BODY, Refusal

LARGE = 1024 * 1024  # bytes; nearly every delivery is smaller
MOST_HELD = 128 * 1024 * 1024  # bytes of all bodies together
_DRAINED = 2  # times the limit are read and dropped, so that the sender gets the answer instead of a broken pipe
READ_TIMEOUT = 20.0  # seconds for a whole body; GitHub itself gives up after 10


class BodyReader:
    """Reads bodies of at most `limit` bytes. Only a few large ones are read at once, and at most `most_held` bytes of
    all are held until they are answered, which bounds the memory."""

    def __init__(
        self,
        *,
        limit: int = MAX_BODY,
        large_at_once: int = 4,
        timeout: float = READ_TIMEOUT,
        most_held: int = MOST_HELD,
    ) -> None:
        self.limit = limit
        self.timeout = timeout
        self.most_held = most_held
        self._held = 0
        self._large = asyncio.Semaphore(large_at_once)

    @contextlib.asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes | Refusal]:
        """The body, which counts as held within the block; or a refusal: 413 (too large), 408 (too slow, also when
        waiting for other large ones), 400 (cut off), 503 (others fill the memory)."""
        parts: list[bytes] = []
        try:
            yield await self._read(request, parts)
        finally:
            self._held -= sum(map(len, parts))

    async def read(self, request: Request) -> bytes | Refusal:
        """As `held`, for one who drops the body at once."""
        async with self.held(request) as body:
            return body

    async def _read(self, request: Request, parts: list[bytes]) -> bytes | Refusal:
        """The body, its parts in `parts`."""
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > _DRAINED * self.limit:
            return self._too_large()
        size = 0
        holding = False
        try:
            async with asyncio.timeout(self.timeout):
                async for part in request.stream():
                    size += len(part)
                    if size > _DRAINED * self.limit:
                        return self._too_large()
                    if size > self.limit:
                        self._held -= sum(map(len, parts))
                        parts.clear()
                        continue
                    if size > LARGE and not holding:
                        await self._large.acquire()
                        holding = True
                    if self._held + len(part) > self.most_held:
                        return Refusal(status=503, reason="too many bodies are being read; deliver it again")
                    self._held += len(part)
                    parts.append(part)
            return b"".join(parts) if size <= self.limit else self._too_large()
        except TimeoutError:
            return Refusal(status=408, reason=f"the body did not arrive within {self.timeout:g} s; deliver it again")
        except ClientDisconnect:
            return Refusal(status=400, reason="the connection ended before the body did")
        finally:
            if holding:
                self._large.release()

    def _too_large(self) -> Refusal:
        return Refusal(status=413, reason=f"the body is larger than {self.limit:,} bytes")
