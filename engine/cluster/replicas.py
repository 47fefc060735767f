"""Which replicas are up: one task for each asks where it serves, then whether it still does."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from engine.errors import one_line

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # between two questions
ANSWER_SECONDS = 10.0  # in which a replica answers one
PATIENCE = 3  # questions without an answer until a replica is given up


class Placement(Protocol):
    """Starts replicas and starts them again."""

    async def address(self, replica: str) -> str:
        """The URL of a replica; waits until it serves. Raises whatever keeps it from that, for now or for good."""

    async def restart(self, replica: str) -> None:
        """Start a replica again that hangs. It may be gone already."""


@dataclass(eq=False)
class Backend:
    """A replica from one start to its end."""

    replica: str
    url: str
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    suspected: asyncio.Event = field(default_factory=asyncio.Event)  # something failed: ask at once


class Replicas:
    """Those that are up, by name."""

    def __init__(self, names: Sequence[str], placement: Placement) -> None:
        self.names = tuple(names)
        self.up: dict[str, Backend] = {}
        self.starts = dict.fromkeys(names, 0)
        self._placement = placement
        self._one_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, session: aiohttp.ClientSession) -> None:
        """Watch from now on; return when one is up."""
        self._tasks = [asyncio.create_task(self._watch(name, session)) for name in self.names]
        await self._one_up.wait()

    async def stop(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def still_up(self, backend: Backend, session: aiohttp.ClientSession) -> bool:
        """Whether a replica answers, after a request to it failed."""
        backend.suspected.set()
        return not backend.lost.is_set() and await _answers(backend, session) is None

    async def _watch(self, name: str, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                url = await self._placement.address(name)
            except Exception as error:  # of any kind: the replica is not up, and is asked again
                logger.warning("replica %s is not up: %s", name, one_line(error))
                await asyncio.sleep(CHECK_SECONDS)
                continue
            backend = Backend(name, url)
            if await _answers(backend, session) is None:
                self.up[name] = backend
                self.starts[name] += 1
                self._one_up.set()
                hangs = await _until_lost(backend, session)
                logger.warning("replica %s is lost", name)
                del self.up[name]
                backend.lost.set()
                if hangs:
                    await self._placement.restart(name)
            await asyncio.sleep(CHECK_SECONDS / 5)


async def _until_lost(backend: Backend, session: aiohttp.ClientSession) -> bool:
    """Wait until a replica is lost; whether its process may still be there."""
    silent = 0
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(backend.suspected.wait(), CHECK_SECONDS)
        backend.suspected.clear()
        failure = await _answers(backend, session)
        if failure is None:
            silent = 0
        elif isinstance(failure, TimeoutError) and silent + 1 < PATIENCE:
            silent += 1
        else:
            return not isinstance(failure, aiohttp.ClientConnectionError) or isinstance(failure, TimeoutError)


async def _answers(backend: Backend, session: aiohttp.ClientSession) -> Exception | None:
    """What keeps a replica from answering that it is well."""
    try:
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with session.get(f"{backend.url}/health", timeout=limit) as answer:
            answer.raise_for_status()
            return None
    except (aiohttp.ClientError, OSError) as error:  # a `TimeoutError` is an `OSError`
        return error
