"""A real Docker Engine and a small image for the tests. Import the fixtures where they are used.

Without an Engine the tests that need one are skipped, but in CI (`CI=true`) that is a failure.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import docker
import pytest

from bot.errors import SandboxUnavailable
from bot.sandbox import docker_engine
from tests.patience import PATIENCE, until

IMAGE = "troop-test-base:latest"
TOOLCHAINS = "troop-test-toolchains:latest"  # with those of Debian for Node, Go and Rust
_INSTALL = (
    "apt-get update -qq && DEBIAN_FRONTEND=noninteractive "
    "apt-get install -y -qq --no-install-recommends golang-go cargo nodejs npm >/dev/null && "
    "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb"
)
_ROOT = Path(__file__).parent.parent


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have Docker: {reason}")
    pytest.skip(reason)


def answers() -> bool:
    try:
        docker_engine.connect().close()
    except SandboxUnavailable:
        return False
    return True


@contextlib.contextmanager
def started_daemon(folder: Path) -> Iterator[str]:
    """Start `dockerd` (root, installed, no other one) and end it with the context; what went wrong, or nothing.

    Its output is in `folder`.
    """
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        yield (
            "no Docker daemon answers, and none can be started: start one, or run the tests as root where dockerd is "
            "installed (apt-get install docker.io debootstrap)"
        )
        return
    path = folder / "dockerd.log"
    with path.open("wb") as log:
        # In a session of its own, so that Ctrl-C leaves it to the tests, which destroy their containers first.
        daemon = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: answers() or daemon.poll() is not None)
            told = "\n".join(path.read_text(errors="replace").splitlines()[-5:])
            yield "" if answers() else f"dockerd ended with exit code {daemon.returncode}:\n{told}"
        finally:
            daemon.terminate()
            try:
                daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


@pytest.fixture(scope="session")
def docker_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Engine that answers; started for these tests where this machine has one that does not run."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if answers():
        yield address
        return
    with started_daemon(tmp_path_factory.mktemp("docker")) as trouble:
        if trouble:
            _missing(trouble)
        yield address


def make_image() -> str:
    """Make the test image where it is not there; what went wrong, or nothing."""
    made = subprocess.run(
        [str(_ROOT / "deploy/make-base-image.sh"), IMAGE], capture_output=True, text=True, timeout=5 * PATIENCE
    )
    return "" if made.returncode == 0 else made.stderr.strip() or "make-base-image.sh failed"


@pytest.fixture(scope="session")
def sandbox_image(docker_address: str) -> str:
    """The name of an image with Python, made here where it is not there."""
    if trouble := make_image():
        _missing(f"the base image can't be made: {trouble}")
    return IMAGE


@pytest.fixture(scope="session")
def toolchain_image(request: pytest.FixtureRequest) -> str:
    """The name of an image with Python, Node, Go and Rust, made here where it is not there, in a minute or two.

    TROOP_TEST_TOOLCHAINS names another one, with other versions.
    """
    if named := os.environ.get("TROOP_TEST_TOOLCHAINS"):
        return named
    sandbox_image = request.getfixturevalue("sandbox_image")
    client = docker_engine.connect()
    try:
        if client.images(TOOLCHAINS):
            return TOOLCHAINS
        container = client.create_container(sandbox_image, entrypoint=["sh", "-c", _INSTALL], command=[])["Id"]
        try:
            client.start(container)
            if client.wait(container, timeout=5 * PATIENCE)["StatusCode"] != 0:
                _missing(f"the toolchains can't be installed: {client.logs(container, tail=5).decode()}")
            repository, tag = TOOLCHAINS.split(":")
            client.commit(container, repository=repository, tag=tag)
        finally:
            client.remove_container(container, force=True)
    finally:
        client.close()
    return TOOLCHAINS


@pytest.fixture
def client(docker_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.APIClient]:
    """A client of the Docker Engine. Images that the test builds have a name of their own, whoever else builds some
    meanwhile, and are removed."""
    monkeypatch.setattr(docker_engine, "CACHE", f"{docker_engine.CACHE}-test-{secrets.token_hex(4)}")
    client = docker_engine.connect()
    yield client
    for name in built(client):
        client.remove_image(name)
    client.close()


def built(client: docker.APIClient) -> set[str]:
    """The names of the images that sandboxes of this test have built."""
    names = {name for image in client.images() for name in image.get("RepoTags") or ()}
    return {name for name in names if name.startswith(f"{docker_engine.CACHE}:")}
