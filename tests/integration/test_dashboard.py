"""The dashboard in a real browser: two people and two repositories, live updates, actions, a phone, the dark, the
keyboard alone, and axe-core.

`SCREENSHOTS=FOLDER` keeps pictures of the pages to look at.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import Browser, Page

from bot.lifecycle import RunState
from bot.records import Report
from bot.settings import Settings
from bot.settings.pages import PagesSettings
from bot.store import Store
from bot.web.dashboard import create_pages
from tests.bot.queueing import start
from tests.bot.sample import report
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer
from tests.integration import axe
from tests.integration.browsing import browser, sign_in
from tests.patience import PATIENCE

__all__ = ["browser", "github", "github_server"]

pytestmark = [pytest.mark.service, pytest.mark.slow]

MINE, OTHER = "acme/mill", "umbrella/weather-station-with-a-rather-long-name"
EVIL = "</td></pre><script>attacked = 1</script><img src=http://192.0.2.1/x onerror='attacked = 1'>"
FITS = "document.documentElement.scrollWidth <= window.innerWidth"


class Served:
    """The pages with some runs: 1 has ended, 2 is under way, 3 is of the other repository."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.url = settings.pages.address
        self.store = store
        self.jobs: list[str] = []

    async def enqueue(self, job: str) -> None:
        self.jobs.append(job)


def hostile(whole: Report) -> Report:
    """The report with an attack in all that a model or a program wrote."""
    ballot = whole.verdict.ballot
    named = {"path": "tests/of_a_package_with_a_long_name/test_module_with_a_long_name.py"}
    tests = tuple(test.model_copy(update={"text": test.text + EVIL, **named}) for test in ballot.tests)
    candidates = tuple(
        one.model_copy(update={"patch": one.patch.model_copy(update={"diff": one.patch.diff + f"+{EVIL}\n"})})
        for one in ballot.candidates
    )
    ballot = ballot.model_copy(update={"tests": tests, "candidates": candidates})
    return whole.model_copy(update={"verdict": whole.verdict.model_copy(update={"ballot": ballot}), "notes": (EVIL,)})


def _fill(store: Store) -> None:
    for number, repository in ((1, MINE), (2, MINE), (3, OTHER)):
        decision = start(number, repository)
        issue = decision.issue.model_copy(update={"title": f"clamp ignores its bound, {EVIL}"})
        store.accept(f"g{number}", "issues", "labeled", decision.model_copy(update={"issue": issue}))
        assert store.claim_run(number, "worker", 10 * PATIENCE) is not None
    for state in ("checkout", "context", "trajectories", "matrix", "selection", "publishing"):
        store.advance(1, 1, RunState(state))
    text = hostile(report()).model_dump_json()
    store.finish(1, 1, RunState.SOLVED, reason="it passes all tests", report_json=text)


@pytest.fixture
async def served(github: GitHubServer, tmp_path: Path) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = settings_for(
            github,
            webhook_secret="a secret of the tests",
            database_url=f"sqlite:///{tmp_path / 'troop.sqlite3'}",
            pages=PagesSettings(port=listening.getsockname()[1]),
        )
        github.world.app.callback_urls = [settings.pages.callback]
        for name, person in ((MINE, "alice"), (OTHER, "bob")):
            github.create_repository(name, {".troop.toml": "[run]\ntrajectories = 4\n"})
            github.set_repository(name, private=True)
            github.set_permission(name, person, "write")
        store = Store.from_settings(settings)
        _fill(store)
        served = Served(settings, store)
        app = create_pages(settings, store, served.enqueue)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        app.state.site.ending = lambda: server.should_exit
        serving = asyncio.create_task(server.serve([listening]))
        yield served
        server.should_exit = True
        await serving
        store.close()


@contextlib.asynccontextmanager
async def person(browser: Browser, served: Served, login: str, **options: object) -> AsyncIterator[Page]:
    """Somebody's browser, signed in, at the list."""
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE * 1000)
    page = await context.new_page()
    await page.goto(served.url)
    await sign_in(page, login)
    yield page
    await context.close()


async def look(page: Page, name: str) -> None:
    """The page fits, nothing of the attack is in force; a picture of it where pictures are kept."""
    await page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert await page.evaluate(FITS), f"{name} scrolls sideways"
    assert await page.evaluate("window.attacked") is None
    assert await page.locator("script:not([src='/live.js']), img, [onerror]").count() == 0
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def paths(served: Served) -> dict[str, str]:
    return {
        "runs": "/",
        "run": "/runs/1",
        "active": "/runs/2",
        "compare": "/runs/1/compare?a=1&b=2",
        "trajectory": "/runs/1/trajectories/0",
        "repository": f"/repositories/{MINE}",
        "problem": "/runs/99",
    }


