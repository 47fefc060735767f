"""`troop demo`: a whole run on this machine, from the label to the pull request.

Everything is real: a GitHub server (the tests' own, with HTTP, git and signed webhooks), the engine with the bundled
model or another, and the service with SQLite, the in-process queue and the process sandbox. In the end the pull
request's branch must pass a check that no model has seen.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from bot.cli.progress import ConsoleProgress
from bot.cli.say import say
from bot.errors import TroopError
from bot.git.command import git
from bot.llm.bundled_engine import configured_engine
from bot.llm.published_models import locate
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings, read_settings
from bot.store import Store
from bot.web.connections import KEEP_ALIVE_SECONDS
from bot.web.serve import build_app
from bot.worker.process import build_worker

ROOT = Path(__file__).parents[2]
REPOSITORY = "demo/{name}"
PATIENCE = 570.0  # seconds; the README promises ten minutes
LONG_PATIENCE = 7200.0  # seconds, for a real model on a few cores
TRAJECTORIES, FEW = 64, 4  # defaults, of the bundled model and of a real one


class TestGitHub:
    """The tests' GitHub server in a child process, and what people do on it."""

    __test__ = False  # not a pytest class

    def __init__(self, urls: dict[str, Any]) -> None:
        self.url: str = urls["url"]
        self.api_url: str = urls["api_url"]
        self.app_id: int = urls["app_id"]
        self._client = httpx.AsyncClient(timeout=60.0)

    async def do(self, method: str, **arguments: object) -> Any:
        """Call a method of `tests.github.control.Control`."""
        answer = await self._client.post(f"{self.url}/control/{method}", json=arguments)
        answer.raise_for_status()
        return answer.json()

    async def close(self) -> None:
        await self._client.aclose()


@contextlib.asynccontextmanager
async def github(data: Path, hook: str, secret: str) -> AsyncIterator[TestGitHub]:
    """A fresh server on a free loopback port that sends its webhooks to `hook`. Its App's key is `data/app.pem`."""
    argv = [sys.executable, "-m", "tests.github", "--port", "0", "--data", str(data / "repositories")]
    argv += ["--private-key-file", str(data / "app.pem"), "--hook", hook, "--secret", secret]
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60.0)
        if not line:
            raise TroopError("the test GitHub server did not start; its error is above")
        server = TestGitHub(json.loads(line))
        try:
            yield server
        finally:
            await server.close()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def run_demo(
    *, issue: int, seed: int, trajectories: int | None, keep: bool, base_url: str = "", model: str = ""
) -> int:
    """Play the demo; 0 where a pull request appeared and its branch passes the hidden check.

    `base_url`: another model's OpenAI-compatible endpoint instead of the engine. `model`: a published model's name or a
    path, for the engine. Raises `TroopError`, at once where git is missing or the model has not been fetched.
    """
    if not (ROOT / "tests" / "demo").is_dir():
        raise TroopError("the demo needs Troop's source tree: clone the repository and run `make demo` in it")
    await git("--version", cwd=ROOT)  # that it is missing is said here; the test GitHub would only break
    progress = ConsoleProgress(sys.stdout)
    own: dict[str, Any] = {}
    if model:  # read before `_clear` removes the environment's settings
        asked = read_settings()
        locate(model, asked.models_dir)
        own = {"engine_model": model, "models_dir": asked.models_dir, "engine_arguments": asked.engine_arguments}
    trajectories = trajectories or (FEW if model else TRAJECTORIES)
    # In a process of its own: `bot` does not import `tests`.
    case = json.loads(await _output(sys.executable, "-m", "tests.demo", str(issue)))
    repository = REPOSITORY.format(name=case["name"])
    data = ROOT / "var" / "demo"
    _clear(data)
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(progress.saying_warnings())
        endpoint = base_url
        if not endpoint:
            endpoint = await stack.enter_async_context(
                configured_engine(Settings(_env_file=None, **own), data / "engine.log", progress.say)
            )
        port = free_port()
        secret = secrets.token_hex(16)
        hub = await stack.enter_async_context(github(data, f"http://127.0.0.1:{port}/webhook", secret))
        settings = demo_settings(data, hub, endpoint, port, secret, seed, trajectories)
        await stack.enter_async_context(service(settings, progress))
        await hub.do("create_repository", name=repository, files=case["files"])
        number = await hub.do("open_issue", name=repository, title=case["title"], body=case["body"])
        page = f"{hub.url}/{repository}/issues/{number}"
        progress.say(f"issue #{number}: {case['title']}")
        progress.say(f"labelling it `{settings.label}`: {page}")
        await hub.do("label", name=repository, number=number, label=settings.label)
        labels = await _end_of_run(hub, repository, number, LONG_PATIENCE if model else PATIENCE)
        progress.close()
        code = await _judge(hub, repository, case, labels, progress, time.monotonic() - started)
        if keep:
            progress.say(f"still running; look at {page} (Ctrl-C stops it)")
            await asyncio.Event().wait()
    return code


