"""Troop's own engine as a child process, for runs whose settings name no endpoint.

`bot` never imports `engine`: this starts `python -m engine` and reads the line that says where it listens.
"""

import asyncio
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from bot.errors import EndpointError
from bot.llm.published_models import CATALOGUE, locate
from bot.settings import Settings
from bot.tasks import under_way

LOADING = 1800.0  # seconds for a real model to load; the first start with a GGUF file unpacks it
STARTING = 600.0  # seconds for the bundled one, on a machine that is busy with other work
TELL = 15.0  # seconds between two messages that it is still loading
LINE = 1 << 24  # bytes of a line: a progress bar redraws itself without ending it
READY = "troop engine ready on "  # the line that `python -m engine` prints once it listens
_logger = logging.getLogger(__name__)
_LOGGED = re.compile(r"(?:INFO engine[\w.]*|troop engine): (.*)")


def configured_engine(
    settings: Settings, log: Path, say: Callable[[str], None] = lambda words: None
) -> contextlib.AbstractAsyncContextManager[str]:
    """An engine with the model that the settings name, else with the bundled one; see `engine_process`.

    `say` is called with progress messages. Raises `ModelMissing` at once if the model is not there.
    """
    if not settings.engine_model:
        say("no model named: starting the engine with the bundled one, a toy; `troop models` fetches real ones")
        return engine_process(log, arguments=settings.engine_arguments)
    name = settings.engine_model
    path = locate(name, settings.models_dir)
    say(f"starting the engine with {name}; its output is in {log}")
    served = [one.name for one in CATALOGUE if one.name == name.lower()]
    arguments = [*(["--served-model-name", served[0]] if served else []), *settings.engine_arguments]
    return engine_process(log, model=str(path), arguments=arguments, start_timeout=LOADING, say=say)


@contextlib.asynccontextmanager
async def engine_process(
    log: Path,
    *,
    model: str = "",
    threads: int = 0,
    arguments: Sequence[str] = (),
    start_timeout: float = STARTING,
    say: Callable[[str], None] = lambda words: None,
) -> AsyncIterator[str]:
    """The base URL of a new engine on a free loopback port, which is stopped when the context ends.

    `model`: a checkpoint's folder or a GGUF file, "" for the bundled one. `arguments`: more command-line arguments. The
    engine's output goes to `log`, and its log messages also to `say` until it listens. Raises `EndpointError` if it
    does not listen within `start_timeout` seconds.
    """
    argv = [sys.executable, "-m", "engine", "--host", "127.0.0.1", "--port", "0", "--follow-stdin"]
    argv += ["--model", model] if model else []
    argv += ["--threads", str(threads)] if threads else []
    argv += arguments
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TROOP_")}
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,  # closed when this process ends, however it ends: the engine ends then
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        limit=LINE,
    )
    assert process.stdout is not None
    drain: asyncio.Task[None] | None = None
    try:
        with log.open("ab") as output:
            try:
                async with asyncio.timeout(start_timeout), _reporting(say):
                    url = await _read_ready(process, output, log, say)
            except TimeoutError:
                message = f"the engine did not start within {start_timeout:.0f} s; its output is in {log}"
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


@contextlib.asynccontextmanager
async def _reporting(say: Callable[[str], None]) -> AsyncIterator[None]:
    """Says every `TELL` seconds that the engine is still loading."""

    async def tell() -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(TELL)
            say(f"still loading, {time.monotonic() - started:.0f} s")

    async with under_way(tell()):
        yield


async def _read_ready(
    process: asyncio.subprocess.Process, output: BinaryIO, log: Path, say: Callable[[str], None]
) -> str:
    assert process.stdout is not None
    last = ""
    while line := await process.stdout.readline():
        output.write(line)
        output.flush()
        text = line.decode(errors="replace").strip()
        if text.startswith(READY):
            return text.removeprefix(READY).rstrip("/")
        last = text.rpartition("\r")[2] or last
        if logged := _LOGGED.match(text):
            say(f"engine: {logged[1]}")
    code = await process.wait()
    why = f": {last.removeprefix('troop engine: ')[:500]}" if last.startswith("troop engine: ") else ""
    raise EndpointError(f"the engine ended with exit code {code} before it listened{why}; its output is in {log}")


async def _copy(stream: asyncio.StreamReader, output: BinaryIO) -> None:
    while line := await stream.readline():
        output.write(line)
        output.flush()


class SharedEngine:
    """Troop's own engine for a worker without a configured endpoint: the first run starts it, later runs share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._lock = asyncio.Lock()
        self._url = settings.main.base_url

    async def url(self) -> str:
        async with self._lock:
            if not self._url:
                output = self._settings.work_dir / "engine.log"
                self._url = await self._stack.enter_async_context(
                    configured_engine(self._settings, output, _logger.info)
                )
            return self._url

    async def close(self) -> None:
        await self._stack.aclose()
