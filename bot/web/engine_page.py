"""The engine's numbers, the queue, and the switch that pauses Troop, for the machine's owner."""

import asyncio
import logging
import time
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from bot.publish.messages.states import in_words
from bot.records import Record
from bot.settings import Settings
from bot.web.actions import RunWriter
from bot.web.sessions import Visitor
from bot.web.site import Site

log = logging.getLogger(__name__)

_TIMEOUT = 3.0  # seconds
_PREFIX = "troop_engine_"
_LARGEST = 2_000_000  # bytes of metrics


class Engine(Record):
    """What `/metrics` says. `numbers` by name without its prefix; `rates`: tokens a second since the last look."""

    numbers: dict[str, float] = Field(default_factory=dict)
    rates: dict[str, float] = Field(default_factory=dict)
    trouble: str = ""


def engine_routes(site: Site, store: RunWriter) -> APIRouter:
    router = APIRouter()
    page = _EnginePage(site, store)
    router.add_api_route("/engine", page.show, methods=["GET"], response_model=None)
    router.add_api_route("/engine/{switch}", page.switch, methods=["POST"], response_model=None)
    return router


class _EnginePage:
    def __init__(self, site: Site, store: RunWriter) -> None:
        self._site = site
        self._store = store
        self._last: tuple[float, dict[str, float]] | None = None
        self._lock = asyncio.Lock()

    async def show(self, request: Request) -> Response:
        visitor = self._owner(request)
        site = self._site
        async with self._lock:
            engine = await self._engine()
        counts = await site.thread(self._store.counts)
        shown = {
            "engine": engine,
            "counts": {in_words(state): count for state, count in counts.items() if count},
            "paused": await site.thread(self._store.paused),
            "by_setting": site.settings.paused,
        }
        return await site.show(request, "engine.html", shown, visitor=visitor)

    async def switch(self, request: Request, switch: str) -> Response:
        visitor = self._owner(request)
        form = await self._site.form(request, visitor)
        if switch == "pause":
            await self._site.thread(self._store.pause, form["reason"][:300], visitor.name)
        elif switch == "resume":
            await self._site.thread(self._store.resume)
        else:
            raise HTTPException(404, "there is no such switch")
        log.info("page action=%s by=%s", switch, visitor.name)
        return RedirectResponse("/engine", 303)

    def _owner(self, request: Request) -> Visitor:
        visitor = self._site.visitor(request)
        if not visitor.admin:
            raise HTTPException(404, "there is no such page, or it is for the machine's owner alone")
        return visitor

    async def _engine(self) -> Engine:
        try:
            numbers = await metrics_of(self._site.settings)
        except (httpx.HTTPError, ValueError) as error:
            return Engine(trouble=f"The engine's numbers can't be read ({type(error).__name__}).")
        if not numbers:
            return Engine(trouble="The endpoint is not Troop's own engine, or none is set: it has no such numbers.")
        now, rates = time.monotonic(), {}
        if self._last is not None and now - self._last[0] > 0.5:
            then, before = self._last
            for name in ("tokens_generated_total", "tokens_computed_total"):
                rates[name] = max(0.0, numbers.get(name, 0.0) - before.get(name, 0.0)) / (now - then)
        self._last = (now, numbers)
        return Engine(numbers=numbers, rates=rates)


async def metrics_of(settings: Settings) -> dict[str, float]:
    """The engine's numbers by name; {} where the endpoint has none. Raises `httpx.HTTPError` and `ValueError`."""
    parts = urlsplit(settings.main.base_url)
    if not parts.scheme:
        return {}
    async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
        answer = await client.get(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/metrics")
    if answer.status_code != 200 or len(answer.content) > _LARGEST:
        return {}
    return {
        sample.name.removeprefix(_PREFIX): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith(_PREFIX) and not sample.labels
    }