def demo_settings(
    data: Path, hub: TestGitHub, endpoint: str, port: int, secret: str, seed: int, trajectories: int
) -> Settings:
    """The defaults without other services: SQLite, in-process queue, process sandbox. The environment is not read."""
    return Settings(
        _env_file=None,
        github_url=hub.api_url,
        github_web_url=hub.url,
        app_id=hub.app_id,
        private_key_file=data / "app.pem",
        webhook_secret=SecretStr(secret),
        database_url=f"sqlite:///{data / 'troop.sqlite3'}",
        redis_url="",
        host="127.0.0.1",
        port=port,
        work_dir=data / "work",
        main=ModelSettings(base_url=endpoint),
        relevance=ModelSettings(),
        solver=SolverSettings(seed=seed, trajectories=trajectories, test_timeout=20.0),
        sandbox=SandboxSettings(kind="process"),
    )


@contextlib.asynccontextmanager
async def service(settings: Settings, progress: ConsoleProgress) -> AsyncIterator[None]:
    """The service in this process. Only here does it use the process sandbox."""
    store = await asyncio.to_thread(Store.from_settings, settings)
    worker = build_worker(settings, store, local=True, watch=progress)
    app = build_app(settings, store, worker=worker)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
                raise TroopError(f"the service did not start on port {settings.port}")
            await asyncio.sleep(0.02)
        yield
    finally:
        server.should_exit = True
        await task
        await asyncio.to_thread(store.close)


async def _end_of_run(hub: TestGitHub, repository: str, number: int, patience: float) -> list[str]:
    """The issue's labels once the run has ended. Raises `TroopError` after `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            while True:
                labels: list[str] = (await hub.do("issue", name=repository, number=number))["labels"]
                if {"troop: done", "troop: no fix", "troop: failed"} & set(labels) and "troop: running" not in labels:
                    return labels
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise TroopError(f"the run has not ended after {patience:.0f} s; see var/demo") from None


async def _judge(
    hub: TestGitHub, repository: str, case: dict[str, Any], labels: list[str], progress: ConsoleProgress, seconds: float
) -> int:
    for pull in await hub.do("pull_requests", name=repository):
        progress.say(f"pull request: {hub.url}/{repository}/pull/{pull['number']}")
        say(f"\n{pull['title']}\n\n{pull['body']}\n\n{pull['diff']}")
        folder = ROOT / "var" / "demo" / "judged"
        await _output(
            "git", "clone", "--quiet", "--branch", pull["head"]["ref"], f"{hub.url}/{repository}.git", str(folder)
        )
        check = ROOT / "var" / "demo" / "check.py"
        check.write_text(case["check"])
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(check), cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}
        )
        passed = await process.wait() == 0
        words = "passes" if passed else "FAILS"
        progress.say(f"the branch {words} the hidden check; {seconds:.0f} s from nothing to the pull request")
        return 0 if passed else 1
    progress.say(f"no pull request: the issue is labelled {', '.join(labels)}; its comments say why:")
    for comment in (await hub.do("issue", name=repository, number=1))["comments"]:
        say(comment["body"])
    return 1


def _clear(data: Path) -> None:
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("TROOP_")]:
        del os.environ[name]  # the demo runs on its own settings, whatever the machine is configured for


async def _output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise TroopError(f"{' '.join(argv[:3])} ended with exit code {process.returncode}")
    return output.decode()


def free_port() -> int:
    """A loopback port that is free now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
