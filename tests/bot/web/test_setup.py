"""`/setup`: from a server without an App to one with its own, by GitHub's manifest flow, over real HTTP."""

import asyncio
import contextlib
import html
import json
import logging
import re
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from bot.errors import SettingsError
from bot.forge.identity import EVENTS
from bot.forge.permissions import CHECK_PERMISSIONS, PERMISSIONS
from bot.settings import Settings, needs_setup
from bot.settings.pages import PagesSettings
from bot.web.serve import run_server
from bot.web.setup import STATE_SECONDS, Setup
from bot.worker.process import run_worker
from tests.github.fixtures import github, github_server
from tests.github.server import GitHubServer
from tests.patience import PATIENCE, eventually
from tests.services import free_port

__all__ = ["github", "github_server"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHubServer) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    level, app = logging.getLogger("bot").level, github.world.app
    yield
    logging.getLogger("bot").setLevel(level)
    github.world.app = app


def settings_of(github: GitHubServer, folder: Path, **more: Any) -> Settings:
    port = free_port()
    values: dict[str, Any] = {
        "github_url": github.api_url,
        "public_url": f"http://127.0.0.1:{port}/",
        "port": port,
        "database_url": f"sqlite:///{folder / 'troop.sqlite3'}",
        "secrets_dir": folder / "secrets",
        "pages": PagesSettings(port=free_port()),
    }
    return Settings(_env_file=None, **(values | more))


def form(page: str) -> tuple[str, dict[str, str]]:
    """Where the page's form goes, and what it holds."""
    action = re.search(r'action="([^"]*)"', page)
    manifest = re.search(r'name="manifest" value="([^"]*)"', page)
    assert action
    assert manifest
    return html.unescape(action[1]), {"manifest": html.unescape(manifest[1]), "organization": ""}


