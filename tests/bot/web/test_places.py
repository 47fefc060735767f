"""The pages of a repository and of the engine."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from pydantic import SecretStr

from bot.lifecycle import RunState
from bot.records import Build
from bot.settings import ModelSettings, Settings
from bot.store import Store
from bot.web.dashboard import create_pages
from bot.web.repository_page import solve_rate
from tests.bot.sample import LABELLED_AT
from tests.bot.web.conftest import ADMIN_TOKEN, PAGES, ListDispatcher, Sender, browser, form_of, sign_in
from tests.bot.web.test_pages import EVIL, _ended_run, _report
from tests.bot.webhook.deliveries import SECRET
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer

__all__ = ["github", "github_server"]

REPOSITORY = "octo-org/octo-repo"
CONFIG = '[test]\ncommand = "pytest -q"\n[run]\ntrajectories = 20\n[sandbox]\nimage = "evil/image"\n'


@pytest.fixture
def settings(github: GitHubServer, tmp_path: Path) -> Settings:
    github.world.app.callback_urls = [f"{PAGES}/sign-in/callback"]
    github.create_repository(REPOSITORY, {".troop.toml": CONFIG})
    github.set_repository(REPOSITORY, private=True)
    github.set_permission(REPOSITORY, "alice", "read")
    github.world.user("bob")
    return settings_for(
        github,
        webhook_secret=SECRET,
        admin_token=SecretStr(ADMIN_TOKEN),
        database_url=f"sqlite:///{tmp_path / 'troop.sqlite3'}",
    )


async def test_a_repository_tells_its_history_its_config_and_its_problems(
    send: Sender, store: Store, alice: httpx.AsyncClient
) -> None:
    await _ended_run(send, store, _report().model_dump_json(), None)
    broken = int((await send.taken("issues.labeled", issue__number=8))["run"])
    claimed = store.claim_run(broken, "w", 60)
    assert claimed is not None
    build = Build(layer="pip", source="requirements.txt", recipe="pip", at=LABELLED_AT, seconds=3.14)
    for place, more in enumerate(({"log": "collected 3"}, {"log": f"{EVIL} {ADMIN_TOKEN}", "trouble": f"no {EVIL}"})):
        store.put_step(broken, 1, f"build/1/{place:02}", build.model_copy(update=more).model_dump_json())
    store.finish(broken, 1, RunState.FAILED, reason=f"the image can't be built {EVIL}")
    page = (await alice.get(f"/repositories/{REPOSITORY}")).text
    assert "Solved: 1 of 2 (50%)" in page
    assert f"Run {broken} failed: the image" in page
    assert "pip (requirements.txt): built in 3.1 s" in page
    assert "pip (requirements.txt): failed in 3.1 s" in page
    assert "collected 3" in page
    assert ADMIN_TOKEN not in page
    assert "<dt>test command</dt><dd>pytest -q</dd>" in page
    assert "TROOP_SANDBOX_IMAGES_ALLOWED" in page, "what is ignored, and why"
    assert "evil/image" in page
    assert "<img" not in page
    of_run = (await alice.get(f"/runs/{broken}")).text
    assert re.search(r"<details id=\S+ open><summary>pip \(requirements\.txt\): failed in 3\.1 s, \S+ \S+ ago<", of_run)
    assert re.search(r"<details id=\S+><summary>pip \(requirements\.txt\): built in 3\.1 s", of_run)
    assert "collected 3" in of_run
    assert ADMIN_TOKEN not in of_run
    assert "<img" not in of_run
    assert "Image builds" not in (await alice.get(f"/runs/{broken - 1}")).text


async def test_why_nothing_happens(
    settings: Settings, store: Store, dispatcher: ListDispatcher, alice: httpx.AsyncClient
) -> None:
    assert "label an open issue troop" in (await alice.get(f"/repositories/{REPOSITORY}")).text
    store.pause("a holiday", "ann")
    assert "paused by its operator: a holiday" in (await alice.get(f"/repositories/{REPOSITORY}")).text
    narrowed = settings.model_copy(update={"repositories": ("acme/*",)})
    async with browser(create_pages(narrowed, store, dispatcher.enqueue)) as client:
        await sign_in(client, "alice")
        assert "not in TROOP_REPOSITORIES" in (await client.get(f"/repositories/{REPOSITORY}")).text


async def test_a_config_that_can_not_be_read_is_told(alice: httpx.AsyncClient, github: GitHubServer) -> None:
    github.commit(REPOSITORY, {".troop.toml": "[test\ncommand ="})
    page = (await alice.get(f"/repositories/{REPOSITORY}")).text
    assert "<strong>" in page
    assert ".troop.toml" in page


async def test_a_repository_is_for_those_who_read_it(pages_app: FastAPI, github: GitHubServer) -> None:
    async with browser(pages_app) as bob:
        await sign_in(bob, "bob")
        assert (await bob.get(f"/repositories/{REPOSITORY}")).status_code == 404
        assert (await bob.get("/repositories/no/such")).status_code == 404
        assert (await bob.get("/engine")).status_code == 404
        fields = {"token": form_of((await bob.get("/")).text, "/sign-out")["token"]}
        assert (await bob.post("/engine/pause", data=fields)).status_code == 404


def test_rates() -> None:
    assert solve_rate({RunState.SOLVED: 3, RunState.FAILED: 1, RunState.STOPPED: 5}) == "3 of 4 (75%)"
    assert solve_rate({RunState.STOPPED: 5}) == ""


# -- the engine --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _engine() -> Iterator[tuple[str, Counter]]:
    """What answers at `/metrics` as the engine does."""
    registry = CollectorRegistry()
    generated = Counter("troop_engine_tokens_generated", "x", registry=registry)
    Gauge("troop_engine_waiting", "x", registry=registry).set(7)
    Counter("troop_engine_prefix_bytes_saved", "x", registry=registry).inc(5_000_000)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(registry))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", generated
        server.shutdown()
        thread.join()


async def test_the_engine_tells_its_queue_and_its_throughput(
    settings: Settings, store: Store, dispatcher: ListDispatcher
) -> None:
    with _engine() as (url, generated):
        with_engine = settings.model_copy(update={"main": ModelSettings(base_url=url)})
        async with browser(create_pages(with_engine, store, dispatcher.enqueue)) as owner:
            await owner.post("/sign-in/token", data={"admin_token": ADMIN_TOKEN})
            generated.inc(1234)
            page = (await owner.get("/engine")).text
            assert "<dt>Waiting</dt><dd>7 sequences</dd>" in page
            assert "1,234 tokens" in page
            assert "5.0 MB" in page
    async with browser(create_pages(with_engine, store, dispatcher.enqueue)) as owner:  # it is gone
        await owner.post("/sign-in/token", data={"admin_token": ADMIN_TOKEN})
        assert "can&#39;t be read" in (await owner.get("/engine")).text


async def test_the_owner_pauses_and_goes_on(owner: httpx.AsyncClient, store: Store) -> None:
    page = (await owner.get("/engine")).text
    fields = form_of(page, "/engine/pause")
    assert (await owner.post("/engine/pause", data={"reason": "x"})).status_code == 403
    assert store.paused() is None
    assert (await owner.post("/engine/pause", data=fields | {"reason": "an upgrade"})).status_code == 303
    paused = store.paused()
    assert paused is not None
    assert (paused.reason, paused.by) == ("an upgrade", "the machine's owner")
    page = (await owner.get("/engine")).text
    assert "an upgrade" in page
    await owner.post("/engine/resume", data=form_of(page, "/engine/resume"))
    assert store.paused() is None
