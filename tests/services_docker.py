"""A real Docker Engine and a small image for the tests. Import the fixtures where they are used.

Without an Engine the tests that need one are skipped, but in CI (`CI=true`) that is a failure.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest

from bot.errors import SandboxUnavailable
from bot.sandbox import engine

IMAGE = "troop-test-base:latest"
_ROOT = Path(__file__).parent.parent


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have Docker: {reason}")
    pytest.skip(reason)


def answers() -> bool:
    try:
        engine.connect().close()
    except SandboxUnavailable:
        return False
    return True


def start_daemon(seconds: float = 30.0) -> bool:
    """Start `dockerd` (root, installed, no other one); it stays for other tests. Whether an Engine answers then."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        return False
    with open("/tmp/dockerd.log", "ab") as log:
        subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers():
            return True
        time.sleep(0.2)
    return False


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The address of an Engine that answers; started where this machine has one that does not run."""
    if not answers() and not start_daemon():
        _missing("no Docker daemon answers, and none could be started")
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def make_image() -> str:
    """Make the test image where it is not there; what went wrong, or nothing."""
    made = subprocess.run(
        [str(_ROOT / "deploy/make-base-image.sh"), IMAGE], capture_output=True, text=True, timeout=600
    )
    return "" if made.returncode == 0 else made.stderr.strip() or "make-base-image.sh failed"


@pytest.fixture(scope="session")
def sandbox_image(docker_engine: str) -> str:
    """The name of an image with Python, made here where it is not there."""
    if trouble := make_image():
        _missing(f"the base image can't be made: {trouble}")
    return IMAGE
