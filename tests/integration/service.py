"""The whole service in the test's process, with the test GitHub and a scripted endpoint: from label to pull request."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from bot.lifecycle import ACTIVE
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from bot.settings.pages import PagesSettings
from bot.store import Store
from bot.web.connections import KEEP_ALIVE_SECONDS
from bot.web.dashboard import create_pages
from bot.web.listeners import by_port
from bot.web.serve import build_app
from bot.worker.process import build_worker
from tests.github.fixtures import settings_for
from tests.github.server import GitHubServer
from tests.integration.scenario import script
from tests.lean_python import use_lean_python
from tests.patience import PATIENCE, eventually
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint
from tests.services import free_port

SECRET = "a webhook secret of the tests"


class Running:
    """A running service, and what a person does to it."""

    def __init__(self, github: GitHubServer, store: Store, settings: Settings) -> None:
        self.github = github
        self.store = store
        self.url = f"http://127.0.0.1:{settings.port}"
        self.pages = settings.pages.address

    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        later = time.time() + 1e9  # when no worker holds any more what it is at now
        return not self.store.due(later) and not self.store.runs(active=True)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """The first true value of the condition."""
        try:
            return await eventually(condition, pause=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.store.runs()}") from error

    async def label_and_wait(self, repository: str, number: int, user: str = "maintainer") -> list[str]:
        """Label the issue; its labels once the run has ended."""
        await asyncio.to_thread(self.github.label, repository, number, user=user)
        return await self.until_ended(repository, number)

    async def until_ended(self, repository: str, number: int) -> list[str]:
        """The issue's labels once no run of it is active and the issue has been told."""

        def ended() -> bool:
            runs = self.store.runs(repository=repository, issue_number=number)
            return bool(runs) and not any(run.state in ACTIVE for run in runs)

        await self.until(ended)
        await self.until(
            lambda: not self.store.due() and not {"troop", "troop: running"} & set(self._labels(repository, number))
        )
        return self._labels(repository, number)

    def _labels(self, repository: str, number: int) -> list[str]:
        labels: list[str] = self.github.issue(repository, number)["labels"]
        return labels


@contextlib.asynccontextmanager
async def running_service(github: GitHubServer, folder: Path, endpoint: str, **more: Any) -> AsyncIterator[Running]:
    """The service with SQLite, the in-process queue and the process sandbox. `more`: further settings."""
    port, pages_port = free_port(), free_port()
    solver = more.pop("solver", SolverSettings(trajectories=4, test_timeout=PATIENCE))
    main = more.pop("main", ModelSettings(base_url=endpoint, retries=1))
    values: dict[str, Any] = {
        "webhook_secret": SecretStr(SECRET),
        "database_url": f"sqlite:///{folder / 'service.sqlite3'}",
        "work_dir": folder / "work",
        "host": "127.0.0.1",
        "port": port,
        "pages": PagesSettings(port=pages_port),
        "main": main,
        "solver": solver,
        "sandbox": SandboxSettings(kind="process"),
        "sweep_seconds": 0.5,
        "lease_seconds": 2 * PATIENCE,  # none runs out, and yet a stop is noticed at once
    }
    settings = settings_for(github, **(values | more))
    store = Store.from_settings(settings)
    worker = build_worker(settings, store, local=True)
    webhook = build_app(settings, store, worker=worker)
    app = by_port(settings, webhook, create_pages(settings, store, webhook.state.enqueue))
    github.world.app.callback_urls = [settings.pages.callback]
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_keep_alive=KEEP_ALIVE_SECONDS)
    server = uvicorn.Server(config)
    github.set_hook(f"http://127.0.0.1:{port}/webhook", SECRET)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bot.worker.lease.LONGEST_BEAT", 0.5)
        use_lean_python(patched)
        sockets = [socket.create_server(("127.0.0.1", each)) for each in (port, pages_port)]
        task = asyncio.create_task(server.serve(sockets))
        try:
            await eventually(lambda: server.started or task.done())
            assert not task.done(), "the service did not start"
            yield Running(github, store, settings)
        finally:
            server.should_exit = True
            await task
            store.close()


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    """A model that solves the scenario."""
    with scripted_endpoint(script) as endpoint:
        yield endpoint


@pytest.fixture
async def service(github: GitHubServer, endpoint: ScriptedEndpoint, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_service(github, tmp_path, endpoint.base_url) as running:
        yield running
