"""A clock that is off."""

import time
from types import SimpleNamespace

import pytest
from github import Auth

from bot.forge import api
from tests.github.fixtures import forge_for
from tests.github.server import GitHubServer


def set_clock(monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    wrong = SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic)
    monkeypatch.setattr(api, "time", wrong)
    monkeypatch.setattr(Auth, "time", wrong)


@pytest.mark.parametrize("off", [600, -7200, 86_400 * 400])
async def test_a_clock_that_is_off_is_corrected_by_githubs(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, off: int
):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    forge = forge_for(github, "octo/hello")
    set_clock(monkeypatch, off)
    assert await forge.permission("octo/hello", "octo") == "admin"


async def test_our_own_name_is_asked_by_githubs_clock_too(github: GitHubServer, monkeypatch: pytest.MonkeyPatch):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    forge = forge_for(github, "octo/hello")
    set_clock(monkeypatch, 7200)
    assert await forge.own_login() == f"{github.world.app.slug}[bot]"
