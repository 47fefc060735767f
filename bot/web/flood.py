"""Bounds the lines that strangers have a server log: each refused request has one, and costs its sender nothing."""

import logging
import time
from collections.abc import Callable

MOST = 50  # lines of a kind ...
SECONDS = 10.0  # ... in this time
LOGGERS = ("uvicorn.error", "asyncio", "bot.web.app", "bot.web.sign_in")


class Flood(logging.Filter):
    """Leaves out warnings and errors of a kind beyond `most` in a while; the first of the next while says how many.

    A kind is the first line of the message before its values are put in: those of asyncio go on with addresses.
    """

    def __init__(self, most: int = MOST, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # since when, and how many

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg).partition("\n")[0]), self._clock()
        since, count = self._seen.get(kind, (now, 0))
        left_out = 0
        if now - since >= self._seconds:
            left_out = max(0, count - self._most)
            since, count = now, 0
        self._seen[kind] = (since, count + 1)
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like it before)"
        return count < self._most


_FLOOD = Flood()


def bound_logs() -> None:
    """From now on; twice is once."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_FLOOD)
