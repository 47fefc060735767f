"""The pages of runs and of their trajectories."""

from collections.abc import Collection
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError

from bot.lifecycle import ACTIVE, STAGES
from bot.llm.transcript import transcript
from bot.publish.messages.states import in_words
from bot.records import CommandName, Record, Report
from bot.sanitize.redact import redact_strings
from bot.settings import Settings
from bot.web.actions import nonce, offered
from bot.web.reading import RunReader
from bot.web.report_page import values
from bot.web.site import Site

_PAGE = 50  # runs

R = TypeVar("R", bound=Record)


def link(url: str | None, settings: Settings) -> str | None:
    """The URL if a page may link to it: http or https, on GitHub's own host."""
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        return None
    return url if urlsplit(url).netloc == urlsplit(settings.github_web_url).netloc else None


def page_routes(site: Site) -> APIRouter:
    router = APIRouter()
    pages = _RunPages(site)
    for path, handler in (
        ("/", pages.index),
        ("/runs/{run_id}", pages.one),
        ("/runs/{run_id}/trajectories/{number}", pages.trajectory),
    ):
        router.add_api_route(path, handler, methods=["GET"], response_model=None)
    return router


class _RunPages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def index(self, request: Request, before: int | None = None) -> Response:
        site = self._site
        visitor = site.visitor(request)
        readable = await site.readable(visitor)
        page = before if before is None else min(before, 2**62)
        runs = await site.thread(site.store.runs, limit=_PAGE, before=page, repositories=readable)
        older = runs[-1].id if len(runs) == _PAGE else None
        shown = {"runs": runs, "older": older, "active": ACTIVE, "in_words": in_words}
        return await site.show(request, "runs.html", shown, visitor=visitor)

    async def one(self, request: Request, run_id: int, done: str = "") -> Response:
        site = self._site
        visitor = site.visitor(request)
        run = await site.run(visitor, run_id)
        report = await site.thread(_shown_report, site.store, run_id, site.secrets)
        settings = site.settings
        shown = (values(report) if report else {"report": None}) | {
            "run": run,
            "in_words": in_words,
            "stages": STAGES,
            "active": run.state in ACTIVE,
            "done": done if done in set(CommandName) else "",
            "may_act": not visitor.admin and (await site.access(visitor, run.repository)).write,
            "offered": offered(run, others=report is not None and _has_others(report)),
            "nonce": nonce(),
            "pull_request": link(run.pull_request_url, settings),
            "issue": link(f"{settings.github_web_url}/{run.repository}/issues/{run.issue_number}", settings),
        }
        return await site.show(request, "run.html", shown, visitor=visitor)

    async def trajectory(self, request: Request, run_id: int, number: int) -> Response:
        site = self._site
        visitor = site.visitor(request)
        run = await site.run(visitor, run_id)
        shown = await site.thread(_trajectory, site.store, run_id, number, site.secrets)
        return await site.show(request, "trajectory.html", shown | {"run": run}, visitor=visitor)


def _has_others(report: Report) -> bool:
    """Whether there is a candidate beside the winner."""
    return any(standing.candidate != report.verdict.winner for standing in report.verdict.standings)


def _shown_report(store: RunReader, run_id: int, secrets: Collection[str]) -> Report | None:
    stored = _report(store.report(run_id))
    return _without(stored, secrets) if stored else None


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
    """The record whose strings hold no secret: of earlier versions, or set as one since."""
    return type(record).model_validate(redact_strings(record.model_dump(mode="json"), secrets))
