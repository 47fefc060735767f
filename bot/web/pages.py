"""The list of runs: filtered, searched, page by page."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from bot.lifecycle import ACTIVE
from bot.publish.messages.states import in_words
from bot.publish.messages.words import cut
from bot.records import money
from bot.store import STATES, RunFilter
from bot.web.site import Site

PAGE = 50  # runs
_FAR = 2**62  # beyond every id


def list_routes(site: Site) -> APIRouter:
    router = APIRouter()
    router.add_api_route("/", _List(site).index, methods=["GET"], response_model=None)
    return router


def age(moment: datetime, now: datetime | None = None) -> str:
    """`12 s`, `3 min`, `5 h`, `12 days`: since then."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            count = seconds // size
            return f"{count:,} {'day' if unit == 'days' and count == 1 else unit}"
    return f"{seconds} s"


class _List:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._states = {name: in_words(next(iter(found))) for name, found in STATES.items()} | {"active": "under way"}

    async def index(
        self,
        request: Request,
        state: str = "",
        repository: str = "",
        q: str = "",
        before: int | None = None,
        after: int | None = None,
    ) -> Response:
        site = self._site
        visitor = site.visitor(request)
        readable = await site.readable(visitor)
        asked = {"state": state if state in STATES else "", "repository": repository[:200], "q": q[:200]}
        wanted = RunFilter(
            repositories=None if readable is None else frozenset(readable),
            repository=asked["repository"],
            states=STATES.get(state, frozenset()),
            words=asked["q"],
        )
        place = {
            name: max(0, min(value, _FAR))
            for name, value in (("before", before), ("after", after))
            if value is not None
        }
        mark = await site.thread(site.store.mark)  # before: what changes meanwhile is told
        page = await site.thread(site.store.listed, wanted, limit=PAGE, **place)
        filters = {name: value for name, value in asked.items() if value}
        shown = {
            "page": page,
            "mark": mark,
            "asked": asked | {"any": bool(filters or place)},
            "query": f"{urlencode(filters)}&" if filters else "",
            "states": self._states,
            "repositories": await site.thread(site.store.repositories, readable),
            "active": ACTIVE,
            "in_words": in_words,
            "age": age,
            "cut": cut,
            "money": money,
            "priced": bool(site.settings.spending.prices),
            "currency": site.settings.spending.currency,
            "label": site.settings.label,
        }
        return await site.show(request, "runs.html", shown, visitor=visitor)
