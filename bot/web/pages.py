"""Read-only pages: the newest runs, and one run with its count.

They show runs of every repository, and Troop has no logins. So they are served to this machine alone, unless
`TROOP_PAGES=1` opens them to everybody who reaches the service; then put a proxy with authentication in front of it.
A request comes from this machine if its peer is a loopback address, its `Host` is a loopback name (against DNS
rebinding), and no header shows that it passed a proxy (whose own peer address would be loopback, too).
"""

import ipaddress
from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError

from bot.lifecycle import ACTIVE, STAGES
from bot.llm.transcript import transcript
from bot.publish.messages.states import in_words
from bot.records import Record, Report
from bot.sanitize.redact import redact_strings
from bot.settings import Settings
from bot.store import RunInfo
from bot.web.report_page import source, templates, values

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_PAGE = 50  # runs

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


R = TypeVar("R", bound=Record)


class RunReader(Protocol):
    """What the pages need of the store."""

    def runs(self, *, limit: int = ..., before: int | None = ...) -> Sequence[RunInfo]: ...

    def run(self, run_id: int) -> RunInfo | None: ...

    def report(self, run_id: int) -> str | None: ...

    def step_keys(self, run_id: int) -> Sequence[str]: ...

    def get_step(self, run_id: int, key: str) -> str | None: ...


def is_local(request: Request) -> bool:
    """Whether the request comes from this machine: by its peer, its `Host`, and without a proxy."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(request.client.host if request.client else "") and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def link(url: str | None, settings: Settings) -> str | None:
    """The URL if a page may link to it: http or https, on GitHub's own host."""
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        return None
    return url if urlsplit(url).netloc == urlsplit(settings.github_web_url).netloc else None


def routes(settings: Settings, store: RunReader) -> APIRouter:
    """The pages' routes. Handlers are plain functions: they block on the database, so they run in threads."""
    router = APIRouter()
    secrets = settings.secrets()

    def show(request: Request, template: str, **values: object) -> Response:
        text = templates.get_template(template).render(**values)
        return Response(text, media_type="text/html; charset=utf-8", headers=HEADERS)

    def check(request: Request) -> None:
        if not (settings.pages or is_local(request)):
            raise HTTPException(
                404,
                "the pages are served to this machine alone; TROOP_PAGES=1 opens them to everybody",
            )

    @router.get("/")
    def index(request: Request, before: int | None = None) -> Response:
        check(request)
        runs = store.runs(limit=_PAGE, before=before if before is None else min(before, 2**62))
        older = runs[-1].id if len(runs) == _PAGE else None
        return show(request, "runs.html", runs=runs, older=older, active=ACTIVE, in_words=in_words)

    @router.get("/runs/{run_id}")
    def one(request: Request, run_id: int) -> Response:
        check(request)
        run = store.run(run_id) if 0 < run_id < 2**62 else None
        if run is None:
            raise HTTPException(404, f"there is no run {run_id}")
        stored = _report(store.report(run_id))
        report = _without(stored, secrets) if stored else None
        return show(
            request,
            "run.html",
            run=run,
            **(values(report) if report else {"report": None}),
            in_words=in_words,
            stages=STAGES,
            active=run.state in ACTIVE,
            pull_request=link(run.pull_request_url, settings),
            issue=link(f"{settings.github_web_url}/{run.repository}/issues/{run.issue_number}", settings),
        )

    @router.get("/runs/{run_id}/trajectories/{number}")
    def trajectory(request: Request, run_id: int, number: int) -> Response:
        check(request)
        run = store.run(run_id) if 0 < run_id < 2**62 else None
        if run is None:
            raise HTTPException(404, f"there is no run {run_id}")
        return show(request, "trajectory.html", run=run, **_trajectory(store, run_id, number, secrets))

    @router.get("/style.css")
    def style() -> Response:
        headers = HEADERS | {"Cache-Control": "max-age=3600"}
        return Response(source("style.css"), media_type="text/css; charset=utf-8", headers=headers)

    return router


def _trajectory(store: RunReader, run_id: int, number: int, secrets: Collection[str]) -> dict[str, object]:
    """What the page of a trajectory shows, also while the run goes on. Raises `HTTPException` where there is none."""
    stored = transcript(f"trajectory/{number}/", store.step_keys(run_id), partial(store.get_step, run_id))
    exchanges = [_without(one, secrets) for one in stored]
    report = _report(store.report(run_id))
    found = next((one for one in report.trajectories if one.index == number), None) if report else None
    of = _without(found, secrets) if found else None  # this one alone: a whole report takes a second
    if of is None and not exchanges:
        raise HTTPException(404, f"run {run_id} has no trajectory {number}")
    return {"number": number, "trajectory": of, "exchanges": exchanges}


def _report(text: str | None) -> Report | None:
    """The stored report; None where there is none, or where it is of an incompatible version."""
    try:
        return None if text is None else Report.model_validate_json(text)
    except ValidationError:
        return None


def _without(record: R, secrets: Collection[str]) -> R:
    """The record whose strings hold no secret. The database keeps what models wrote, which resumed runs read again."""
    return type(record).model_validate(redact_strings(record.model_dump(mode="json"), secrets))
