"""How long a test waits for what must happen: until it has happened. No test may depend on how fast the machine is.

`PATIENCE` is the one time-out of the tests, a backstop that turns a hang into a failure. It is far longer than what it
bounds takes where everything else wants the processors too, so nothing is learned from its having passed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 240.0  # seconds
PAUSE = 0.01  # seconds between two looks

_sleep = asyncio.sleep  # the real one, where a test has another in its place


def until(holds: Callable[[], T], seconds: float = PATIENCE, pause: float = PAUSE) -> T:
    """The first true value of `holds`, which is asked again and again; for tests without an event loop.

    `pause` is longer where a look costs something.
    Raises `AssertionError` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"nothing after {seconds:g} s"
        time.sleep(pause)
    return value


async def eventually(holds: Callable[[], T], seconds: float = PATIENCE, pause: float = PAUSE) -> T:
    """As `until`, while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"nothing after {seconds:g} s"
        await _sleep(pause)
    return value


async def soon(awaited: Awaitable[T]) -> T:
    """What is awaited; raises `TimeoutError` where it hangs."""
    return await asyncio.wait_for(awaited, PATIENCE)


async def turns(count: int = 50) -> None:
    """Let every task that is free to run go on: for what must *not* happen."""
    for _ in range(count):
        await _sleep(0)


def growing(first: float) -> Iterator[float]:
    """Seconds, each twice the last, up to `PATIENCE`.

    For a limit that a test wants to be exceeded, but not before something has happened: the test tries again with a
    longer one where the machine was too busy to get that far.
    """
    while first < PATIENCE:
        yield first
        first *= 2
