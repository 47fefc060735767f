"""axe-core, which finds what keeps people out of a page."""

from typing import Any

from playwright.async_api import Page

from tests.npm_packages import NpmPackage

AXE = NpmPackage("axe", "axe-core", "4.10.3", "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292")
SERIOUS = ("serious", "critical")


def script() -> str:
    """The library's text."""
    return AXE.text("axe.min.js")


async def check(page: Page, source: str) -> None:
    """No finding of those that keep people out."""
    await page.evaluate(source)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    told = [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]
    assert not told, f"{page.url}: " + "\n".join(told)
