"""A clock that is off."""

import time
from types import SimpleNamespace

import pytest
from github import Auth

from bot.forge import api, identity
from bot.preflight.github import github as look
from tests.github.fixtures import forge_for, settings_for
from tests.github.server import GitHubServer


@pytest.mark.parametrize("off", [600, -7200, 86_400 * 400])
async def test_a_server_with_a_clock_that_is_off_starts(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, off: int
):
    set_clock(monkeypatch, off)
    found = {one.name: one for one in await look(settings_for(github))}
    assert found["GitHub"].level == "ok"
    assert (found["clock"].level, found["clock"].fatal) == ("optional", False)
    said = f" s {'ahead of' if off > 0 else 'behind'} GitHub's"  # by how much: the machine may be slow meanwhile
    assert said in found["clock"].detail


def set_clock(monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    wrong = SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic)
    monkeypatch.setattr(api, "time", wrong)
    monkeypatch.setattr(identity, "time", wrong)
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
