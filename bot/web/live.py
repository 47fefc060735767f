"""Pages that change by themselves: server-sent events, which a few lines of our own JavaScript carry into the page.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from bot.errors import TroopError
from bot.lifecycle import ACTIVE
from bot.records import Record
from bot.web.run_now import grid, run_fragments
from bot.web.sessions import Visitor
from bot.web.site import Site

SECONDS = 1.0  # between two looks at what many watch
MOST = 200  # connections
MOST_OF_ONE = 12  # of one person, however often they sign in
_HEARTBEAT = 15.0  # seconds; proxies close what is silent for long, and so does the page


class Seen(Record):
    """What is to be seen now. `fragments`: elements with an id, as HTML; else `mark` says that something changed."""

    mark: str
    fragments: tuple[str, ...] = ()
    ended: bool = False


def live_routes(site: Site) -> APIRouter:
    router = APIRouter()
    live = _Live(site)
    for path, handler in (
        ("/events", live.list),
        ("/runs/{run_id}/events", live.run),
        ("/runs/{run_id}/trajectories/{number}/events", live.trajectory),
    ):
        router.add_api_route(path, handler, methods=["GET"], response_model=None)
    return router


class _Live:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._open: Counter[str] = Counter()
        self._kept: dict[str, tuple[float, Seen]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def list(self, request: Request, seen: str = "") -> Response:
        visitor = self._site.visitor(request)
        return self._stream(visitor, None, "list", self._look_at_list, seen)

    async def run(self, request: Request, run_id: int) -> Response:
        visitor = self._site.visitor(request)
        run = await self._site.run(visitor, run_id)
        return self._stream(visitor, run.repository, f"run/{run_id}", lambda: self._look_at_run(run_id), "")

    async def trajectory(self, request: Request, run_id: int, number: int, seen: str = "") -> Response:
        visitor = self._site.visitor(request)
        run = await self._site.run(visitor, run_id)

        def look() -> Seen:
            now = self._site.store.run(run_id)
            mark = trajectory_mark(self._site, run_id, number)
            return Seen(mark=mark, ended=now is None or now.state not in ACTIVE)

        return self._stream(visitor, run.repository, f"run/{run_id}/{number}", look, seen)

    # -- looking, in threads

    def _look_at_list(self) -> Seen:
        return Seen(mark=self._site.store.mark())

    def _look_at_run(self, run_id: int) -> Seen:
        run = self._site.store.run(run_id)
        if run is None:
            return Seen(mark="", ended=True)
        fragments = run_fragments(self._site, run, grid(self._site.store, run))
        mark = hashlib.sha256("\0".join(fragments).encode()).hexdigest()
        return Seen(mark=mark, fragments=fragments, ended=run.state not in ACTIVE)

    # -- telling

    def _stream(
        self, visitor: Visitor, repository: str | None, key: str, look: Callable[[], Seen], seen: str
    ) -> Response:
        """Raises `HTTPException` (503) where too many watch."""
        person = visitor.login or visitor.session
        if self._open.total() >= MOST or self._open[person] >= MOST_OF_ONE:
            raise HTTPException(503, "too many pages are watched; this one is looked at again in a while")
        self._open[person] += 1  # here, since what is streamed begins later
        headers = {"X-Accel-Buffering": "no"}
        told = self._told(visitor, repository, key, look, seen)
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)

    async def _told(
        self, visitor: Visitor, repository: str | None, key: str, look: Callable[[], Seen], seen: str
    ) -> AsyncIterator[str]:
        try:
            yield _event("beat", "")
            spoken = time.monotonic()
            while not self._site.ending() and await self._may(visitor, repository):
                now = await self._look(key, look)
                if now.mark != seen:
                    seen, spoken = now.mark, time.monotonic()
                    yield _event("fragments", json.dumps(now.fragments)) if now.fragments else _event("changed", "")
                if now.ended:
                    yield _event("changed", "") + _event("end", "")
                    return
                if time.monotonic() - spoken > _HEARTBEAT:
                    spoken = time.monotonic()
                    yield _event("beat", "")
                await asyncio.sleep(SECONDS)
        except TroopError:
            return  # the browser connects again, and is told then
        finally:
            self._open[visitor.login or visitor.session] -= 1
            self._open += Counter()  # drops those at 0

    async def _may(self, visitor: Visitor, repository: str | None) -> bool:
        if visitor.until <= time.time():
            return False
        return repository is None or (await self._site.access(visitor, repository)).read

    async def _look(self, key: str, look: Callable[[], Seen]) -> Seen:
        """What is to be seen, looked at once in a while however many watch."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is None or time.monotonic() - kept[0] >= SECONDS:
                kept = self._kept[key] = (time.monotonic(), await self._site.thread(look))
                self._forget()
            return kept[1]

    def _forget(self) -> None:
        old = time.monotonic() - 60.0
        if len(self._kept) > MOST:
            self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > old}
            self._locks = {key: lock for key, lock in self._locks.items() if key in self._kept or lock.locked()}


def trajectory_mark(site: Site, run_id: int, number: int) -> str:
    """Changes with each call that the trajectory finishes."""
    return str(len(site.store.step_keys(run_id, f"model/trajectory/{number}/")))


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
