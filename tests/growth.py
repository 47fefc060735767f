"""Whether work grows with what it is done on, and not with its square: on fast machines and slow ones, busy or not."""

import gc
import time
from collections.abc import Callable

TIMES = 8
MOST = 3 * TIMES  # a square grows TIMES ** 2 = 64 fold; in between lies what a disturbed measurement may be wrong by
TRIES = 3  # a disturbance passes, a square stays


def grows_evenly(function: Callable[[str], object], part: str, length: int) -> bool:
    """Whether `TIMES` as long a text of repeated parts takes about as many times the work, in CPU time of this thread.

    Args:
        length: characters of the longer text.
    """
    short, long = ((part * length)[:n] for n in (length // TIMES, length))

    def evenly() -> bool:
        return _seconds(function, long) < MOST * min(_seconds(function, short) for _ in range(3))

    gc.disable()  # a collection takes longer than the function, and comes when it likes
    try:
        return any(evenly() for _ in range(TRIES))
    finally:
        gc.enable()


def _seconds(function: Callable[[str], object], text: str) -> float:
    begin = time.thread_time()
    function(text)
    return time.thread_time() - begin
