"""Our side of the process that forks jobs (`bot.sandbox.jail`): a socket to submit them, three pipes for each."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from bot.errors import SandboxError
from bot.sandbox import output
from bot.sandbox.outcome import REPORT_LIMIT

_JAIL = Path(__file__).parent / "jail.py"
_GRACE = 40.0  # seconds after a job's end until all its processes must be gone; the jail tries for less


class Running:
    """A running job. `start` it, `read` it, and always `end` it."""

    def __init__(self, outputs: int, report: int, leash: int) -> None:
        self._descriptors = (outputs, report)
        self._leash = leash
        self.report = output.Capped(REPORT_LIMIT)
        self._transports: list[asyncio.ReadTransport] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._flood = asyncio.Event()
        self._told = asyncio.Event()

    async def start(self, captured: output.Capped) -> None:
        for descriptor, into, told in zip(self._descriptors, (captured, self.report), (None, self._told), strict=True):
            stream = asyncio.StreamReader(limit=1 << 18)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda stream=stream: asyncio.StreamReaderProtocol(stream),  # type: ignore[misc]
                os.fdopen(descriptor, "rb", 0),
            )
            self._transports.append(transport)
            self._tasks.append(asyncio.create_task(_collect(stream, into, self._flood, told)))

    async def told(self) -> None:
        """Until the report has a first line, or has ended."""
        await self._told.wait()

    async def read(self) -> None:
        """Read until the job and all its processes have ended, or it wrote too much."""
        flood = asyncio.create_task(self._flood.wait())
        waited: set[asyncio.Future[Any]] = {flood, asyncio.gather(*self._tasks)}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flood.cancel()

    async def end(self) -> None:
        """Kill its processes and wait until they are gone. Raises `SandboxError` where one is left."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        left = (await asyncio.wait(self._tasks, timeout=_GRACE))[1] if self._tasks else set()
        for task in left:
            task.cancel()
        for transport in self._transports:
            transport.close()
        if left:
            raise SandboxError(f"processes of a job are still running {_GRACE:.0f} s after it was killed")


async def _collect(
    stream: asyncio.StreamReader, into: output.Capped, flood: asyncio.Event, told: asyncio.Event | None = None
) -> None:
    while data := await stream.read(1 << 18):
        into.add(data)
        if told is not None:
            told.set()
        if into.flooded:
            flood.set()
    if told is not None:
        told.set()


class Helper:
    """The process that forks jobs. It is started again if it died."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_JAIL), str(other.fileno())],
                pass_fds=(other.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True, cwd="/", env={},
            )  # fmt: skip

    def submit(self, job: dict[str, object]) -> Running:
        """Start the job. Raises `SandboxError` where the helper died."""
        if self._process.poll() is not None:
            self._socket.close()
            self._start()
        output_reader, output_writer = os.pipe()
        report_reader, report_writer = os.pipe()
        leash_reader, leash_writer = os.pipe()
        described = os.memfd_create("job")
        handed = [described, output_writer, report_writer, leash_reader]
        try:
            with open(described, "wb", closefd=False) as file:
                file.write(json.dumps(job).encode())
            socket.send_fds(self._socket, [b"job"], handed)
        except OSError as error:
            for descriptor in (output_reader, leash_writer, report_reader):
                os.close(descriptor)
            raise SandboxError(f"the process that starts jobs is gone: {error}") from error
        finally:
            for descriptor in handed:
                os.close(descriptor)
        return Running(output_reader, report_reader, leash_writer)

    def close(self) -> None:
        """End it and all its jobs. Blocks for a moment."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE)
        self._process.kill()
        self._process.wait()
