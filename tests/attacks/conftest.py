from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.store import Store
from tests.attacks.changing import Scene, set_up
from tests.bot.publish.conftest import checkout, forge
from tests.bot.store.conftest import database_url, store
from tests.github import GitHubServer
from tests.github.fixtures import github, github_server
from tests.services import _postgres_socket, postgres_url, redis_server, redis_url
from tests.stores import empty_tables

__all__ = [
    "_postgres_socket",
    "checkout",
    "database_url",
    "empty_tables",
    "forge",
    "github",
    "github_server",
    "postgres_url",
    "redis_server",
    "redis_url",
    "store",
]


@pytest.fixture
async def scene(
    github: GitHubServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """A run in a repository that changes meanwhile."""
    scene = set_up(github, store, tmp_path, monkeypatch)
    yield scene
    await scene.worker.close()
