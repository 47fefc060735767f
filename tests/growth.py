"""Tells linear from quadratic time, on fast and slow machines, busy or not."""

import gc
import time
from collections.abc import Callable

TIMES = 8
MOST = 3 * TIMES  # quadratic time grows 64-fold; the margin is for disturbed measurements
TRIES = 3  # a disturbance is not repeated


def grows_evenly(function: Callable[[str], object], part: str, length: int) -> bool:
    """Whether a text `TIMES` as long, of repeated parts, takes about `TIMES` the CPU time of this thread.

    Args:
        length: characters of the longer text.
    """
    short, long = ((part * length)[:n] for n in (length // TIMES, length))

    def evenly() -> bool:
        return _seconds(function, long) < MOST * min(_seconds(function, short) for _ in range(3))

    gc.disable()  # a collection may take longer than the function
    try:
        return any(evenly() for _ in range(TRIES))
    finally:
        gc.enable()


def _seconds(function: Callable[[str], object], text: str) -> float:
    begin = time.thread_time()
    function(text)
    return time.thread_time() - begin
