"""The web as a process of its own, ended by signals."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import httpx
import pytest

from bot.lifecycle import RunState
from bot.store import Store
from tests.bot.webhook.deliveries import SECRET, payload, request
from tests.patience import PATIENCE
from tests.services import free_port

# `troop serve` with a worker that ends every run at once, or whose queue kills the process.
PROCESS = """
import asyncio, logging, os, signal, sys, types
from bot.dispatch.inprocess import InProcessDispatcher
from bot.lifecycle import RunState
from bot.settings import Settings
from bot.web.serve import run_server
from bot.worker.callbacks import Callbacks, Executed, Finished
from bot.worker.worker import Worker
from tests.github.fixtures import KEY

os.environ["DOCKER_HOST"] = "unix:///nowhere.sock"

async def execute(run, journal, progress, advance):
    if sys.argv[3] == "endless":
        print("working", flush=True)
        await asyncio.Event().wait()
    return Finished(state=RunState.FAILED, note="only a test")

async def execute_command(command):
    return Executed()

async def announce(run, state, reason):
    print("told", flush=True)

async def killed(self, job_id):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "killed":
    InProcessDispatcher.enqueue = killed
service = types.ModuleType("bot.worker.process")
service.build_worker = lambda settings, store: Worker(store, Callbacks(execute, execute_command, announce))
sys.modules["bot.worker.process"] = service
logging.basicConfig()
settings = Settings(
    _env_file=None, webhook_secret=sys.argv[4], app_id=1, private_key=KEY, port=int(sys.argv[2]),
    github_url="http://127.0.0.1:9/api/v3",
    database_url=sys.argv[1], sweep_seconds=0.05, pages={"port": 0},
)
asyncio.run(run_server(settings))
"""


@contextlib.asynccontextmanager
async def _serving(store: Store, kind: str) -> AsyncIterator[tuple[Process, str]]:
    port = free_port()
    argv = ["-c", PROCESS, str(store.database.engine.url), str(port), kind, SECRET]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stderr is not None
        seen = b""
        while b"listening on" not in seen:
            line = await process.stderr.readline()
            assert line, f"the server did not start: {seen.decode()}"
            seen += line
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _send(address: str, guid: str) -> int:
    body, headers = request("issues", payload("issues.labeled"), guid=guid)
    async with httpx.AsyncClient() as client:
        return (await client.post(f"{address}/webhook", content=body, headers=headers)).status_code


@pytest.mark.slow
async def test_a_web_killed_after_the_commit_loses_nothing(store: Store) -> None:
    async with asyncio.timeout(PATIENCE), _serving(store, "killed") as (process, address):
        with pytest.raises(httpx.TransportError):
            await _send(address, "the-same")
        assert await process.wait() == -signal.SIGKILL
    assert [run.state for run in store.runs()] == [RunState.QUEUED]
    async with asyncio.timeout(PATIENCE), _serving(store, "normal") as (process, address):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"told\n"  # the sweeper found it
        assert await _send(address, "the-same") == 202  # GitHub delivers again: known
        assert [run.state for run in store.runs()] == [RunState.FAILED]


@pytest.mark.slow
async def test_a_web_that_is_asked_to_end_gives_its_run_back(store: Store) -> None:
    async with asyncio.timeout(PATIENCE), _serving(store, "endless") as (process, address):
        assert await _send(address, "g") == 202
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        assert store.due() == ()
        process.terminate()
        _, err = await process.communicate()
        assert b"Traceback" not in err
        [job] = store.due()  # another process may take it at once
        assert job.startswith("run:")
