"""A job's output, capped while it is read: its beginning and its end."""

OF_COMMAND = 5  # times as much is kept of a command as of a test script: runners name a thousand tests one by one
FLOOD = 256 * 1024 * 1024  # bytes; a job that writes more is stopped


class Capped:
    """Keeps a quarter of `limit` bytes from the beginning and the rest from the end."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 4
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0  # bytes seen

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._tail_limit :]
        if len(self._tail) > 2 * self._tail_limit:  # cut rarely, so that adding is cheap
            del self._tail[: -self._tail_limit]

    @property
    def flooded(self) -> bool:
        return self.total > FLOOD

    @property
    def truncated(self) -> bool:
        return self.total > self._head_limit + self._tail_limit

    @property
    def text(self) -> str:
        """As UTF-8; invalid bytes become U+FFFD."""
        if not self.truncated:
            return (self._head + self._tail).decode("utf-8", "replace")
        left_out = self.total - self._head_limit - self._tail_limit
        tail = self._tail[-self._tail_limit :] if self._tail_limit else b""
        return (
            self._head.decode("utf-8", "replace")
            + f"\n[... {left_out} bytes left out ...]\n"
            + bytes(tail).decode("utf-8", "replace")
        )
