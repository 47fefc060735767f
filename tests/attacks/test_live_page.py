"""A page that changes by itself, in a real browser: its server goes away, its line dies silently, a proxy answers.

The browser's clock is the test's own, so that nothing is waited for.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import Browser, Page

from bot.lifecycle import RunState
from bot.settings import Settings
from bot.settings.pages import PagesSettings
from bot.store import Store
from bot.web.dashboard import create_pages
from tests.bot.queueing import start
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer
from tests.integration.browsing import browser
from tests.patience import PATIENCE, eventually

__all__ = ["browser", "github", "github_server"]

pytestmark = [pytest.mark.service, pytest.mark.slow]

TOKEN = "the token of the machine's owner"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Line:
    """The pages, and what stands between them and the browser: `mode` is open, silent (nothing comes back) or 502."""

    def __init__(self, settings: Settings, store: Store, port: int) -> None:
        self.store = store
        self.url = settings.pages.address
        self.mode = "open"
        self.asked = 0  # connections
        self._settings, self._port = settings, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: uvicorn.Server | None = None

    async def start(self) -> None:
        app = create_pages(self._settings, self.store, lambda job: asyncio.sleep(0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = server = uvicorn.Server(config)
        app.state.site.ending = lambda: server.should_exit
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._serving = asyncio.create_task(server.serve([self._listening]))
        await eventually(lambda: server.started)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            await self._serving
            self._listening.close()
            self._server = None

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.mode == "502":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(BAD_GATEWAY)
                return await writer.drain()
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            with contextlib.closing(back):
                ways = [asyncio.create_task(self._pass(*way)) for way in ((reader, back), (there, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deaf = False  # for ever: what was lost does not come any more
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                deaf = deaf or self.mode == "silent"
                if not deaf:
                    writer.write(data)
                    await writer.drain()


@pytest.fixture
async def line(github: GitHubServer, tmp_path: Path) -> AsyncIterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = settings_for(
            github,
            webhook_secret="a secret of the tests",
            admin_token=TOKEN,
            database_url=f"sqlite:///{tmp_path / 'troop.sqlite3'}",
            pages=PagesSettings(port=listening.getsockname()[1]),
        )
        store = Store.from_settings(settings)
        store.accept("g1", "issues", "labeled", start(1, "octo/hello"))
        assert store.claim_run(1, "worker", 10 * PATIENCE) is not None
        line = Line(settings, store, port)
        await line.start()
        between = await asyncio.start_server(line.carry, sock=listening)
        yield line
        between.close()
        await line.stop()
        store.close()


@contextlib.asynccontextmanager
async def watching(browser: Browser, line: Line, path: str) -> AsyncIterator[Page]:
    """The owner's browser at that page, which a reload would make forget `window.same`."""
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    page = await context.new_page()
    await page.goto(f"{line.url}/sign-in")
    await page.evaluate(
        "token => fetch('/sign-in/token', {method: 'POST', body: new URLSearchParams({admin_token: token})})", TOKEN
    )
    await page.clock.install()
    await page.goto(line.url + path)
    await page.evaluate("window.same = true")
    yield page
    assert await page.evaluate("window.same") is True
    await context.close()


async def passing(page: Page, holds: Callable[[], Awaitable[bool]], step: int = 5_000) -> None:
    """Let the page's time pass until that holds."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():
            await page.clock.fast_forward(step)
            await asyncio.sleep(0.05)


def shows(page: Page, words: str) -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        return await page.get_by_text(words).count() > 0

    return seen


def go_on(line: Line) -> None:
    for state in (RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES):
        line.store.advance(1, 1, state)
    line.store.renew(1, 1, PATIENCE, "sampling fixes (1 of 4), 1 with an edit")


@pytest.mark.parametrize("how", ["stopped", "502", "silent"])
async def test_what_happened_while_the_server_was_away_is_seen(line: Line, browser: Browser, how: str) -> None:
    async with watching(browser, line, "/runs/1") as page:
        await page.get_by_role("status").get_by_text("waiting for a worker").wait_for()
        asked = line.asked
        line.mode = how if how != "stopped" else "open"
        if how != "silent":
            await line.stop()
        go_on(line)

        async def tried() -> bool:
            return line.asked > asked + 2

        await passing(page, tried)  # a silent connection is one that is given up
        if how != "silent":
            await line.start()
        line.mode = "open"
        await passing(page, shows(page, "sampling fixes (1 of 4)"))


async def test_the_list_has_what_came_meanwhile_and_what_a_person_wrote(line: Line, browser: Browser) -> None:
    async with watching(browser, line, "/") as page:
        await page.get_by_label("Title or #number").fill("half a wor")
        await line.stop()
        line.store.accept("g2", "issues", "labeled", start(2, "octo/hello"))
        await page.clock.fast_forward(60_000)
        await line.start()

        async def listed() -> bool:
            return await page.locator("a[href='/runs/2']").count() > 0

        await passing(page, listed)
        assert await page.get_by_label("Title or #number").input_value() == "half a wor"


async def test_a_server_that_is_away_for_hours_is_not_asked_every_few_seconds(line: Line, browser: Browser) -> None:
    async with watching(browser, line, "/runs/1") as page:
        await page.get_by_role("status").get_by_text("waiting for a worker").wait_for()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await line.stop()
        asked = line.asked
        for _ in range(120):  # two hours
            await page.clock.fast_forward(60_000)
            await asyncio.sleep(0.02)
        assert 2 < line.asked - asked < 150
        assert errors == []
        await line.start()
        go_on(line)
        await passing(page, shows(page, "sampling fixes (1 of 4)"))
