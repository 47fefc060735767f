"""Troop's own engine as a child process: for `troop solve` and `troop demo` where no endpoint is named.

The two packages meet over HTTP alone, so this starts `python -m engine` and reads the line that says where it listens.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from bot.errors import EndpointError

READY = "troop engine ready on "  # the line that `python -m engine` prints once it listens


@contextlib.asynccontextmanager
async def bundled_engine(
    log: Path, *, model: str = "", threads: int = 0, start_timeout: float = 120.0
) -> AsyncIterator[str]:
    """The base URL of a fresh engine on a free loopback port, stopped when the context ends.

    `model` is a checkpoint folder; empty: the bundled one. What the engine prints goes to `log`. Raises `EndpointError`
    where it does not come up within `start_timeout` seconds.
    """
    argv = [sys.executable, "-m", "engine", "--host", "127.0.0.1", "--port", "0", "--follow-stdin"]
    argv += ["--model", model] if model else []
    argv += ["--threads", str(threads)] if threads else []
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TROOP_")}
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,  # closes with this process, however it ends, and the engine with it
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    assert process.stdout is not None
    drain: asyncio.Task[None] | None = None
    try:
        with log.open("ab") as output:
            try:
                async with asyncio.timeout(start_timeout):
                    url = await _read_ready(process, output, log)
            except TimeoutError:
                message = f"the engine did not come up within {start_timeout:.0f} s; its output is in {log}"
                raise EndpointError(message) from None
            drain = asyncio.create_task(_copy(process.stdout, output))
            yield f"{url}/v1"
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10.0)
            except TimeoutError:
                process.kill()
                await process.wait()
        if drain is not None:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)


async def _read_ready(process: asyncio.subprocess.Process, output: BinaryIO, log: Path) -> str:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        output.write(line)
        output.flush()
        text = line.decode(errors="replace").strip()
        if text.startswith(READY):
            return text.removeprefix(READY).rstrip("/")
    code = await process.wait()
    raise EndpointError(f"the engine ended with exit code {code} before it listened; its output is in {log}")


async def _copy(stream: asyncio.StreamReader, output: BinaryIO) -> None:
    while line := await stream.readline():
        output.write(line)
        output.flush()
