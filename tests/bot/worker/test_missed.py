"""Deliveries that were made while nobody listened."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import ForgeError
from bot.forge import hook_deliveries
from bot.forge.hook_deliveries import HookDeliveries, HookDelivery, Recent
from bot.store import Store
from bot.webhook.decisions import Ignore
from bot.worker import missed as module
from bot.worker.missed import MissedDeliveries, missed, missed_deliveries
from tests.github.fixtures import Naps, github, github_server, settings_for
from tests.github.server import GitHubServer
from tests.patience import eventually

__all__ = ["github", "github_server"]

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


def attempt(number: int, guid: str, status: int, *, age: float = 3600.0, redelivery: bool = False) -> HookDelivery:
    at = NOW - timedelta(seconds=age)
    return HookDelivery(id=number, guid=guid, delivered_at=at, redelivery=redelivery, status_code=status)


@pytest.mark.parametrize(
    ("attempts", "wanted"),
    [
        ([attempt(1, "a", 202), attempt(2, "b", 299)], []),
        ([attempt(1, "a", 0), attempt(2, "b", 503), attempt(3, "c", 302), attempt(4, "d", 401)], [1, 2, 3, 4]),
        ([attempt(1, "a", 500), attempt(2, "a", 202, age=10, redelivery=True)], []),
        ([attempt(1, "a", 202), attempt(2, "a", 500, age=3000, redelivery=True)], []),  # somebody clicked
        ([attempt(1, "a", 500), attempt(2, "a", 500, age=599, redelivery=True)], []),
        ([attempt(1, "a", 500), attempt(2, "a", 500, age=600, redelivery=True)], [2]),
        ([attempt(1, "a", 0, age=29)], []),
        ([attempt(1, "a", 0, age=30)], [1]),
        ([attempt(9, "late", 0, age=50), attempt(3, "early", 0, age=90)], [3, 9]),
    ],
    ids=["taken", "failed", "redelivered", "taken first", "just asked", "asked", "under way", "over", "order"],
)
def test_what_was_missed(attempts: Sequence[HookDelivery], wanted: list[int]):
    found = missed(list(reversed(attempts)), NOW, between=600, under_way=30)
    assert [one.id for one in found] == wanted


async def test_all_that_nobody_took_comes_again_over_pages(
    store: Store, github: GitHubServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hook_deliveries, "PER_PAGE", 2)
    for number in range(5):
        github.webhooks.send("ping", "", {"zen": str(number)})
    sent = [one.guid for one in github.webhooks.deliveries]
    github.webhooks.deliveries[0].status = 202
    store.accept(sent[1], "issues", "labeled", Ignore(reason="the answer came too late for GitHub"))
    look = MissedDeliveries(store, HookDeliveries(settings_for(github), sleep=Naps()), under_way=-1e9)
    assert await look.look() == tuple(sent[2:])
    assert [(one.guid, one.redelivery) for one in github.webhooks.deliveries[5:]] == [(g, True) for g in sent[2:]]
    assert await look.look() == ()  # they were asked for just now


async def test_a_look_is_bounded(store: Store, github: GitHubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for number in range(3):
        github.webhooks.send("ping", "", {"zen": str(number)})
    sent = [one.guid for one in github.webhooks.deliveries]
    look = MissedDeliveries(store, HookDeliveries(settings_for(github), sleep=Naps()), under_way=-1e9)
    assert await look.look() == tuple(sent[:2])
    assert await look.look() == tuple(sent[2:])


async def test_only_an_app_has_a_list(store: Store, github: GitHubServer):
    assert missed_deliveries(settings_for(github, app_id=0), store) is None
    assert missed_deliveries(settings_for(github), store) is not None


async def test_one_trouble_is_logged_once(store: Store, caplog: pytest.LogCaptureFixture):
    class Away:
        asked = 0

        async def recent(self) -> Recent:
            self.asked += 1
            raise ForgeError("GitHub is away")

        async def ask_again(self, delivery_id: int) -> None:
            raise AssertionError("nothing was listed")

    source = Away()
    task = asyncio.create_task(MissedDeliveries(store, source, interval=0.001).run())
    with caplog.at_level(logging.WARNING, logger="bot.worker.missed"):
        await eventually(lambda: source.asked >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [one.getMessage() for one in caplog.records if one.name == "bot.worker.missed"] == [
        "missed deliveries can't be asked for: GitHub is away"
    ]


async def test_which_are_recorded(store: Store):
    store.accept("g-1", "issues", "labeled", Ignore(reason="x"))
    assert store.recorded([]) == frozenset()
    assert store.recorded([f"g-{n}" for n in range(1200)]) == {"g-1"}
