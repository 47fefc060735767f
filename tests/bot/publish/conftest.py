"""A labelled issue on the test GitHub, and its repository's checkout."""

from pathlib import Path

import pytest

from bot.forge.github import GitHubForge
from bot.git.checkout import check_out
from bot.records import Checkout
from tests.bot.sample import FILES, REPO
from tests.github.fixtures import forge_for, github, github_server
from tests.github.server import GitHubServer

__all__ = ["github", "github_server"]


@pytest.fixture
def forge(github: GitHubServer) -> GitHubForge:
    github.create_repository(REPO, FILES)
    number = github.open_issue(REPO, "clamp ignores its lower bound")
    github.label(REPO, number, "troop: running")
    return forge_for(github, REPO)


@pytest.fixture
async def checkout(forge: GitHubForge, tmp_path: Path) -> Checkout:
    return await check_out(forge, REPO, tmp_path / "w")
