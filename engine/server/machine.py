"""A server's process and its machine: the socket, the cores, standard input. Imports nothing heavy."""

import os
import signal
import socket
import threading
from io import FileIO
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

# That a connection stays open behind an answer: longer than clients and proxies keep one (Google 600), which would
# else send a request on what is being closed.
KEEP_ALIVE_SECONDS = 620


def model_name(model: str) -> str:
    """The default name of a model: that of its folder or file."""
    return os.path.basename(os.path.normpath(model)).removesuffix(".gguf")


def follow_stdin() -> None:
    """End this process when standard input closes, as it does when the parent process ends."""
    # Unbuffered: a thread that waits in a buffered read would abort Python's exit.
    stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - read until the process ends
    threading.Thread(target=end_when_closed, args=(stdin,), name="follow-stdin", daemon=True).start()


def end_when_closed(stream: FileIO) -> None:
    """Read to the end of the stream, then end this process as a signal from outside would."""
    while stream.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def available_cores() -> int:
    """Cores that this process may use, limited by a container's quota if there is one (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return cores


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that the port is known before the server runs.

    Raises:
        SystemExit: the address is in use or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio would not switch off Nagle's algorithm, and answers would wait 40 ms for a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if port:  # else one that nobody has; with this option another process could be given it, too, before we listen
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise _cannot(host, port, error) from error
    return listener


def _cannot(host: str, port: int, error: OSError) -> SystemExit:
    return SystemExit(f"troop engine: cannot listen on {host}:{port}: {error.strerror}")


class Server(uvicorn.Server):
    """A server that prints a line to standard output when it listens."""

    def __init__(self, app: ASGIApp, listener: socket.socket, **options: Any) -> None:
        """`options` are uvicorn's."""
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, **options)
        )
        self._host, self._port = host, port = listener.getsockname()[:2]
        self._ready = f"troop engine ready on http://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            try:
                listener.listen()
            except OSError as error:  # another process bound the same address, and listened first
                raise _cannot(self._host, self._port, error) from error
        await super().startup(sockets)
        if self.started:
            print(self._ready, flush=True)
