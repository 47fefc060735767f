import importlib.metadata

import pytest

from bot.records import bundle_of
from bot.version import VERSION
from tests.bot.sample import report


def test_a_run_is_published_while_the_package_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install --upgrade` does it beneath a worker: for a moment no package has that name."""

    def gone(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    assert bundle_of(report()).troop == VERSION
