"""The images and deploy/compose.yaml on a real Docker Engine: /setup makes an App, a label becomes a pull request."""

import html
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.scenario import BODY, FILES, REPOSITORY, TITLE
from tests.services import free_port
from tests.services_docker import docker_address, sandbox_image

__all__ = ["docker_address", "sandbox_image"]

pytestmark = [pytest.mark.service, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGE, ENGINE, REDIS = "troop-test", "troop-test-engine", "troop-test-redis:latest"


def run(*argv: str, **more: Any) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **({"cwd": ROOT, "timeout": 900} | more))
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


@pytest.fixture(scope="module")
def stack(
    compose: list[str], docker_address: str, sandbox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The running stack; the URL of its GitHub."""
    folder = tmp_path_factory.mktemp("deployment")
    wheels = ROOT / "deploy" / "wheels"
    # The CPU build, where pip's configuration here finds it; else the build of the image looks for one itself.
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    lock = ["--dest", str(wheels), "--requirement", str(ROOT / "deploy/locks/torch-cpu.txt")]
    found = subprocess.run([*download, *lock], capture_output=True, text=True, check=False)
    assert found.returncode == 0 or "No matching distribution found" in found.stderr, found.stderr
    run("docker", "build", "--quiet", "--build-arg", f"BASE={sandbox_image}", "--tag", REDIS,
        "--file", str(HERE / "redis.Dockerfile"), str(HERE))  # fmt: skip
    port, web_port = free_port(), free_port()
    settings = {
        "TROOP_PUBLIC_URL": "http://web:8000",  # where GitHub reaches it
        "TROOP_GITHUB_URL": "http://github:9000/api/v3",
        "TROOP_GITHUB_WRITE_SECONDS": "0",
        "TROOP_SANDBOX_IMAGE": sandbox_image,
        "TROOP_SOLVER_TRAJECTORIES": "4",
    }
    (folder / "env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    socket = Path(docker_address.removeprefix("unix://"))
    environment = os.environ | {
        "TROOP_ENV_FILE": str(folder / "env"),
        "TROOP_IMAGE": IMAGE,
        "TROOP_ENGINE_IMAGE": ENGINE,
        "TROOP_BASE_IMAGE": sandbox_image,
        "TROOP_REDIS_IMAGE": REDIS,
        "TROOP_PORT": str(web_port),
        "TROOP_PAGES_PORT": str(free_port()),
        "COMPOSE_PROFILES": "cpu",
        "DOCKER_GID": str(socket.stat().st_gid),
        "TESTS_ROOT": str(ROOT / "tests"),
        "TEST_GITHUB_PORT": str(port),
        "COMPOSE_PROJECT_NAME": f"trooptest{os.getpid()}",
        "DOCKER_BUILDKIT": "0",
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }
    call = [*compose, "-f", "deploy/compose.yaml", "-f", "tests/integration/compose.test.yaml"]
    run(*call, "build", "web", "engine-cpu", env=environment)
    try:
        run(*call, "up", "--detach", env=environment)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx.get(url, timeout=5).status_code == 200, 60)
        web = f"http://127.0.0.1:{web_port}"
        wait_for(lambda: httpx.get(f"{web}/livez", timeout=5).status_code == 200, 60)
        set_up(web, url, run(*call, "logs", "web", env=environment))
        wait_for(lambda: httpx.get(f"{web}/ready", timeout=30).status_code == 200, 60)
        yield url
    finally:
        logs = subprocess.run(
            [*call, "logs", "--tail", "60"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        print(logs.stdout)  # shown where the test failed
        down = [*call, "down", "--volumes", "--timeout", "5"]
        subprocess.run(down, cwd=ROOT, env=environment, capture_output=True, check=False)


def set_up(web: str, github: str, log: str) -> None:
    """What a person's browser does at /setup; it reaches the test GitHub by this machine's port."""
    token = re.search(r"/setup\?token=([\w-]+)", log)
    assert token, log[-3000:]
    page = httpx.get(f"{web}/setup", params={"token": token[1]}, timeout=30)
    action, manifest = (
        re.search(r'action="([^"]*)"', page.text),
        re.search(r'name="manifest" value="([^"]*)"', page.text),
    )
    assert action
    assert manifest
    fields = {"manifest": html.unescape(manifest[1]), "organization": ""}
    there = httpx.post(f"{web}{html.unescape(action[1])}", data=fields, timeout=30)
    assert there.status_code == 307, there.text
    path = there.headers["location"].removeprefix("http://github:9000")
    back = httpx.post(f"{github}{path}", data=fields, timeout=30)
    assert back.status_code == 302, back.text
    done = httpx.get(back.headers["location"], timeout=60)
    assert "The webhook was tried, and arrives." in done.text, done.text


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (httpx.HTTPError, OSError):
            pass
        time.sleep(0.25)
    raise TimeoutError(f"nothing after {seconds} s")


def control(url: str, method: str, **arguments: object) -> Any:
    answer = httpx.post(f"{url}/control/{method}", json=arguments, timeout=30)
    answer.raise_for_status()
    return answer.json()


def test_a_label_becomes_a_pull_request(stack: str) -> None:
    control(stack, "create_repository", name=REPOSITORY, files=FILES)
    control(stack, "set_permission", name=REPOSITORY, user="maintainer", permission="write")
    number = control(stack, "open_issue", name=REPOSITORY, title=TITLE, body=BODY)
    control(stack, "label", name=REPOSITORY, number=number, user="maintainer")
    wait_for(
        lambda: (
            {"troop: done", "troop: no fix", "troop: failed"}
            & set(control(stack, "issue", name=REPOSITORY, number=number)["labels"])
        ),
        180,
    )
    issue = control(stack, "issue", name=REPOSITORY, number=number)
    assert issue["labels"] == ["troop: done"], issue["comments"]
    (pull,) = control(stack, "pull_requests", name=REPOSITORY)
    assert pull["draft"]
    assert "+        return high" in pull["diff"]
    assert "vote" in pull["body"]
