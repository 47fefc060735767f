"""The pages in a real browser: an issue is labelled in one, the pull request appears, and hostile text stays text.

`SCREENSHOTS=FOLDER` keeps pictures of the pages to look at.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from bot.records import Message
from bot.settings import SolverSettings
from tests.github.fixtures import github, github_server
from tests.github.server import GitHubServer
from tests.integration import scenario
from tests.integration.browsing import browser, sign_in
from tests.integration.service import Running, running_service
from tests.patience import PATIENCE
from tests.scripted_endpoint import scripted_endpoint

__all__ = ["browser", "github", "github_server"]

pytestmark = [pytest.mark.service, pytest.mark.slow]

ATTACK = "</details></td></pre><script>attacked = 1</script><img src=http://192.0.2.1/x onerror='attacked = 1'>"
FOLDS = "document.querySelectorAll('details:not([open])').forEach(fold => fold.open = true)"


def hostile(key: str, messages: Sequence[Message]) -> str:
    """The scenario's replies with an attack in all that is shown: summary, test, printed output, patch, file name."""
    said = scenario.script(key.replace("trajectory/1/", "trajectory/3/"), messages)  # whose edit differs
    if "/test/" in key:
        return said.replace("assert", f"print({ATTACK!r})\nassert", 1)
    if "/edit/" in key:
        said = said.replace("        return high\n", f"        return high  # {ATTACK}\n")
        return said.replace(
            "</edit>", f'</edit>\n<create path="mill/notes.md">\n``````\n{ATTACK}\n@octo/all\n</create>'
        )
    return said


@pytest.fixture
async def context(browser: Browser) -> BrowserContext:
    # Past the pages' own policy: what got into a page would run, and the test would see it.
    context = await browser.new_context(bypass_csp=True, viewport={"width": 1200, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    return context


async def look(page: Page, name: str) -> None:
    """Nothing of the attack is in force on the page, folds opened; a picture of it where pictures are kept."""
    await page.evaluate(FOLDS)
    assert await page.evaluate("window.attacked") is None
    elements = "script:not([src='/live.js']), img, iframe, object, [onerror], [onload], a[href^='javascript:']"
    assert await page.locator(elements).count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} scrolls sideways"
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


async def until(service: Running, page: Page, words: str) -> None:
    """Look at the page again and again, as a person would, until it has the words."""

    async def there() -> bool:
        await page.reload()
        return words in await page.inner_text("main")

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if await there():
            return
        if service.store.runs() and not service.store.runs(active=True):
            break
        await page.wait_for_timeout(500)
    if await there():
        return
    raise AssertionError(f"no {words!r} on {page.url}: {service.store.runs()}")


async def test_label_an_issue_and_see_the_pull_request(
    github: GitHubServer, context: BrowserContext, tmp_path: Path
) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(urlsplit(request.url).hostname or ""))
    number = scenario.plant(github)
    github.comment(scenario.REPOSITORY, number, f"It also says {ATTACK}", user="maintainer")
    page = await context.new_page()
    with scripted_endpoint(hostile, name=f"model {ATTACK}") as endpoint:
        solver = SolverSettings(trajectories=2, test_timeout=PATIENCE, profile="full")
        async with running_service(github, tmp_path, endpoint.base_url, solver=solver) as service:
            await page.goto(f"{github.url}/{scenario.REPOSITORY}/issues/{number}")
            form = page.locator("form", has=page.get_by_role("button", name="Label", exact=True))
            await form.locator("select[name=label]").select_option("troop")
            await form.locator("select[name=user]").select_option("maintainer")
            async with page.expect_navigation():  # to reload a page that is just being left is an error
                await form.get_by_role("button", name="Label", exact=True).click()
            await until(service, page, "troop: done")
            await look(page, "issue")

            pull = next(iter(github.pull_requests(scenario.REPOSITORY)))
            reference = page.locator("a.reference", has_text=f"#{pull['number']}")
            assert await reference.count() > 0, "which GitHub makes a link"
            await page.goto(f"{github.url}/{scenario.REPOSITORY}/pull/{pull['number']}")
            await look(page, "pull-request")
            text = await page.inner_text("main")
            assert "Draft" in text
            assert "return high" in text
            assert "return low + 2" in text, "the runner-up"
            assert "@octo/all" in text
            assert await page.locator("a.mention", has_text="octo").count() == 0
            # each fold ends where it should: none holds another comment, none is left open at the end
            assert await page.locator(".inside > details").count() == await page.locator("details").count()
            assert await page.locator("details > summary:first-child").count() == await page.locator("details").count()

            await page.goto(service.pages)
            await sign_in(page, "maintainer")
            assert scenario.TITLE in await page.inner_text("body")
            await look(page, "runs")
            async with page.expect_navigation():
                await page.locator("a[href^='/runs/']").first.click()
            await look(page, "run")
            assert ATTACK in await page.inner_text("body"), "as text, once the folds are open"
    assert set(asked) == {"127.0.0.1"}
