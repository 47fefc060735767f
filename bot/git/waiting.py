"""How long an HTTP server asks to wait: seconds or a date in `retry-after`, by the server's own clock."""

import math
import time
from email.utils import parsedate_to_datetime

LONGEST = 3600.0  # seconds: GitHub's limits are by the hour, and what asks for more is another server's mistake


def seconds_of(asked: str, date: str = "") -> float | None:
    """The seconds of a `retry-after`, at most `LONGEST`; None where it can't be read. `date`: the answer's own."""
    try:
        seconds = float(asked)
    except ValueError:
        until = moment_of(asked)
        if until is None:
            return None
        seconds = until - now_of(date)
    return bounded(seconds) if math.isfinite(seconds) else None


def bounded(seconds: float) -> float:
    """From 0 to `LONGEST`, whatever a server or a clock says."""
    return min(max(0.0, seconds), LONGEST)


def now_of(date: str) -> float:
    """The moment of an answer's `Date`, in seconds since 1970; this machine's where it has none."""
    found = moment_of(date)
    return time.time() if found is None else found


def moment_of(date: str) -> float | None:
    """An HTTP date in seconds since 1970; None for anything else."""
    try:
        return parsedate_to_datetime(date.strip()).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
