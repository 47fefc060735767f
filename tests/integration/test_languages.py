"""Repositories in four languages on a real Docker Engine, from a label to the pull request: images built on the way.

The base image has the toolchains of Debian and none of the dependencies.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.records import Report
from bot.settings import SandboxSettings, SolverSettings
from tests.github.fixtures import github, github_server
from tests.github.server import GitHubServer
from tests.integration.languages import LANGUAGES, script, title
from tests.integration.service import running_service
from tests.patience import PATIENCE
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint
from tests.services_docker import client, docker_address, sandbox_image, toolchain_image

__all__ = ["client", "docker_address", "github", "github_server", "sandbox_image", "toolchain_image"]

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint(script) as endpoint:
        yield endpoint


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.usefixtures("client")
async def test_a_label_becomes_a_pull_request_and_the_second_run_builds_nothing(
    github: GitHubServer,
    endpoint: ScriptedEndpoint,
    toolchain_image: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    language: str,
) -> None:
    caplog.set_level(logging.INFO, "bot.sandbox.build")
    planted = LANGUAGES[language]
    repository = f"octo/{language}-{os.urandom(4).hex()}"
    sandbox = SandboxSettings(kind="docker", image=toolchain_image, concurrency=2, setup_timeout=4 * PATIENCE)
    solver = SolverSettings(trajectories=2, test_timeout=PATIENCE)
    async with running_service(github, tmp_path, endpoint.base_url, sandbox=sandbox, solver=solver) as service:
        github.create_repository(repository, dict(planted.files))
        github.set_permission(repository, "maintainer", "write")
        number = github.open_issue(repository, title(language), f"`clamp(5, 1, 3)` in `{planted.path}` is not 3.")
        labels = await service.label_and_wait(repository, number)
        assert labels == ["troop: done"], github.comments(repository, number)
        (pull,) = github.pull_requests(repository)
        added = set(planted.right.splitlines()) - set(planted.broken.splitlines())
        assert all(f"+{line}" in pull["diff"] for line in added)
        report = Report.model_validate_json(service.store.report(service.store.runs()[0].id) or "")
        assert report.obstacles == ()
        own = report.verdict.own_tests
        assert own is not None
        assert planted.own_tests in " ".join(own.command)
        assert own.base is not None
        assert own.base.execution.passed, "the repository's own tests ran, with its dependencies"
        assert built(caplog) == list(planted.layers)
        caplog.clear()
        github.comment(repository, number, "/troop retry", user="maintainer")
        await service.until(lambda: len(service.store.runs(repository=repository)) == 2)
        assert await service.until_ended(repository, number) == ["troop: done"]
        assert built(caplog) == []
        await asyncio.to_thread(github.webhooks.settle)


def built(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The layers that were built, as the worker's log tells."""
    said = [record.getMessage() for record in caplog.records if record.name == "bot.sandbox.build"]
    return [line.partition(": built ")[2].rpartition(" in ")[0] for line in said if ": built " in line]


async def test_what_can_not_be_built_is_told_with_the_line_to_try(
    github: GitHubServer, endpoint: ScriptedEndpoint, sandbox_image: str, tmp_path: Path
) -> None:
    """An image without Go's toolchain: the issue has the reason, an image and a line that would mend it."""
    planted = LANGUAGES["go"]
    sandbox = SandboxSettings(kind="docker", image=sandbox_image)
    async with running_service(github, tmp_path, endpoint.base_url, sandbox=sandbox) as service:
        github.create_repository("octo/plain", dict(planted.files))
        github.set_permission("octo/plain", "maintainer", "write")
        number = github.open_issue("octo/plain", title("go"), "is not 3")
        assert await service.label_and_wait("octo/plain", number) == ["troop: failed"]
        told = "\n".join(github.comments("octo/plain", number))
        assert f"the image {sandbox_image} has no `go`" in told
        assert 'image = "golang:1"' in told
        assert (
            'setup = "apt-get update && apt-get install -y --no-install-recommends golang-go && go mod download"'
            in told
        )
        assert [run.attempt for run in service.store.runs(repository="octo/plain")] == [1]
        assert not [request for request in endpoint.requests if request.get("messages")]
