"""What is found in a repository, and what running its tests says."""

import os
from collections.abc import Mapping
from pathlib import Path

import docker
import pytest

from bot.publish.messages.onboarding import body, config_text
from bot.records import Checkout
from bot.settings import SandboxSettings, Settings
from bot.solver.onboarding import propose
from tests.bot.sandbox.test_build import client
from tests.patience import PATIENCE
from tests.services_docker import docker_address, sandbox_image, toolchain_image

__all__ = ["client", "docker_address", "sandbox_image", "toolchain_image"]

FILES = {
    "pyproject.toml": '[project]\nname = "mill"\nversion = "1"\n[project.optional-dependencies]\ntest = ["pytest"]\n',
    "mill.py": "def one():\n    return 1\n",
    "tests/test_mill.py": "from mill import one\n\n\ndef test_one():\n    assert one() == 1\n",
}


def checked_out(folder: Path, files: Mapping[str, str]) -> Checkout:
    root = folder / "tree"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    name = f"octo/{os.urandom(8).hex()}"  # no image of an earlier test is its
    return Checkout(root=str(root), workspace=str(folder), commit="0" * 40, files=tuple(sorted(files)), repository=name)


async def test_a_repository_is_looked_at_and_its_tests_are_run(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, sandbox=SandboxSettings(kind="process"))
    proposal = await propose(checked_out(tmp_path, FILES), settings)
    assert "pyproject.toml" in proposal.found
    assert any("pip install" in line for line in proposal.commands)
    assert proposal.tests.command
    assert proposal.tests.base is not None
    assert proposal.tests.base.execution.passed
    assert "pytest" in config_text(proposal)


async def test_what_keeps_tests_from_showing_much_is_among_the_notes(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, sandbox=SandboxSettings(kind="process"))
    files = {**FILES, ".python-version": "3.99\n"}
    proposal = await propose(checked_out(tmp_path, files), settings)
    (note,) = (note for note in proposal.notes if ".python-version" in note)
    assert note.startswith(".python-version asks for Python 3.99, and 3.")
    assert 'name an image as `image = "python:3.99"` in .troop.toml' in note


MILL = {
    "requirements.txt": "pip\n",  # which is there
    "package.json": '{"name": "mill", "version": "1.0.0", "scripts": {"test": "node --test"}}',
    "mill.js": "exports.one = () => 1;\n",
    "mill.test.js": (
        "const test = require('node:test');\nconst assert = require('node:assert');\n"
        "test('one', () => assert.equal(require('./mill').one(), 1));\n"
    ),
}


@pytest.mark.service
@pytest.mark.slow
async def test_the_pull_request_says_what_a_real_build_said(
    toolchain_image: str, client: docker.APIClient, tmp_path: Path
) -> None:
    """On a Docker Engine, without a network: one build that needs none, and one that fails for want of a package."""
    sandbox = SandboxSettings(
        kind="docker",
        image=toolchain_image,
        concurrency=1,
        setup_timeout=PATIENCE,
        build_network="none",
        build_environment=("PIP_RETRIES=0",),
    )
    settings = Settings(_env_file=None, sandbox=sandbox)
    built = await propose(checked_out(tmp_path / "good", MILL), settings, server=True)
    assert (built.built, built.failure, built.image) == (True, "", toolchain_image)
    said = body(built)
    assert "It was built." in said
    assert "python3 -m pip install -r requirements.txt" in said
    assert "passes on the default branch" in said
    files = {"requirements.txt": "nothing-of-this-name==1.0\n", "mill.py": "one = 1\n"}
    failed = await propose(checked_out(tmp_path / "bad", files), settings, server=True)
    assert not failed.built
    said = body(failed)
    assert "It failed: " in said
    assert "No matching distribution found for nothing-of-this-name==1.0" in said