async def test_everybody_sees_their_own_and_acts(served: Served, browser: Browser) -> None:
    async with person(browser, served, "alice") as alice, person(browser, served, "bob") as bob:
        assert await alice.locator("a[href='/runs/1']").count() == 1
        assert await alice.locator("a[href='/runs/3']").count() == 0
        assert await bob.locator("a[href='/runs/3']").count() == 1
        assert await bob.locator("a[href='/runs/1']").count() == 0
        answer = await bob.goto(f"{served.url}/runs/1")
        assert answer is not None
        assert answer.status == 404
        await alice.goto(f"{served.url}/runs/2")
        await alice.get_by_role("button", name="Stop the run").click()
        await alice.get_by_text("Asked for: stop").wait_for()
        command = served.store.claim_command(1, "worker", 60)
        assert command is not None
        assert (command.sender, command.command.name.value, command.run_id) == ("alice", "stop", 2)
        assert served.jobs == ["command:1"]
        await alice.get_by_role("button", name="Sign out").click()
        await alice.get_by_role("button", name="Sign in with GitHub").wait_for()
        await alice.goto(f"{served.url}/runs/2")
        assert await alice.get_by_role("heading", name="Sign in").count() == 1


async def test_a_page_changes_while_a_run_goes_on(served: Served, browser: Browser) -> None:
    store = served.store
    async with person(browser, served, "alice") as page:
        await page.goto(f"{served.url}/runs/2")
        await page.get_by_role("status").get_by_text("waiting for a worker").wait_for()
        await page.evaluate("window.same = true")  # a reload would forget it
        for state in (RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES):
            store.advance(2, 1, state)
        store.put_step(2, 1, "model/trajectory/1/test/1/abc", "{}")
        store.renew(2, 1, PATIENCE, "sampling fixes (1 of 4), 1 with an edit")
        await page.locator(".grid li.test", has_text="writing a test, 1 call").wait_for()
        assert await page.locator(".grid li").count() == 4
        assert await page.locator("progress").get_attribute("value") == "1"
        for state in (RunState.MATRIX, RunState.SELECTION, RunState.PUBLISHING):
            store.advance(2, 1, state)
        store.finish(2, 1, RunState.SOLVED, reason="done", report_json=report().model_dump_json())
        await page.get_by_role("heading", name="The vote matrix").wait_for()
        assert await page.evaluate("window.same") is True
        # The list, too.
        await page.goto(served.url)
        await page.evaluate("window.same = true")
        store.accept("g9", "issues", "labeled", start(9, MINE))
        await page.locator("a[href='/runs/4']").wait_for()
        assert await page.evaluate("window.same") is True


async def test_what_was_unfolded_stays_so(served: Served, browser: Browser) -> None:
    async with person(browser, served, "alice") as page:
        await page.goto(f"{served.url}/runs/1")
        await page.locator("#test-1 summary").click()
        await page.evaluate("document.querySelector('#result').append('an older state')")
        await page.evaluate(
            """async () => {
              const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), 'text/html');
              window.troop.replace(fresh.getElementById('result'));
            }"""
        )
        assert await page.get_by_text("an older state").count() == 0
        assert await page.locator("#test-1").get_attribute("open") is not None
        assert await page.locator("#test-2").get_attribute("open") is None


async def test_without_javascript_all_is_there(served: Served, browser: Browser) -> None:
    async with person(browser, served, "alice", java_script_enabled=False) as page:
        await page.get_by_label("Title or #number").fill("#1")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Show").click()
        assert await page.locator("tbody tr").count() == 1
        await page.goto(f"{served.url}/runs/2")
        await page.get_by_role("button", name="Stop the run").click()
        await page.get_by_text("Asked for: stop").wait_for()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 320)])
async def test_nobody_is_kept_out(served: Served, browser: Browser, scheme: str, width: int) -> None:
    source = axe.script()
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    async with person(browser, served, "alice", **options) as page:
        for name, path in paths(served).items():
            await page.goto(served.url + path)
            await look(page, f"{name}-{scheme}")
            await axe.check(page, source)
        await page.goto(f"{served.url}/sign-in")
        await look(page, f"sign-in-{scheme}")
        await axe.check(page, source)


async def test_words_are_not_broken_on_a_phone(served: Served, browser: Browser) -> None:
    async with person(browser, served, "bob", viewport={"width": 320, "height": 640}) as page:
        # A word that fits a line of its own is on one line.
        broken = await page.evaluate(
            """() => [...document.querySelectorAll('main td, main th, main label, main h1')].flatMap(cell => {
              const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
              while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/[A-Za-z]{2,20}/g)) {
                const range = document.createRange();
                range.setStart(walker.currentNode, word.index);
                range.setEnd(walker.currentNode, word.index + word[0].length);
                if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) found.push(word[0]);
              }
              return found;
            })"""
        )
        assert broken == []


async def test_the_keyboard_alone_is_enough(served: Served, browser: Browser) -> None:
    async with person(browser, served, "alice") as page:
        await page.goto(served.url)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Enter")
        seen = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate("document.activeElement.getAttribute('href') ?? ''"))
            if seen[-1] == "/runs/2":
                break
        assert seen[-1] == "/runs/2", seen
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "it is seen where the focus is"
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Stop the run").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("Asked for: stop").wait_for()
