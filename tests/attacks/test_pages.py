"""Forms, methods and addresses that no browser of ours sends: attacks 30 and 42."""

import threading
from collections.abc import Mapping

import httpx
import pytest
from fastapi import Request, Response

from bot.settings import Settings
from bot.web import sessions
from bot.web.app import Webhook
from tests.bot.web.conftest import app, client, dispatcher, owner, pages_app, settings, store, stranger
from tests.bot.webhook.deliveries import payload, request

__all__ = ["app", "client", "dispatcher", "owner", "pages_app", "settings", "store", "stranger"]


@pytest.mark.parametrize("path", ["/sign-in/token", "/sign-in/github", "/sign-out", "/runs/1/stop", "/runs/1/x"])
@pytest.mark.parametrize("body", ["&" * 60_000, "a=1&" * 15_000, "%ff=%ff", "a" * 70_000, ""])
async def test_attack_30_a_form_of_strange_fields_is_refused(
    stranger: httpx.AsyncClient, owner: httpx.AsyncClient, path: str, body: str
):
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    for browser in (stranger, owner):
        answer = await browser.post(path, content=body, headers=headers)
        assert 400 <= answer.status_code < 500 or answer.headers["location"] == "/sign-in"


@pytest.mark.parametrize(
    "path", ["/webhook/", "/health/", "/ready/", "/metrics/", "/runs/1/", "/sign-in/", "/style.css/"]
)
async def test_attack_30_no_answer_leads_to_what_the_host_header_names(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, path: str
):
    for asked in (client, stranger):
        answer = await asked.get(path, headers={"Host": "evil.example"})
        assert "evil" not in answer.headers.get("location", "") + answer.text
        assert answer.status_code in (404, 405)


async def test_a_webhook_with_a_slash_at_its_end_takes_deliveries(client: httpx.AsyncClient):
    body, headers = request("issues", payload("issues.labeled"))
    assert (await client.post("/webhook/", content=body, headers=headers)).status_code == 202


@pytest.mark.parametrize("path", ["/health", "/livez", "/ready", "/readyz", "/metrics"])
async def test_what_watches_servers_may_ask_for_the_head_alone(client: httpx.AsyncClient, path: str):
    assert (await client.head(path)).status_code == 200


def test_attack_38_ways_back_from_github_without_end_are_not_all_remembered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Each costs its sender two requests, and nobody has to sign in for it."""
    monkeypatch.setattr(sessions, "_MOST_USED", 3)
    kept = sessions.Sessions(settings)

    def back(response: Response, state: str) -> bool:
        cookie = response.headers["set-cookie"].partition(";")[0]
        request = Request({"type": "http", "headers": [(b"cookie", cookie.encode())]})
        return kept.came_back(request, Response(), state) is not None

    for _ in range(10):
        begun, response = kept.begun("/"), Response()
        kept.send_away(response, begun)
        assert back(response, begun.state)
        assert not back(response, begun.state)
    assert len(kept._used) + len(kept._ended) == 3


@pytest.mark.parametrize(("written", "in_the_loop"), [("/troop stop", True), ("/troop retry " + "[" * 60_000, False)])
async def test_attack_38_a_long_comment_is_not_read_in_the_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, written: str, in_the_loop: bool
):
    """Anybody may write one, and its Markdown takes the most of a second, in which no other delivery would be read."""
    threads: list[threading.Thread] = []
    read = Webhook._read

    def noted(self: Webhook, body: bytes, headers: Mapping[str, str]) -> object:
        threads.append(threading.current_thread())
        return read(self, body, headers)

    monkeypatch.setattr(Webhook, "_read", noted)
    data = payload("issue_comment.created", comment__body=written)
    body, headers = request("issue_comment", data)
    assert (await client.post("/webhook", content=body, headers=headers)).status_code == 202
    assert [one is threading.current_thread() for one in threads] == [in_the_loop]
