"""axe-core, which finds what keeps people out of a page: `make test` fetches it into `var/`; it is never committed."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

VERSION = "4.10.3"
SHA256 = "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292"
FOLDER = Path(__file__).parents[2] / "var" / "axe"
SERIOUS = ("serious", "critical")


def script() -> str:
    """The library's text. Skips the test where it was not fetched, which CI takes for a failure."""
    file = FOLDER / f"axe-core-{VERSION}.tgz"
    if not file.exists():
        pytest.skip(f"no axe-core: make {file.relative_to(FOLDER.parents[1])}")
    packed = file.read_bytes()
    assert hashlib.sha256(packed).hexdigest() == SHA256, "not the package that was looked at"
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


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
