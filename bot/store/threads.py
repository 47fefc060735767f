"""Threads for the store alone.

The default threads run clones and containers for minutes; a renewal that waits behind those would lose its lease.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="store")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` for the store's methods. When cancelled, the call still runs to its end."""
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: call(*args, **kwargs))
