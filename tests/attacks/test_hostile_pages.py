"""Every string that comes from GitHub, a repository, a model or a program, hostile, on all pages in a real browser."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import sqlalchemy as sa
import uvicorn
from playwright.async_api import Browser, Page
from pydantic import ValidationError

from bot.lifecycle import RunState
from bot.llm.transcript import PromptWriter, digest_of
from bot.records import Build, Issue, Message, Reply, Report
from bot.repo_config import FILE_NAME
from bot.settings.pages import PagesSettings
from bot.store import DbJournal, Store
from bot.store.base import plain
from bot.store.models import RUN
from bot.web.dashboard import create_pages
from tests.bot.queueing import start
from tests.bot.sample import report
from tests.bot.web.conftest import ADMIN_TOKEN, ListDispatcher
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer
from tests.integration.browsing import browser, sign_in
from tests.patience import PATIENCE

__all__ = ["browser", "github", "github_server"]

pytestmark = [pytest.mark.service, pytest.mark.slow]

MARKUP = (
    "\"'></details></td></pre></textarea></select></title></style>--><script>attacked = 1</script>"
    "<img src=x onerror='attacked = 1'><svg onload='attacked = 1'><a href='javascript:attacked = 1'>x</a>{{ 7 * 7 }}"
)
TEXTS = {
    "markup": MARKUP,
    "odd": "\u202e\u2066\u2067\u200f \0\ufffe\x1b[31m\x07\x7f \u2028\u2029\x85 \ufeff\u200b\U000e0041e"
    + "\u0301" * 200,
    "long": "\ufdfd" * 50 + "W" * 4000 + "\u0644" * 4000,
}
REPOSITORY = "octo/mill"
WIDTHS = (1200, 360)
OPEN = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
WATCH = (
    "window.violations = []; document.addEventListener('securitypolicyviolation', "
    "event => window.violations.push(event.violatedDirective + ' ' + event.blockedURI))"
)
WIDER = """() => [...document.querySelectorAll('body *')].filter(one => {
    for (let up = one; up; up = up.parentElement)
        if (/auto|scroll|hidden/.test(getComputedStyle(up).overflowX)) return false;
    return one.getBoundingClientRect().right > window.innerWidth + 1;
}).map(one => one.outerHTML.slice(0, 150)).slice(0, 3)"""


def hostile(value: Any, text: str) -> Any:
    """The report's JSON with that text in every string that may be any text."""
    for way in list(places(value)):
        at = value
        for key in way[:-1]:
            at = at[key]
        old, at[way[-1]] = at[way[-1]], text
        try:
            Report.model_validate_json(json.dumps(value))
        except ValidationError:
            at[way[-1]] = old
    return value