async def test_one_click_makes_an_app_and_the_server_goes_on_with_it(
    github: GitHubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(github, tmp_path)
    assert needs_setup(settings)

    def again() -> Settings:
        changes = settings.model_dump(include={"github_url", "public_url", "database_url", "secrets_dir", "pages"})
        return Settings(_env_file=None, _secrets_dir=settings.secrets_dir, **changes)  # type: ignore[call-arg]

    with caplog.at_level(logging.INFO, logger="bot"):
        serving = asyncio.create_task(run_server(settings, again))
        try:
            async with httpx.AsyncClient(base_url=settings.public_url, timeout=PATIENCE) as client:
                await eventually(lambda: "/setup?token=" in caplog.text or serving.done())
                address = re.search(r"http://127\.0\.0\.1:\d+/setup\?token=\S+", caplog.text)
                assert address
                made = await _through_the_form(client, address[0])
                await eventually(lambda: "listening on" in caplog.text or serving.done())
                ready = (await client.get("/ready")).json()
                page = await client.get(f"{settings.pages.address}/sign-in")
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
    app = github.world.app
    assert f"The App {app.slug} is made" in made.text
    assert f"{github.url}/apps/{app.slug}/installations/new" in made.text
    assert "The webhook was tried, and arrives." in made.text
    assert "Label an issue" in made.text
    ping, again_ping = github.webhooks.deliveries
    assert (ping.status, again_ping.status, again_ping.redelivery) == (503, 202, True)
    assert (app.permissions, app.events) == (PERMISSIONS | CHECK_PERMISSIONS, list(EVENTS))
    assert not {"GitHub", "setup"} & set(ready), "it works with its own App now"
    assert app.callback_urls == [settings.pages.callback]
    assert "Sign in with GitHub" in page.text
    _nothing_is_told(settings.secrets_dir, f"{made.text}{caplog.text}")


async def _through_the_form(client: httpx.AsyncClient, address: str) -> httpx.Response:
    assert (await client.get("/ready")).status_code == 503
    assert (await client.get("/livez")).status_code == 200
    page = await client.get(address)
    assert page.status_code == 200
    action, fields = form(page.text)
    there = await client.post(action, data=fields)
    assert there.status_code == 307  # the browser posts the same form to GitHub
    back = await client.post(there.headers["location"], data=fields)
    assert back.status_code == 302
    return await client.get(back.headers["location"])


def _nothing_is_told(folder: Path, told: str) -> None:
    """The secrets are in files for this user alone, and nowhere else."""
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {
        "troop_app_id",
        "troop_private_key",
        "troop_webhook_secret",
        "troop_client_id",
        "troop_admin_token",
        "troop_client_secret",
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name, path in files.items():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if name not in ("troop_app_id", "troop_client_id"):
            assert path.read_text().strip() not in told
    assert "PRIVATE KEY" not in told


# -- who may, and what comes back --------------------------------------------------------------------------------


class Page:
    """The set-up's pages, called without a server; a clock that tests move."""

    def __init__(self, github: GitHubServer, folder: Path, **more: Any) -> None:
        self.now = 0.0
        self.finished = 0
        self.settings = settings_of(github, folder, **more)
        self.setup = Setup(self.settings, self._done, clock=lambda: self.now, ping=lambda *_: "")
        transport = httpx.ASGITransport(app=self.setup.application())
        self.client = httpx.AsyncClient(transport=transport, base_url=self.settings.public_url)

    def _done(self) -> None:
        self.finished += 1

    async def begin(self, organization: str = "") -> httpx.Response:
        page = await self.client.get("/setup", params={"token": self.setup.token})
        action, fields = form(page.text)
        return await self.client.post(action, data=fields | {"organization": organization})

    async def state(self) -> str:
        return parse_qs(urlsplit((await self.begin()).headers["location"]).query)["state"][0]

    async def way_back(self) -> str:
        """Where GitHub leads the browser once the App is made."""
        there = await self.begin()
        shown = await self.client.get("/setup", params={"token": self.setup.token})
        async with httpx.AsyncClient() as client:
            return (await client.post(there.headers["location"], data=form(shown.text)[1])).headers["location"]

    async def back(self, **query: str) -> httpx.Response:
        return await self.client.get("/setup/callback", params=query)


@pytest.fixture
def page(github: GitHubServer, tmp_path: Path) -> Page:
    return Page(github, tmp_path)


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%C3%A9"])
async def test_only_who_has_the_token_may(page: Page, query: str) -> None:
    for method, path in (("GET", "/setup"), ("POST", "/setup/create")):
        answer = await page.client.request(method, f"{path}{query}")
        assert answer.status_code == 403
        assert page.setup.token not in answer.text
    assert page.setup.token not in (await page.client.get("/ready")).text


async def test_the_manifest_asks_for_what_troop_uses(page: Page) -> None:
    shown = await page.client.get("/setup", params={"token": page.setup.token})
    manifest = json.loads(form(shown.text)[1]["manifest"])
    assert manifest["hook_attributes"] == {"url": f"{page.settings.public_url}/webhook", "active": True}
    assert manifest["redirect_url"] == f"{page.settings.public_url}/setup/callback"
    assert (manifest["default_permissions"], manifest["default_events"]) == (
        PERMISSIONS | CHECK_PERMISSIONS,
        list(EVENTS),
    )
    assert manifest["public"] is False
    assert len(manifest["name"]) <= 34
    policy = shown.headers["content-security-policy"]
    assert f"form-action 'self' {page.settings.github_web_url};" in policy


async def test_an_organization_s_app(page: Page, github: GitHubServer) -> None:
    where = (await page.begin("octo-org")).headers["location"]
    assert where.startswith(f"{github.url}/organizations/octo-org/settings/apps/new?state=")
    for wrong in ("../x", "a b", "x" * 40, "a?b"):
        answer = await page.begin(wrong)
        assert (answer.status_code, "location" in answer.headers) == (400, False)


async def test_the_state_is_checked_and_works_once_and_for_a_while(page: Page, github: GitHubServer) -> None:
    for query in ({}, {"code": "abc"}, {"code": "abc", "state": "made-up"}):
        assert (await page.back(**query)).status_code == 403
    state = await page.state()
    page.now += STATE_SECONDS + 1
    assert (await page.back(code="abc", state=state)).status_code == 403
    state = await page.state()
    assert (await page.back(code="gone", state=state)).status_code == 502  # GitHub does not know the code
    assert (await page.back(code="gone", state=state)).status_code == 403
    assert not [request for request in github.requests if "/abc/" in request.path]
    assert list(page.settings.secrets_dir.iterdir()) == []
    assert page.finished == 0


@pytest.mark.parametrize("code", ["../../user", "a/b", "", "x" * 300])
async def test_a_code_is_no_path(page: Page, github: GitHubServer, code: str) -> None:
    state = await page.state()
    github.requests.clear()
    assert "garbled" in (await page.back(code=code, state=state)).text
    assert not github.requests


async def test_a_webhook_that_does_not_arrive_is_said(github: GitHubServer, tmp_path: Path) -> None:
    page = Page(github, tmp_path)
    page.setup._ping = lambda *_: "GitHub got no answer at <https://troop.example>"
    answer = await page.client.get(await page.way_back())
    assert "does not arrive:</strong> GitHub got no answer at &lt;https://troop.example&gt;" in answer.text
    assert page.finished == 1
    assert (await page.back(code="abc", state=await page.state())).status_code == 409


async def test_two_ways_back_at_once_make_one_app(github: GitHubServer, tmp_path: Path) -> None:
    page = Page(github, tmp_path)
    backs = [await page.way_back() for _ in range(2)]
    answers = await asyncio.gather(*map(page.client.get, backs))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert page.finished == 1


async def test_a_form_is_bounded_whether_or_not_it_tells_its_length(page: Page) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    where = f"/setup/create?token={page.setup.token}"
    assert (await page.client.post(where, content=parts())).status_code == 413
    assert (await page.client.post(where, content=b"x" * 100_000)).status_code == 413


async def test_the_server_goes_on_where_the_webhook_could_not_be_tried(github: GitHubServer, tmp_path: Path) -> None:
    page = Page(github, tmp_path)

    def broken(*_: object) -> str:
        raise RuntimeError("not tried")

    page.setup._ping = broken
    back = await page.way_back()
    with pytest.raises(RuntimeError, match="not tried"):
        await page.client.get(back)
    assert page.finished == 1


def test_a_folder_that_can_not_be_written_is_said_at_start(github: GitHubServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="TROOP_SECRETS_DIR"):
        Page(github, tmp_path, secrets_dir=tmp_path / "file")


def test_a_server_with_credentials_needs_none(github: GitHubServer, tmp_path: Path) -> None:
    assert not needs_setup(settings_of(github, tmp_path, app_id=1))
    assert not needs_setup(settings_of(github, tmp_path, token="t"))
    assert not needs_setup(settings_of(github, tmp_path, public_url=""))


async def test_a_worker_waits_until_there_is_an_app(
    github: GitHubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.worker.process.SETUP_SECONDS", 0.0)
    none = settings_of(github, tmp_path)
    later = iter([none, none, settings_of(github, tmp_path, app_id=1, private_key="x")])
    with caplog.at_level(logging.INFO, logger="bot"), pytest.raises(SettingsError, match="TROOP_REDIS_URL"):
        await run_worker(none, lambda: next(later))
    assert caplog.text.count("waiting for /setup") == 1
    assert next(later, None) is None
