"""The images and deploy/compose.yaml on a real Docker Engine, with PostgreSQL.

/setup makes an App, a label becomes a pull request, and while it does each service is killed.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.forge.markers import ALTERNATIVES, STATUS
from tests.integration.held_reply import PARTS
from tests.integration.scenario import BODY, FILES, REPOSITORY, TITLE
from tests.patience import PATIENCE, until
from tests.services import free_port
from tests.services_docker import docker_address, sandbox_image

__all__ = ["docker_address", "sandbox_image"]

pytestmark = [pytest.mark.service, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGE, ENGINE, SERVICES = "troop-test", "troop-test-engine", "troop-test-services:latest"
KILLED = dict(zip(PARTS, ("worker", "redis", "postgres", "web"), strict=True))  # in which part of a run
ENOUGH = 5 * PATIENCE  # seconds: some of these waits are for several containers that start


def run(*argv: str, **more: Any) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **({"cwd": ROOT} | more))
    assert done.returncode == 0, f"{' '.join(argv[:6])}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The command: the plug-in where there is one, else docker-compose 1.29."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    message = "neither `docker compose` nor docker-compose is installed"
    pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@dataclass(frozen=True)
class Stack:
    """The running stack."""

    call: list[str]  # compose, with the files and what is in them
    environment: dict[str, str]
    image: str  # with a shell
    github: str  # URLs, as this machine reaches them
    web: str
    holds: Path

    def compose(self, *arguments: str) -> str:
        return run(*self.call, *arguments, env=self.environment)

    def control(self, method: str, **arguments: object) -> Any:
        """What a person does at GitHub, or sees there."""
        answer = httpx.post(f"{self.github}/control/{method}", json={"name": REPOSITORY} | arguments)
        answer.raise_for_status()
        return answer.json()

    def crash(self, service: str) -> None:
        """Kill its process as the kernel does where memory is short; Docker starts it again.

        Not by `docker kill`, which counts as stopped by hand, and is not restarted.
        """
        container = self.compose("ps", "--quiet", service).strip()
        state = "{{.State.Pid}} {{.RestartCount}} {{.State.Running}}"
        pid, count, _ = run("docker", "inspect", "--format", state, container).split()
        killer = ["docker", "run", "--rm", "--pid", "host", "--network", "none", "--entrypoint", "sh", self.image]
        run(*killer, "-c", f"kill -9 {pid}")
        until(
            lambda: run("docker", "inspect", "--format", state, container).split()[1:] == [str(int(count) + 1), "true"]
        )


def answers(url: str) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.HTTPError:
            return False

    return asked


@pytest.fixture(scope="module")
def stack(
    compose: list[str], docker_address: str, sandbox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """With an App, which was made by /setup."""
    folder = tmp_path_factory.mktemp("deployment")
    wheels = ROOT / "deploy" / "wheels"
    # The CPU build, where pip's configuration here finds it; else the build of the image looks for one itself.
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    lock = ["--dest", str(wheels), "--requirement", str(ROOT / "deploy/locks/torch-cpu.txt")]
    found = subprocess.run([*download, *lock], capture_output=True, text=True, check=False)
    assert found.returncode == 0 or "No matching distribution found" in found.stderr, found.stderr
    run("docker", "build", "--quiet", "--build-arg", f"BASE={sandbox_image}", "--tag", SERVICES,
        "--file", str(HERE / "services.Dockerfile"), str(HERE))  # fmt: skip
    port, web_port = free_port(), free_port()
    socket = Path(docker_address.removeprefix("unix://"))
    settings = {
        # The three lines; GitHub reaches it there ...
        "TROOP_PUBLIC_URL": "http://web:8000",
        "DOCKER_GID": str(socket.stat().st_gid),
        "COMPOSE_PROFILES": "cpu,postgres",
        # ... two of the profile postgres, ...
        "POSTGRES_PASSWORD": "of-the-tests",
        "TROOP_DATABASE_URL": "postgresql://troop:of-the-tests@postgres/troop",
        # ... and what is other than usual: images that are made here, ports, another GitHub, less to wait for.
        "TROOP_IMAGE": IMAGE,
        "TROOP_ENGINE_IMAGE": ENGINE,
        "TROOP_BASE_IMAGE": sandbox_image,
        "TROOP_REDIS_IMAGE": SERVICES,
        "TROOP_POSTGRES_IMAGE": SERVICES,
        "TROOP_SANDBOX_IMAGE": sandbox_image,
        "TROOP_PORT": str(web_port),
        "TROOP_PAGES_PORT": str(free_port()),
        "TROOP_GITHUB_URL": "http://github:9000/api/v3",
        "TROOP_GITHUB_WRITE_SECONDS": "0",
        "TROOP_SOLVER_TRAJECTORIES": "4",
        "TROOP_SOLVER_EXAMINE": "false",
        "TROOP_SOLVER_CONTEXT": "read all",  # by the engine
        "TROOP_SOLVER_RELEVANCE_OUTPUT_TOKENS": "16",
        "TROOP_LEASE_SECONDS": "10",
        "TROOP_SWEEP_SECONDS": "1",
        "TROOP_MAX_CRASHES": "1000",  # a lease may run out on a busy machine
    }
    env = folder / "env"
    env.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    holds = folder / "holds"
    holds.mkdir()
    holds.chmod(0o777)
    for name in PARTS:
        (holds / name).touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TROOP_")} | {
        "TROOP_ENV_FILE": str(env),
        "TESTS_ROOT": str(ROOT / "tests"),
        "TESTS_HOLDS": str(holds),
        "TEST_GITHUB_PORT": str(port),
        "COMPOSE_PROJECT_NAME": f"trooptest{os.getpid()}",
        "DOCKER_BUILDKIT": "0",
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }
    files = ["-f", "deploy/compose.yaml", "-f", "tests/integration/compose.test.yaml", "--env-file", str(env)]
    github, web = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{web_port}"
    started = Stack([*compose, *files], environment, sandbox_image, github, web, holds)
    started.compose("build", "web", "engine-cpu")
    try:
        started.compose("up", "--detach")
        until(answers(github), ENOUGH, 0.25)
        until(answers(f"{web}/livez"), ENOUGH, 0.25)
        set_up(web, github, started.compose("logs", "web"))
        until(answers(f"{web}/ready"), ENOUGH, 0.25)
        yield started
    finally:
        logs = [*started.call, "logs", "--tail", "60"]
        print(subprocess.run(logs, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout)
        down = [*started.call, "down", "--volumes", "--timeout", "5"]
        subprocess.run(down, cwd=ROOT, env=environment, capture_output=True, check=False)


def set_up(web: str, github: str, log: str) -> None:
    """What a person's browser does at /setup; it reaches the test GitHub by this machine's port."""
    token = re.search(r"/setup\?token=([\w-]+)", log)
    assert token, log[-3000:]
    page = httpx.get(f"{web}/setup", params={"token": token[1]})
    action, manifest = (
        re.search(r'action="([^"]*)"', page.text),
        re.search(r'name="manifest" value="([^"]*)"', page.text),
    )
    assert action
    assert manifest
    fields = {"manifest": html.unescape(manifest[1]), "organization": ""}
    there = httpx.post(f"{web}{html.unescape(action[1])}", data=fields)
    assert there.status_code == 307, there.text
    path = there.headers["location"].removeprefix("http://github:9000")
    back = httpx.post(f"{github}{path}", data=fields)
    assert back.status_code == 302, back.text
    done = httpx.get(back.headers["location"])
    assert "The webhook was tried, and arrives." in done.text, done.text


def test_a_label_becomes_one_pull_request_whatever_is_killed_meanwhile(stack: Stack) -> None:
    stack.control("create_repository", files=FILES)
    stack.control("set_permission", user="maintainer", permission="write")
    number = stack.control("open_issue", title=TITLE, body=BODY)
    stack.control("label", number=number, user="maintainer")
    until(lambda: "troop: running" in stack.control("issue", number=number)["labels"], ENOUGH, 0.1)
    stack.crash("engine-cpu")  # reads the files, or would
    for part, service in KILLED.items():
        until((stack.holds / f"{part}.reached").exists, ENOUGH, 0.05)
        stack.crash(service)
        (stack.holds / part).unlink()
    ends = {"troop: done", "troop: no fix", "troop: failed"}
    until(lambda: ends & set(stack.control("issue", number=number)["labels"]), ENOUGH, 0.25)
    issue = stack.control("issue", number=number)
    assert issue["labels"] == ["troop: done"], issue["comments"]
    (pull,) = stack.control("pull_requests")
    assert pull["draft"]
    assert "+        return high" in pull["diff"]
    assert "4 attempts" in pull["body"]
    assert len([branch for branch in stack.control("branches") if branch.startswith("troop/")]) == 1
    comments = stack.control("comments", number=number) + stack.control("comments", number=pull["number"])
    assert [sum(mark in body for body in comments) for mark in (STATUS, ALTERNATIVES)] == [1, 1]
    # What was killed works again: a delivery reaches web, the queue, the worker and the database.
    until(answers(f"{stack.web}/ready"), ENOUGH, 0.25)
    told = len(stack.control("comments", number=number))
    stack.control("comment", number=number, body="/troop status", user="maintainer")
    until(lambda: len(stack.control("comments", number=number)) == told + 2, ENOUGH, 0.25)
    asked = ["exec", "-T", "postgres", "psql", "-U", "troop", "-tAc", "SELECT state FROM run"]
    assert stack.compose(*asked).split() == ["solved"]