def places(at: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where strings are."""
    if isinstance(at, str):
        yield way
    for key, inner in at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ():
        yield from places(inner, (*way, key))


async def fill(store: Store, text: str) -> None:
    """Runs that ended well, go on, wait, failed; all that others wrote is the text."""
    stages = [RunState(name) for name in ("checkout", "context", "trajectories", "matrix", "selection", "publishing")]
    for number in range(1, 5):
        issue = Issue(title=text, body=text, number=number, author=text)
        decision = start(number, REPOSITORY).model_copy(update={"issue": issue, "sender": text})
        assert store.accept(f"g{number}", "issues", "labeled", decision).job_id is not None
    for number, reached in ((1, 6), (2, 3), (4, 0)):
        assert store.claim_run(number, "worker", 10 * PATIENCE) is not None
        for state in stages[:reached]:
            store.advance(number, 1, state)
        await conversation(store, number, text)
    made = hostile(json.loads(report(said=text, disqualified={1: text}, notes=(text,)).model_dump_json()), text)
    kept = Report.model_validate(made).model_dump_json()
    store.finish(1, 1, RunState.SOLVED, reason=text, report_json=kept, pull_request_url="javascript:attacked = 1")
    store.renew(2, 1, 10 * PATIENCE, f"sampling fixes (1 of 4), {text}")
    store.finish(4, 1, RunState.FAILED, reason=text)
    store.pause(text, text)
    with store.database.write() as tx:
        tx.execute(sa.update(RUN).where(RUN.c.id == 3).values(hold=plain(text), progress=plain(text)))


async def conversation(store: Store, run: int, text: str) -> None:
    """A trajectory's, and a layer of the image."""
    messages = [Message(role="user", content=text)]
    digest = digest_of(messages)
    await PromptWriter(DbJournal(store, run, 1)).store(messages, digest)
    store.put_step(run, 1, f"model/trajectory/0/test/1/{digest}", Reply(text=text).model_dump_json())
    build = Build(layer=text, source=text, recipe=text, at=datetime.now(UTC), seconds=1.0, log=text, trouble=text)
    store.put_step(run, 1, "build/1/00", build.model_dump_json())


@contextlib.asynccontextmanager
async def serving(github: GitHubServer, folder: Path, text: str) -> AsyncIterator[str]:
    """The address of the pages."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = settings_for(
            github,
            webhook_secret="a secret of the tests",
            admin_token=ADMIN_TOKEN,
            database_url=f"sqlite:///{folder / 'troop.sqlite3'}",
            pages=PagesSettings(port=listening.getsockname()[1]),
        )
        github.world.app.callback_urls = [settings.pages.callback]
        github.create_repository(REPOSITORY, {FILE_NAME: f"[sandbox]\nsetup = {json.dumps(text)}\n# {text}\n"})
        github.set_permission(REPOSITORY, "alice", "write")
        store = Store.from_settings(settings)
        await fill(store, text)
        app = create_pages(settings, store, ListDispatcher().enqueue)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        app.state.site.ending = lambda: server.should_exit
        task = asyncio.create_task(server.serve([listening]))
        yield settings.pages.address
        server.should_exit = True
        await task
        store.close()


PATHS = (
    *("/", "/runs/1", "/runs/2", "/runs/3", "/runs/4", "/runs/1/compare?a=1&b=2", "/runs/1/trajectories/0"),
    *("/runs/2/trajectories/0", f"/repositories/{REPOSITORY}", "/engine", "/runs/99", "/runs/x", "/sign-in"),
)


OF_ALICE = ("/runs/1", f"/repositories/{REPOSITORY}")  # what is different for her: the config, and what she may do


@pytest.mark.parametrize("kind", list(TEXTS))
async def test_attack_19_no_text_of_others_is_in_force_on_a_page(
    github: GitHubServer, browser: Browser, tmp_path: Path, kind: str
) -> None:
    text = TEXTS[kind]
    async with serving(github, tmp_path, text) as address:
        for who in ("the owner", "alice"):
            context = await browser.new_context()
            context.set_default_timeout(PATIENCE * 1000)
            await context.add_init_script(WATCH)
            page = await context.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            await page.goto(address)
            if who == "alice":
                await sign_in(page, "alice")
            else:
                await page.locator("[name=admin_token]").fill(ADMIN_TOKEN)
                await page.locator("[name=admin_token]").press("Enter")
                await page.get_by_role("button", name="Sign out").wait_for()
            asked.clear()
            paths = PATHS if who == "the owner" else OF_ALICE
            for path in (*paths, f"/?{urlencode({'q': text[:2000], 'repository': text[:2000]})}"):
                await page.goto(f"{address}{path}", wait_until="load")
                await look(page, f"{kind} {who} {path[:40]}")
            assert {urlsplit(url).netloc for url in asked} == {urlsplit(address).netloc}
            await context.close()


async def look(page: Page, name: str) -> None:
    """Nothing of the text is in force, and the page fits, on a phone, too."""
    await page.evaluate(OPEN)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        fits = await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert fits, f"{name} scrolls sideways at {width}: {await page.evaluate(WIDER)}"
    assert await page.evaluate("[window.attacked, window.violations]") == [None, []], name
    elements = "script:not([src='/live.js']), img, iframe, object, [onerror], [onload], a[href^='javascript:' i]"
    assert await page.locator(elements).count() == 0, name
