"""Who sees what: nobody without a session, people what GitHub lets them read, the machine's owner all."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from bot.forge.people import Known
from bot.settings import Settings
from bot.settings.pages import PagesSettings
from bot.store import Store
from bot.web.app import create_app
from bot.web.dashboard import create_pages
from bot.web.listeners import by_port
from bot.web.owner import with_admin_token
from bot.web.sessions import Sessions
from bot.web.site import local_path
from tests.bot.web.conftest import ADMIN_TOKEN, PAGES, ListDispatcher, Sender, browser, form_of, sign_in
from tests.bot.webhook.deliveries import SECRET
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer

__all__ = ["github", "github_server"]

PRIVATE, OTHER = "acme/secret-mill", "umbrella/other"


@pytest.fixture
def settings(github: GitHubServer, tmp_path: Path) -> Settings:
    github.world.app.callback_urls = [f"{PAGES}/sign-in/callback"]
    for name in (PRIVATE, OTHER):
        github.create_repository(name, {"a.py": "x = 1\n"})
        github.set_repository(name, private=True)
    github.set_permission(PRIVATE, "alice", "write")
    github.set_permission(OTHER, "bob", "read")
    database = f"sqlite:///{tmp_path / 'troop.sqlite3'}"
    return settings_for(github, webhook_secret=SECRET, admin_token=ADMIN_TOKEN, database_url=database)


async def _run_of(send: Sender, repository: str) -> int:
    changes: dict[str, Any] = {"repository__full_name": repository, "repository__id": len(repository)}
    return int((await send.taken("issues.labeled", **changes))["run"])


@pytest.fixture
async def alice(pages_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(pages_app) as client:
        answer = await sign_in(client, "alice")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield client


# -- without a session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/?before=3", "/runs/1", "/runs/1/trajectories/0"])
async def test_a_stranger_is_asked_to_sign_in_and_comes_back(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query)["next"] == [path]
    machine = await stranger.get(path, headers={"Accept": "application/json"})
    assert (machine.status_code, machine.json()) == (401, {"error": "sign in first"})


async def test_attack_43_the_port_of_the_webhook_serves_no_pages(
    settings: Settings, store: Store, dispatcher: ListDispatcher
) -> None:
    def client(settings: Settings, port: int) -> httpx.AsyncClient:
        both = by_port(
            settings, create_app(settings, store, dispatcher), create_pages(settings, store, dispatcher.enqueue)
        )
        return httpx.AsyncClient(transport=httpx.ASGITransport(both), base_url=f"http://127.0.0.1:{port}")

    async with client(settings, 8000) as webhook, client(settings, 8001) as pages:
        for path in ("/", "/runs/1", "/sign-in", "/style.css"):
            assert (await webhook.get(path)).status_code == 404
            assert (await pages.get(path)).status_code in (200, 303)
        for path in ("/webhook", "/metrics", "/ready"):
            assert (await pages.get(path)).status_code == 404
        assert (await webhook.get("/livez")).status_code == 200
    one = settings.model_copy(update={"pages": PagesSettings(port=settings.port)})
    async with client(one, one.port) as same:
        assert (await same.get("/sign-in")).status_code == 200
        assert (await same.get("/livez")).json() == {"status": "ok"}


# -- the machine's owner -----------------------------------------------------------------------------------------


async def test_the_owner_sees_all(send: Sender, owner: httpx.AsyncClient) -> None:
    for name in (PRIVATE, OTHER):
        run = await _run_of(send, name)
        assert (await owner.get(f"/runs/{run}")).status_code == 200
        assert name in (await owner.get("/")).text


@pytest.mark.parametrize("token", ["", "wrong", ADMIN_TOKEN.upper(), "é" * 20])
async def test_a_wrong_token_opens_nothing(stranger: httpx.AsyncClient, token: str) -> None:
    answer = await stranger.post("/sign-in/token", data={"admin_token": token})
    assert answer.status_code == 403
    assert "That is not the token." in answer.text
    assert (await stranger.get("/")).status_code == 303


async def test_without_a_token_no_token_is_right(settings: Settings, store: Store) -> None:
    without = settings.model_copy(update={"admin_token": type(settings.admin_token)("")})
    async with browser(create_pages(without, store, ListDispatcher().enqueue)) as client:
        assert (await client.post("/sign-in/token", data={"admin_token": ""})).status_code == 403
        assert "Admin token" not in (await client.get("/sign-in")).text


def test_a_token_is_made_for_this_user_alone_and_kept(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, secrets_dir=tmp_path / "secrets")
    made = with_admin_token(settings)
    file = tmp_path / "secrets" / "troop_admin_token"
    assert len(made.admin_token.get_secret_value()) > 40
    assert file.read_text().strip() == made.admin_token.get_secret_value()
    assert file.stat().st_mode & 0o777 == 0o600
    assert with_admin_token(settings).admin_token == made.admin_token
    own = settings.model_copy(update={"admin_token": type(settings.admin_token)(ADMIN_TOKEN)})
    assert with_admin_token(own) is own
    (tmp_path / "file").write_text("")
    nowhere = settings.model_copy(update={"secrets_dir": tmp_path / "file"})
    assert with_admin_token(nowhere).admin_token.get_secret_value() == ""


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than 16"):
        Settings(_env_file=None, admin_token="letmein")


# -- people ------------------------------------------------------------------------------------------------------


async def test_people_see_the_repositories_that_they_can_read(
    send: Sender, alice: httpx.AsyncClient, pages_app: FastAPI
) -> None:
    hers, other = await _run_of(send, PRIVATE), await _run_of(send, OTHER)
    listed = (await alice.get("/")).text
    assert PRIVATE in listed
    assert OTHER not in listed
    assert (await alice.get(f"/runs/{hers}")).status_code == 200
    for path in (f"/runs/{other}", f"/runs/{other}/trajectories/0"):
        hidden, unknown = await alice.get(path), await alice.get("/runs/99")
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.text.replace(f"run {other},", "run N,") == unknown.text.replace(
            "run 99,", "run N,"
        )  # as if it were not there
    async with browser(pages_app) as bob:
        await sign_in(bob, "bob")
        listed = (await bob.get("/")).text
        assert OTHER in listed
        assert PRIVATE not in listed
        assert (await bob.get(f"/runs/{other}")).status_code == 200
        assert (await bob.get(f"/runs/{hers}")).status_code == 404


async def test_a_public_repositorys_run_is_read_by_its_address(
    send: Sender, github: GitHubServer, pages_app: FastAPI
) -> None:
    """By all who can read the repository, as the link in a pull request has it; lists have what people belong to."""
    github.set_repository(OTHER, private=False)
    run = await _run_of(send, OTHER)
    github.world.user("carol")
    async with browser(pages_app) as carol:
        await sign_in(carol, "carol")
        assert (await carol.get(f"/runs/{run}")).status_code == 200
        assert OTHER not in (await carol.get("/")).text


async def test_access_is_asked_of_github_once_in_minutes_and_ends(
    send: Sender, github: GitHubServer, alice: httpx.AsyncClient, pages_app: FastAPI
) -> None:
    run = await _run_of(send, PRIVATE)
    for _ in range(3):
        assert (await alice.get(f"/runs/{run}")).status_code == 200
    asked = [one for one in github.requests if one.path.endswith(f"/repos/{PRIVATE}")]
    assert len(asked) == 1
    github.set_permission(PRIVATE, "alice", "none")
    assert (await alice.get(f"/runs/{run}")).status_code == 200, "for minutes"
    pages_app.state.site.known.clock = lambda: time.monotonic() + Known.SECONDS
    assert (await alice.get(f"/runs/{run}")).status_code == 404
    assert PRIVATE not in (await alice.get("/")).text


async def test_who_has_lost_the_token_signs_in_again(
    send: Sender, github: GitHubServer, alice: httpx.AsyncClient
) -> None:
    run = await _run_of(send, PRIVATE)
    github.expire_tokens()
    answer = await alice.get(f"/runs/{run}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next=/runs/{run}")


async def test_where_github_is_away_nothing_is_shown(
    send: Sender, alice: httpx.AsyncClient, github: GitHubServer
) -> None:
    run = await _run_of(send, PRIVATE)
    github.fault("GET", f"/repos/{PRIVATE}")
    answer = await alice.get(f"/runs/{run}")
    assert answer.status_code == 503
    assert "can&#39;t be asked now" in answer.text


# -- the way to GitHub and back ----------------------------------------------------------------------------------


async def _sent_away(client: httpx.AsyncClient) -> str:
    """The state of a sign-in that has begun."""
    there = await client.post("/sign-in/github", data={"next": "/"})
    query = parse_qs(urlsplit(there.headers["location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{PAGES}/sign-in/callback"]
    return query["state"][0]


async def test_the_state_is_checked_and_works_once(
    stranger: httpx.AsyncClient, pages_app: FastAPI, github: GitHubServer
) -> None:
    state = await _sent_away(stranger)
    for wrong in ("", "x", state[:-1]):
        assert (await stranger.get("/sign-in/callback", params={"code": "c", "state": wrong})).status_code == 403
        state = await _sent_away(stranger)
    async with browser(pages_app) as victim:  # whom an attacker sends the end of a sign-in of their own
        assert (await victim.get("/sign-in/callback", params={"code": "c", "state": state})).status_code == 403
    cookies = dict(stranger.cookies)
    refused = await stranger.get("/sign-in/callback", params={"error": "access_denied", "state": state})
    assert refused.status_code == 403
    stranger.cookies.update(cookies)  # a replay by who has kept it
    again = await stranger.get("/sign-in/callback", params={"code": "c", "state": state})
    assert again.status_code == 403
    assert "begun here" in again.text


async def test_a_code_that_github_refuses_signs_nobody_in(stranger: httpx.AsyncClient) -> None:
    state = await _sent_away(stranger)
    answer = await stranger.get("/sign-in/callback", params={"code": "c0de", "state": state})
    assert answer.status_code == 503
    assert "GitHub refuses the sign-in" in answer.text
    assert (await stranger.get("/")).status_code == 303


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/runs/3?x=1", "/runs/3?x=1"),
        ("//evil.example.com", "/"),
        ("https://evil.example.com", "/"),
        ("/\\evil.example.com", "/"),
        ("/\t/evil.example.com", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_after_a_sign_in_the_way_leads_to_our_own_pages(path: str, leads_to: str) -> None:
    assert local_path(path) == leads_to


# -- sessions ----------------------------------------------------------------------------------------------------


def _request(cookies: str) -> Request:
    return Request({"type": "http", "headers": [(b"cookie", cookies.encode())]})


def _cookie(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def test_a_session_is_sealed_and_ends(settings: Settings) -> None:
    now = 1_000_000.0
    sessions = Sessions(settings, clock=lambda: now)
    response = Response()
    visitor = sessions.begin(response, login="alice", token="ghu_secret", seconds=600)
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=600" in cookie
    assert "ghu_secret" not in cookie
    assert sessions.visitor(_request(_cookie(response))) == visitor
    assert Sessions(settings, clock=lambda: now).visitor(_request(_cookie(response))) == visitor, "another process"
    name, _, sealed = _cookie(response).partition("=")
    for forged in (sealed[:-2], sealed[:20] + "AAAA" + sealed[24:], "", "x" * 9000):
        assert sessions.visitor(_request(f"{name}={forged}")) is None
    now += 601
    assert sessions.visitor(_request(_cookie(response))) is None
    changed = settings.model_copy(update={"admin_token": type(settings.admin_token)("another admin token")})
    assert Sessions(changed, clock=lambda: 1_000_000.0).visitor(_request(_cookie(response))) is None


def test_over_https_a_cookie_is_for_this_host_alone(settings: Settings) -> None:
    secure = settings.model_copy(update={"pages": PagesSettings(url="https://troop.example.com")})
    response = Response()
    Sessions(secure).begin(response)
    assert re.match(r"__Host-troop-session=.*; Secure$", response.headers["set-cookie"].replace("HttpOnly; ", ""))


async def test_who_signs_out_is_out(owner: httpx.AsyncClient) -> None:
    token = form_of((await owner.get("/")).text, "/sign-out")
    kept = dict(owner.cookies)
    assert (await owner.post("/sign-out", data={"token": "x"})).status_code == 403
    assert (await owner.post("/sign-out", data=token)).status_code == 303
    owner.cookies.update(kept)
    assert (await owner.get("/")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "null"},
    ],
)
async def test_a_form_of_another_site_is_refused(owner: httpx.AsyncClient, headers: dict[str, str]) -> None:
    data = form_of((await owner.get("/")).text, "/sign-out") | {"admin_token": ADMIN_TOKEN}
    for path in ("/sign-out", "/sign-in/token", "/sign-in/github"):
        assert (await owner.post(path, data=data, headers=headers)).status_code == 403
    assert (await owner.get("/")).status_code == 200


async def test_the_way_to_github_is_allowed_on_the_page_that_leads_there(
    stranger: httpx.AsyncClient, github: GitHubServer
) -> None:
    policy = (await stranger.get("/sign-in")).headers["content-security-policy"]
    assert f"form-action 'self' {github.url};" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["a%00b/c", "a/b%00", "%00/%00", "a%0Ab/c", "x" * 300 + "/y"])
async def test_attack_42_a_repository_of_no_such_name_is_not_there(owner: httpx.AsyncClient, name: str) -> None:
    assert (await owner.get(f"/repositories/{name}")).status_code == 404


@pytest.mark.parametrize("query", ["q=%00", "repository=%00", "q=%ED%A0%80", "before=%00", "q=" + "x" * 9000])
async def test_attack_42_odd_queries_of_the_list_are_answered(owner: httpx.AsyncClient, query: str) -> None:
    assert (await owner.get(f"/?{query}")).status_code in (200, 422)
