"""The pause between two writes that GitHub asks for."""

import threading
import time


class Pace:
    """At least `gap` seconds between two writes of this process, whichever loop or thread they come from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0.0

    def reserve(self, gap: float) -> float:
        """Seconds to wait before writing."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free)
            self._free = start + gap
            return start - now
