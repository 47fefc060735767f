import html
import json
import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bot.settings import Settings
from bot.store import Store
from bot.web.app import create_app
from bot.web.dashboard import create_pages
from tests.bot.webhook.deliveries import SECRET, payload, request
from tests.stores import lay

ADMIN_TOKEN = "the token of the machine's owner"
PAGES = "http://127.0.0.1:8001"


class ListDispatcher:
    """Notes what it is handed; `error` is raised instead."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.error: Exception | None = None

    async def enqueue(self, job_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.jobs.append(job_id)

    async def run(self) -> None:
        raise AssertionError("the web only hands over")

    async def close(self) -> None:
        pass


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        webhook_secret=SECRET,
        app_id=12345,
        database_url=f"sqlite:///{tmp_path / 'troop.sqlite3'}",
        quota_runs_per_hour=1000,
        repositories=("octo-org/*",),
        admin_token=ADMIN_TOKEN,
    )


@pytest.fixture
def store(settings: Settings, empty_tables: Path) -> Iterator[Store]:
    lay(empty_tables, settings.database_url)
    store = Store.from_settings(settings)
    yield store
    store.close()


@pytest.fixture
def dispatcher() -> ListDispatcher:
    return ListDispatcher()


@pytest.fixture
def app(settings: Settings, store: Store, dispatcher: ListDispatcher) -> FastAPI:
    return create_app(settings, store, dispatcher)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4321))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def pages_app(settings: Settings, store: Store, dispatcher: ListDispatcher) -> FastAPI:
    return create_pages(settings, store, dispatcher.enqueue)


@pytest.fixture
async def stranger(pages_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the pages, without a session."""
    async with browser(pages_app) as client:
        yield client


@pytest.fixture
async def owner(pages_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The machine's owner at the pages, signed in."""
    async with browser(pages_app) as client:
        answer = await client.post("/sign-in/token", data={"admin_token": ADMIN_TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield client


@pytest.fixture
async def alice(pages_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(pages_app) as client:
        await sign_in(client, "alice")
        yield client


def browser(app: FastAPI, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    """What asks the pages; it keeps cookies."""
    transport = httpx.ASGITransport(app, client=(peer, 4321))
    return httpx.AsyncClient(transport=transport, base_url=PAGES, headers={"Accept": "text/html"})


async def sign_in(client: httpx.AsyncClient, login: str, next_: str = "/") -> httpx.Response:
    """As a person does it in a browser; the answer to GitHub's way back."""
    page = await client.get("/sign-in", params={"next": next_})
    there = await client.post("/sign-in/github", data=form_of(page.text, "/sign-in/github"))
    assert there.status_code == 303
    async with httpx.AsyncClient() as elsewhere:
        asked = await elsewhere.get(there.headers["location"])
        fields = form_of(asked.text, "/login/oauth/authorize") | {"user": login, "action": "authorize"}
        back = await elsewhere.post(str(asked.url).partition("?")[0], data=fields)
    assert back.headers["location"].startswith(f"{PAGES}/sign-in/callback?")
    return await client.get(back.headers["location"])


def form_of(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that posts there."""
    found = re.search(rf'<form[^>]*action="{re.escape(action)}"[^>]*>(.*?)</form>', page, re.DOTALL)
    assert found is not None, f"no form for {action}"
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', found[1])
    return {name: html.unescape(value) for name, value in hidden}


def attributes_of(page: str) -> set[str]:
    """The names of all attributes of the page's tags."""
    found: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.update(name for name, _ in attrs)

    Reader().feed(page)
    return found


class Sender:
    """Sends deliveries as GitHub does."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, name: str, *, guid: str | None = None, **changes: Any) -> httpx.Response:
        body, headers = request(name.partition(".")[0], payload(name, **changes), guid=guid)
        return await self._client.post("/webhook", content=body, headers=headers)

    async def taken(self, name: str, *, guid: str | None = None, **changes: Any) -> dict[str, Any]:
        response = await self(name, guid=guid, **changes)
        assert response.status_code == 202, response.text
        answer: dict[str, Any] = json.loads(response.content)
        return answer


@pytest.fixture
def send(client: httpx.AsyncClient) -> Sender:
    return Sender(client)
