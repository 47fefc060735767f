"""A sandbox for a folder whose config names the programs that run test scripts."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings


@contextlib.asynccontextmanager
async def configured(folder: Path, scripts: Mapping[str, tuple[str, ...]]) -> AsyncIterator[ProcessSandbox]:
    """`scripts`: commands by endings, as in `.troop.toml`."""
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), folder, scripts=scripts)
    try:
        yield sandbox
    finally:
        await sandbox.close()
