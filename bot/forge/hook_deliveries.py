"""The App's webhook deliveries as GitHub keeps them, and asking for one again.

https://docs.github.com/rest/apps/webhooks
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import requests
from github import Github

from bot.forge.api import GitHubApi, Sleep
from bot.forge.request import ask
from bot.git.waiting import now_of
from bot.records import Record
from bot.settings import Settings

PER_PAGE = 100
MAX_PAGES = 100  # of one list
KEPT_DAYS = 3.0  # that GitHub keeps deliveries


class HookDelivery(Record):
    """One attempt to deliver. A redelivery has the GUID of the first attempt."""

    id: int
    guid: str
    delivered_at: datetime
    redelivery: bool
    status_code: int  # of the answer; 0 where nobody answered

    @property
    def arrived(self) -> bool:
        return 200 <= self.status_code < 300


class Recent(Record):
    """What was delivered lately, by the clock that wrote its times: ours may be off."""

    now: datetime
    attempts: tuple[HookDelivery, ...]


class HookDeliveries:
    """Asks as the App. Methods raise as `GitHubApi.act`; the constructor raises `SettingsError` without an App."""

    def __init__(self, settings: Settings, *, sleep: Sleep = asyncio.sleep) -> None:
        self._api = GitHubApi(settings, 0, sleep=sleep)  # no installation's token is needed

    async def recent(self, days: float = KEPT_DAYS) -> Recent:
        """The attempts of that time, newest first; at most `MAX_PAGES` pages, so that the oldest may be missing."""
        found: list[HookDelivery] = []
        cursor: str | None = ""
        now: datetime | None = None
        for _ in range(MAX_PAGES):
            page, cursor, date = await self._api.act("list deliveries", lambda at=cursor: self._page(at))  # type: ignore[misc]
            now = now or datetime.fromtimestamp(now_of(date), UTC)
            first = now - timedelta(days=days)
            found += [one for one in page if one.delivered_at >= first]
            if cursor is None or not page or page[-1].delivered_at < first:
                break
        assert now is not None, "there is a first page"
        return Recent(now=now, attempts=tuple(found))

    async def ask_again(self, delivery_id: int) -> None:
        """Have GitHub deliver it once more; the answer tells nothing about how that ends."""
        path = f"/app/hook/deliveries/{delivery_id}/attempts"

        async def again() -> None:
            await self._api.as_app(lambda client: ask(client, "POST", path), writes=True)

        await self._api.act("redeliver", again)

    async def _page(self, cursor: str) -> tuple[list[HookDelivery], str | None, str]:
        """A page, the cursor of the next one, and the answer's `Date`."""
        query = {"per_page": PER_PAGE} | ({"cursor": cursor} if cursor else {})

        def page(client: Github) -> tuple[list[HookDelivery], str | None, str]:
            headers, data = client.requester.requestJsonAndCheck("GET", "/app/hook/deliveries", parameters=query)
            if not isinstance(data, list):
                raise TypeError("a list was asked for")
            return [_read(one) for one in data], _next_cursor(headers), str(headers.get("date", ""))

        return await self._api.as_app(page)


def _read(item: Mapping[str, object]) -> HookDelivery:
    return HookDelivery.model_validate({name: item[name] for name in HookDelivery.model_fields})


def _next_cursor(headers: Mapping[str, object]) -> str | None:
    """Of the header `Link`. Only the cursor is taken, so that no link leads the App's signature elsewhere."""
    for link in requests.utils.parse_header_links(str(headers.get("link", ""))):
        if link.get("rel") == "next":
            return next(iter(parse_qs(urlsplit(link["url"]).query).get("cursor", [])), None)
    return None
