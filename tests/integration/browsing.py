"""A real Chromium, and what people do in it."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.patience import PATIENCE


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser: apt-get install chromium")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            timeout=PATIENCE * 1000,
        )
        yield chromium
        await chromium.close()


async def sign_in(page: Page, login: str) -> None:
    """As a person does it, at the test GitHub, which asks who they are."""
    await page.get_by_role("button", name="Sign in with GitHub").click()
    await page.locator("select[name=user]").select_option(login)
    await page.get_by_role("button", name="Authorize", exact=True).click()
    await page.get_by_role("button", name="Sign out").wait_for()
