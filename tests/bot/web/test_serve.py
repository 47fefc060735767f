import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from bot.contracts import Journal, Progress
from bot.dispatch import open_dispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from bot.errors import SettingsError
from bot.lifecycle import RunState
from bot.records import ClaimedCommand, ClaimedRun
from bot.settings import SandboxSettings, Settings, checked
from bot.store import Store
from bot.web.connections import BoundedServer
from bot.web.serve import build_app, run_server
from bot.worker.callbacks import Advance, Callbacks, Executed, Finished
from bot.worker.worker import Worker
from tests.bot.webhook.deliveries import SECRET, payload, request
from tests.patience import PATIENCE
from tests.services import RedisServer


def _settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **({"webhook_secret": SECRET, "app_id": 1, "private_key": "PEM"} | changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"webhook_secret": ""}, "TROOP_WEBHOOK_SECRET"),
        ({"sandbox": SandboxSettings(kind="process")}, "TROOP_SANDBOX_KIND=docker"),
        ({"app_id": 0}, "TROOP_APP_ID"),
        ({"private_key": ""}, "TROOP_PRIVATE_KEY_FILE"),
    ],
)
def test_what_a_server_refuses(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        checked(_settings(**changes))


def test_no_process_is_given_more_than_it_needs() -> None:
    checked(_settings(private_key=""), works=False)
    checked(_settings(webhook_secret=""), receives=False)
    with pytest.raises(SettingsError, match="TROOP_SANDBOX_KIND"):
        checked(_settings(sandbox=SandboxSettings(kind="process")), receives=False)


def test_a_server_never_falls_back_to_the_plain_process(tmp_path: Path) -> None:
    assert checked(_settings()).sandbox.kind == "docker"
    assert checked(_settings(app_id=0, token="x")).sandbox.kind == "docker"
    key = tmp_path / "key.pem"
    with pytest.raises(SettingsError, match=r"key\.pem is not there"):
        checked(_settings(private_key="", private_key_file=key))
    key.write_text("x")
    assert checked(_settings(private_key="", private_key_file=key)).sandbox.kind == "docker"


async def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} can't be bound .* TROOP_PORT"):
            await run_server(_settings(port=port, database_url=f"sqlite:///{tmp_path / 'x'}"))


@pytest.mark.parametrize("host", ["0.0.0.0:8000", "http://0.0.0.0", "*"])
async def test_what_is_no_address_of_this_machine_is_told(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match=r"TROOP_PORT, or as TROOP_HOST an address .*without http:// and port"):
        await run_server(_settings(host=host, database_url=f"sqlite:///{tmp_path / 'x'}"))


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_may_be_in_brackets(tmp_path: Path, host: str) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^\[::1\]:{port} can't be bound \(Address already in use\)"):
            await run_server(_settings(host=host, port=port, database_url=f"sqlite:///{tmp_path / 'x'}"))


# -- the whole process over HTTP ---------------------------------------------------------------------------------


class Told:
    """A worker's work that fails at once, and the event of the issue being told."""

    def __init__(self) -> None:
        self.runs: asyncio.Queue[tuple[ClaimedRun, RunState, str]] = asyncio.Queue()
        self.commands: asyncio.Queue[ClaimedCommand] = asyncio.Queue()

    async def execute(self, run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        return Finished(state=RunState.FAILED, note="only a test")

    async def execute_command(self, command: ClaimedCommand) -> Executed:
        self.commands.put_nowait(command)
        return Executed()

    async def announce(self, run: ClaimedRun, state: RunState, reason: str) -> None:
        self.runs.put_nowait((run, state, reason))


def test_a_proxy_closes_a_connection_before_the_service_does() -> None:
    """Else its next delivery may meet the end of the connection, and as a POST it is not tried again."""
    assert BoundedServer(FastAPI()).config.timeout_keep_alive > 600


class Running:
    """The application under uvicorn, with its lifespan."""

    def __init__(self, app: FastAPI) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))

    async def __aenter__(self) -> "Running":
        self._serving = asyncio.create_task(self.server.serve([self._socket]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.should_exit = True
        await self._serving
        self._socket.close()

    async def send(self, name: str) -> None:
        body, headers = request(name.partition(".")[0], payload(name))
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{self.address}/webhook", content=body, headers=headers)
        assert response.status_code == 202


@pytest.fixture
async def told() -> Told:
    return Told()


async def test_without_redis_the_worker_is_in_the_process(settings: Settings, store: Store, told: Told) -> None:
    worker = Worker(store, Callbacks(told.execute, told.execute_command, told.announce))
    async with Running(build_app(settings, store, worker=worker)) as running, asyncio.timeout(PATIENCE):
        await running.send("issues.labeled")
        run, state, reason = await told.runs.get()
        assert (run.repository, run.issue.number, run.sender) == ("octo-org/octo-repo", 7, "octocat")
        assert (state, reason) == (RunState.FAILED, "only a test")
        await running.send("issue_comment.created")
        assert (await told.commands.get()).run_id == run.id


async def test_what_was_queued_before_the_start_is_swept_up(settings: Settings, store: Store, told: Told) -> None:
    async with Running(build_app(settings, store)) as running:  # no worker: the job stays in the database
        await running.send("issues.labeled")
    worker = Worker(store, Callbacks(told.execute, told.execute_command, told.announce))
    async with Running(build_app(settings, store, worker=worker)), asyncio.timeout(PATIENCE):
        assert (await told.runs.get())[1] is RunState.FAILED


async def test_with_a_redis_that_is_down_deliveries_are_kept(settings: Settings, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    away = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})
    async with Running(build_app(away, store)) as running, asyncio.timeout(PATIENCE):
        await running.send("issues.labeled")
    assert len(store.due()) == 1


@pytest.mark.service
async def test_with_redis_another_process_works_and_an_outage_loses_nothing(
    settings: Settings,
    store: Store,
    told: Told,
    redis_server: RedisServer,
) -> None:
    settings = settings.model_copy(update={"redis_url": redis_server.url, "sweep_seconds": 0.05})
    worker = Worker(store, Callbacks(told.execute, told.execute_command, told.announce))
    elsewhere = open_dispatcher(settings, worker.handle)
    working = asyncio.create_task(elsewhere.run())
    try:
        async with Running(build_app(settings, store)) as running, asyncio.timeout(PATIENCE):
            await running.send("issues.labeled")
            run, _, _ = await told.runs.get()
            redis_server.stop()
            await running.send("issue_comment.created")
            redis_server.start()
            assert (await told.commands.get()).run_id == run.id
    finally:
        await elsewhere.close()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_worker_that_ends_by_itself_ends_the_process(
    settings: Settings, store: Store, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: InProcessDispatcher) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(InProcessDispatcher, "run", broken)
    failed = asyncio.Event()
    worker = Worker(store, Callbacks(told.execute, told.execute_command, told.announce))
    async with Running(build_app(settings, store, worker=worker, on_failure=failed.set)), asyncio.timeout(PATIENCE):
        await failed.wait()


def test_ctrl_c_twice_is_answered_and_the_third_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    server = BoundedServer(FastAPI())
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, capfd.readouterr().err) == (True, "")
    server.handle_exit(signal.SIGINT, None)
    assert not server.force_exit, "what is under way is still given back"
    assert capfd.readouterr().err.startswith("troop: ending; once more ends at once")
    assert codes == []
    server.handle_exit(signal.SIGTERM, None)
    assert codes == [143]
