"""The output of a `docker exec`: what the job prints and what is reported, separated and capped while it is read.

Format: https://docs.docker.com/reference/api/engine/ (container attach, stream format): frames of an 8-byte header
(stream, three zeros, length as a big-endian 32-bit number) and their content.
"""

import contextlib
import socket
import struct
import time
from typing import Any

from bot.sandbox import output
from bot.sandbox.outcome import REPORT_LIMIT

_BEGINNING = 1 << 16  # bytes of the report in which `job.sh` says that the job begins


class Stream:
    """Reads until the end, a line of the report, or a deadline. One thread at a time."""

    def __init__(self, attached: Any, limit: int) -> None:
        self._attached = attached  # keeps the response alive, which would close the socket
        self._socket: socket.socket = getattr(attached, "_sock", attached)
        self._rest = bytearray()
        self.output = output.Capped(limit)
        self.report = output.Capped(REPORT_LIMIT)
        self._started = b""  # of the report, until `until` was seen

    def send(self, data: bytes, seconds: float) -> None:
        """Write the job's input and end it. Raises `OSError`."""
        self._socket.settimeout(seconds)
        self._socket.sendall(data)
        with contextlib.suppress(OSError):  # not every connection can be half closed; the archive marks its own end
            self._socket.shutdown(socket.SHUT_WR)

    def read(self, deadline: float, until: bytes = b"") -> bool:
        """Read to the end, or to a line of the report with `until` in it; whether that came in time, unflooded."""
        while True:
            if until and (at := self._started.find(until)) >= 0 and self._started.find(b"\n", at) >= 0:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self.output.flooded:
                return False
            self._socket.settimeout(remaining)
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                return False
            if not data:
                return not until
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._rest += data
        position = 0
        while len(self._rest) - position >= 8:
            kind, length = struct.unpack_from(">BxxxL", self._rest, position)
            if len(self._rest) - position - 8 < length:
                break
            content = bytes(self._rest[position + 8 : position + 8 + length])
            position += 8 + length
            if kind == 2:
                self.report.add(content)
                if len(self._started) < _BEGINNING:
                    self._started += content
            else:
                self.output.add(content)
        del self._rest[:position]

    def close(self) -> None:
        """Close the connection. Safe to call twice, never raises."""
        # Outermost first: each layer flushes the one below; none closes the socket.
        for layer in (getattr(self._attached, "_response", None), self._attached, self._socket):
            if layer is not None:
                with contextlib.suppress(OSError, ValueError):
                    layer.close()
