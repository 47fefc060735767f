"""A clock that is off."""

import time
from types import SimpleNamespace

import pytest
from github import Auth

from bot.forge import api
from tests.github.fixtures import forge_for
from tests.github.server import GitHubServer


@pytest.mark.parametrize("off", [600, -7200, 86_400 * 400])
async def test_a_clock_that_is_off_is_corrected_by_githubs(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, off: int
):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    forge = forge_for(github, "octo/hello")
    wrong = SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic)
    monkeypatch.setattr(api, "time", wrong)
    monkeypatch.setattr(Auth, "time", wrong)
    assert await forge.permission("octo/hello", "octo") == "admin"
