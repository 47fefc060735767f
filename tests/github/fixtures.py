"""Fixtures over the test GitHub: import what a test module needs, or name this module in `pytest_plugins`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.forge.api import GitHubApi
from bot.forge.github import GitHubForge
from bot.settings import Settings
from tests.github.server import GitHubServer, make_key
from tests.patience import PATIENCE

KEY = make_key()[0]  # made once: it takes longer than all else


@pytest.fixture(scope="session")
def github_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubServer]:
    """One for all tests of a session: use `github`."""
    with GitHubServer.running(tmp_path_factory.mktemp("github"), private_key=KEY) as server:
        yield server


@pytest.fixture
def github(github_server: GitHubServer, tmp_path: Path) -> Iterator[GitHubServer]:
    """An empty test GitHub. In the end every request to its API must have been one that GitHub describes."""
    github_server.reset(tmp_path / "github")
    yield github_server
    assert github_server.traffic.undescribed == []


def settings_for(server: GitHubServer, **more: Any) -> Settings:
    """Of an App on that server; writes need no pause there."""
    values: dict[str, Any] = {
        "github_url": server.api_url,
        "github_web_url": server.url,
        "app_id": server.app_id,
        "app_slug": server.world.app.slug,
        "private_key": SecretStr(server.private_key),
        "client_id": server.world.app.client_id,
        "client_secret": SecretStr(server.world.app.client_secret),
        "github_write_seconds": 0.0,
    }
    return Settings(_env_file=None, **(values | more))


def dumped(settings: Settings) -> str:
    """As JSON, secrets included: they travel by pipe to a child."""

    def reveal(value: object) -> object:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    return json.dumps(settings.model_dump(), default=reveal)


class Naps:
    """Stands in for `asyncio.sleep`: remembers, and returns at once."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


def forge_for(
    server: GitHubServer,
    repository: str,
    naps: Naps | None = None,
    *,
    request_seconds: int = int(PATIENCE),
    **more: Any,
) -> GitHubForge:
    """A forge for the installation on that repository."""
    settings = settings_for(server, **more)
    installation = None if "token" in more else server.installation_id(repository)
    api = GitHubApi(settings, installation, sleep=naps or Naps(), request_seconds=request_seconds)
    return GitHubForge(settings, installation, api)
