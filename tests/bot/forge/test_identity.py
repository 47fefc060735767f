"""Who we are on GitHub, and each way in which GitHub does not know us."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from bot.errors import ForgeError, SettingsError
from bot.forge.identity import app_identity, token_login
from bot.preflight.github import github as look
from bot.settings import Settings
from tests.github.fixtures import KEY, settings_for
from tests.github.server import GitHubServer, make_key
from tests.github.webhooks import Delivery
from tests.patience import PATIENCE


def test_the_app(github: GitHubServer) -> None:
    found = app_identity(settings_for(github, app_slug=""), PATIENCE)
    assert (found.id, found.slug) == (github.app_id, github.world.app.slug)
    assert not found.missing_permissions
    assert not found.missing_events


def test_a_key_of_another_app_and_an_id_of_none(github: GitHubServer) -> None:
    with pytest.raises(SettingsError, match=r"do not belong together.*SHA256:"):
        app_identity(settings_for(github, private_key=SecretStr(make_key()[0])), PATIENCE)
    with pytest.raises(SettingsError, match="knows no App 4711"):
        app_identity(settings_for(github, app_id=4711), PATIENCE)


def test_a_key_that_is_refused_by_githubs_own_clock_too() -> None:
    with _elsewhere("past") as (settings, _):
        ours = settings.model_copy(update={"app_id": 1, "private_key": SecretStr(KEY)})
        with pytest.raises(SettingsError, match="do not belong together"):
            app_identity(ours, PATIENCE)


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503])
def test_an_outage_may_pass(github: GitHubServer, status: int) -> None:
    github.fault("GET", "/app$", status=status)
    with pytest.raises(ForgeError, match=str(status)):
        app_identity(settings_for(github), PATIENCE)


def test_nobody_answers(github: GitHubServer) -> None:
    away = settings_for(github, github_url="http://127.0.0.1:9/api/v3", github_web_url="")
    with pytest.raises(ForgeError, match="can't be reached"):
        app_identity(away, PATIENCE)


@pytest.mark.parametrize("path", ["moved", "page", "empty", "list"])
def test_what_is_not_github(path: str) -> None:
    with _elsewhere(path) as (settings, asked):
        with pytest.raises(SettingsError, match="TROOP_GITHUB_URL"):
            token_login(settings, PATIENCE)
        assert asked == ["/api/v3/user"]  # nothing is followed


async def test_what_the_app_lacks_is_found(github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    app = github.world.app
    monkeypatch.setattr(app, "permissions", {"metadata": "read", "contents": "read", "issues": "admin"})
    monkeypatch.setattr(app, "events", ["issues"])
    found = {one.name: one for one in await look(settings_for(github, app_slug="wrong"))}
    assert found["GitHub permissions"].detail == "the App lacks contents: write, pull_requests: write"
    later = "pull_request_review, pull_request_review_comment, pull_request, check_suite, status"
    unheard = f"issue_comment, {later}"
    assert found["GitHub events"].detail == f"the App does not subscribe to {unheard}"
    assert found["GitHub events"].level == "missing"
    assert found["GitHub installation"].level == "optional"
    assert "wrong" in found["GitHub slug"].detail
    assert found["GitHub checks"].detail == (
        "the App lacks checks: write, statuses: read, actions: read, so that its pull requests get no check run "
        "and failed checks start no revision ([publish] fix_ci)"
    )
    levels = ["ok", "missing", "optional", "missing", "optional", "optional", "missing"]
    assert [one.level for one in found.values()] == levels


async def test_an_app_that_is_older_than_revisions_is_told_what_it_lacks(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github.world.app, "events", ["issues", "issue_comment"])
    found = {one.name: one for one in await look(settings_for(github))}
    assert found["GitHub events"].level == "optional", "labels work all the same"
    lost = (
        "reviews of its pull requests start no revision and nothing is learned from what becomes of them "
        "and failed checks start no revision"
    )
    assert found["GitHub events"].detail.endswith(f", so that {lost}")


@pytest.mark.parametrize(
    ("granted", "lost"),
    [
        ({"checks": "read"}, "its pull requests get no check run"),
        ({"statuses": "none"}, "failed checks start no revision ([publish] fix_ci)"),
    ],
)
async def test_an_app_that_is_older_than_check_runs_works_without(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, granted: dict[str, str], lost: str
) -> None:
    monkeypatch.setattr(github.world.app, "permissions", github.world.app.permissions | granted)
    found = {one.name: one for one in await look(settings_for(github))}
    assert "GitHub permissions" not in found
    assert found["GitHub checks"].level == "optional"
    assert found["GitHub checks"].detail.endswith(f", so that {lost}")
    assert "accept it where the App is installed" in found["GitHub checks"].hint


async def test_tokens(github: GitHubServer) -> None:
    token = SecretStr(github.create_token("robin"))
    of_token: dict[str, Any] = {"app_id": 0, "private_key": SecretStr(""), "token": token}
    [good] = await look(settings_for(github, **of_token, token_login="Robin"))
    assert good.level == "ok"
    [other] = await look(settings_for(github, **of_token, token_login="ann"))
    assert (other.level, other.hint) == ("missing", "set TROOP_TOKEN_LOGIN=robin")
    [bad] = await look(settings_for(github, **(of_token | {"token": SecretStr("ghp_gone")})))
    assert bad.fatal
    assert "does not accept the token" in bad.detail


class _Other(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []
    kind: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = {"page": b"<html>", "empty": b"{}", "list": b"[]"}.get(self.kind, b"")
        self.send_response({"moved": 301, "past": 401}.get(self.kind, 200))
        if self.kind == "moved":
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/api/v3/user2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Mon, 01 Jan 2001 00:00:00 GMT" if self.kind == "past" else super().date_time_string()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def _elsewhere(kind: str) -> Iterator[tuple[Settings, list[str]]]:
    handler = type("Handler", (_Other,), {"asked": [], "kind": kind})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api/v3"
        yield Settings(_env_file=None, github_url=url, token=SecretStr("t")), handler.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "status", "level", "words"),
    [
        ("", None, "missing", "no webhook URL"),
        ("https://t.example/webhook", None, "ok", "https://t.example/webhook"),
        ("https://t.example/webhook", 202, "ok", "took the last delivery"),
        ("https://t.example/webhook", 401, "optional", "TROOP_WEBHOOK_SECRET is not the secret"),
        ("https://t.example/", 404, "optional", "must end in /webhook"),
        ("https://t.example/webhook", 0, "optional", "did not answer"),
        ("https://t.example/webhook", 502, "optional", "answered 502"),
    ],
)
async def test_the_webhook_is_looked_at(
    github: GitHubServer, url: str, status: int | None, level: str, words: str
) -> None:
    github.webhooks.url = url
    if status is not None:
        delivery = Delivery(1, "guid", "ping", "", b"{}", github.world.now(), status=status)
        delivery.done.set()
        github.webhooks.deliveries.append(delivery)
    found = {one.name: one for one in await look(settings_for(github))}["GitHub webhook"]
    github.webhooks.url = ""
    assert (found.level, words in found.words) == (level, True), found


async def test_a_github_that_does_not_tell_of_webhooks_is_no_trouble(github: GitHubServer) -> None:
    github.fault("GET", "/app/hook/", status=404, times=2)
    assert "GitHub webhook" not in {one.name for one in await look(settings_for(github))}
