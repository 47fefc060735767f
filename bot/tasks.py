"""Asyncio tasks that end with whoever began them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def under_way(*work: Awaitable[T]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """The work as tasks while the block runs. At its end what has not ended is cancelled, and waited for."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results, in order. The first failure cancels the rest and is raised as it is."""
    async with under_way(*work) as tasks:
        return await asyncio.gather(*tasks)
