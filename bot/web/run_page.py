"""The page of a run: what it came to and why; its candidates side by side; its trajectories; the whole as one file."""

from collections import OrderedDict
from collections.abc import Collection
from functools import partial
from threading import Lock
from typing import TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from markupsafe import Markup
from pydantic import ValidationError

from bot.lifecycle import ACTIVE
from bot.llm.transcript import Exchange, transcript
from bot.records import CommandName, Record, Report
from bot.sanitize.redact import redact_strings
from bot.web.actions import nonce, offered
from bot.web.live import trajectory_mark
from bot.web.pages import age
from bot.web.reading import RunReader
from bot.web.report_page import standalone, templates, values
from bot.web.run_now import builds_of, grid, run_values
from bot.web.site import Site
from bot.webhook.slash_command import MAX_WORDS

KEPT = 24  # counts of ended runs, as HTML: making one of 64 by 64 takes longer than all else

R = TypeVar("R", bound=Record)


class Count(Record):
    """What the page needs of a report that was looked at before."""

    html: str
    others: tuple[int, ...]  # numbers of the candidates beside the winner
    trajectories: int


def run_routes(site: Site) -> APIRouter:
    router = APIRouter()
    pages = _RunPages(site)
    for path, handler in (
        ("/runs/{run_id}", pages.one),
        ("/runs/{run_id}/compare", pages.compare),
        ("/runs/{run_id}/report.json", pages.as_json),
        ("/runs/{run_id}/report.html", pages.as_html),
        ("/runs/{run_id}/trajectories/{number}", pages.trajectory),
    ):
        router.add_api_route(path, handler, methods=["GET"], response_model=None)
    return router


class _RunPages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._counts: OrderedDict[int, Count] = OrderedDict()
        self._lock = Lock()

    async def one(self, request: Request, run_id: int, done: str = "") -> Response:
        site = self._site
        visitor = site.visitor(request)
        run = await site.run(visitor, run_id)
        active = run.state in ACTIVE
        count = None if active else await self._counted(run_id)
        cells = await site.thread(grid, site.store, run) if active else ()
        shown = run_values(site, run, cells, has_report=count is not None) | {
            "count": Markup(count.html) if count else "",  # noqa: S704 - of our own template
            "asked_for": done if done in set(CommandName) else "",
            "may_act": (await site.access(visitor, run.repository)).write,
            "offered": offered(run, counted=count is not None, others=count is not None and bool(count.others)),
            "others": count.others if count else (),
            "nonce": nonce(),
            "builds": await site.thread(builds_of, site, [run_id]),
            "age": age,
            "most_words": MAX_WORDS,
            "most_more": site.settings.solver.trajectories,
        }
        return await site.show(request, "run.html", shown, visitor=visitor)

    async def _counted(self, run_id: int) -> Count | None:
        """The count of an ended run, which never changes."""
        return self._known(run_id) or await self._site.compute(self._count, run_id)

    def _known(self, run_id: int) -> Count | None:
        with self._lock:
            if run_id in self._counts:
                self._counts.move_to_end(run_id)
            return self._counts.get(run_id)

    def _count(self, run_id: int) -> Count | None:
        """Blocks."""
        if (known := self._known(run_id)) is not None:  # made while this waited
            return known
        report = _shown_report(self._site.store, run_id, self._site.secrets)
        if report is None:
            return None
        verdict = report.verdict
        html = templates.get_template("run_count.html").render(values(report), place=f"/runs/{run_id}/")
        others = tuple(verdict.number(s.candidate) for s in verdict.standings if s.candidate != verdict.winner)
        count = Count(html=html, others=others, trajectories=len(report.trajectories))
        with self._lock:
            self._counts[run_id] = count
            while len(self._counts) > KEPT:
                self._counts.popitem(last=False)
        return count

    async def compare(self, request: Request, run_id: int, a: int = 1, b: int = 2) -> Response:
        """Two candidates side by side."""
        site = self._site
        visitor = site.visitor(request)
        run = await site.run(visitor, run_id)
        report = await self._report(run_id)
        chosen = [report.verdict.candidate(number) for number in (a, b)]
        if None in chosen:
            raise HTTPException(404, f"run {run_id} has no such candidates")
        shown = {"run": run, "report": report, "pair": tuple(zip((a, b), chosen, strict=True)), "a": a, "b": b}
        return await site.show(request, "compare.html", shown, visitor=visitor)

    async def as_json(self, request: Request, run_id: int) -> Response:
        """The report, and what the store knows of the run."""
        site = self._site
        run = await site.run(site.visitor(request), run_id)
        report = await self._report(run_id)
        text = await site.compute(lambda: f'{{"run":{run.model_dump_json()},"report":{report.model_dump_json()}}}')
        return _file(text, f"run-{run_id}.json", "application/json")

    async def as_html(self, request: Request, run_id: int) -> Response:
        """One file with everything in it, as `troop solve --report` writes it."""
        site = self._site
        await site.run(site.visitor(request), run_id)
        report = await self._report(run_id)

        def made() -> str:
            names = [f"trajectory-{one.index}" for one in report.trajectories] + ["selection"]
            return standalone(report, {name: self._exchanges(run_id, f"{name.replace('-', '/')}/") for name in names})

        return _file(await site.thread(made), f"run-{run_id}.html", "text/html; charset=utf-8")

    async def trajectory(self, request: Request, run_id: int, number: int) -> Response:
        site = self._site
        visitor = site.visitor(request)
        run = await site.run(visitor, run_id)
        active = run.state in ACTIVE
        shown = await site.compute(self._trajectory, run_id, number)
        shown |= {"run": run, "active": active}
        if active:
            shown["mark"] = await site.thread(trajectory_mark, site, run_id, number)
        return await site.show(request, "trajectory.html", shown, visitor=visitor)

    async def _report(self, run_id: int) -> Report:
        """Raises `HTTPException` (404)."""
        report = await self._site.compute(_shown_report, self._site.store, run_id, self._site.secrets)
        if report is None:
            raise HTTPException(404, f"run {run_id} has no count")
        return report

    def _trajectory(self, run_id: int, number: int) -> dict[str, object]:
        """What its page shows, also while the run goes on. Raises `HTTPException` where there is none. Blocks."""
        exchanges = self._exchanges(run_id, f"trajectory/{number}/")
        report = _report(self._site.store.report(run_id))
        found = next((one for one in report.trajectories if one.index == number), None) if report else None
        of = _without(found, self._site.secrets) if found else None  # this one alone: a whole report takes a second
        if of is None and not exchanges:
            raise HTTPException(404, f"run {run_id} has no trajectory {number}")
        return {"number": number, "trajectory": of, "exchanges": exchanges}

    def _exchanges(self, run_id: int, name: str) -> tuple[Exchange, ...]:
        store = self._site.store
        stored = transcript(name, store.step_keys(run_id, f"model/{name}"), partial(store.get_step, run_id))
        return tuple(_without(one, self._site.secrets) for one in stored)


def _file(text: str, name: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _shown_report(store: RunReader, run_id: int, secrets: Collection[str]) -> Report | None:
    stored = _report(store.report(run_id))
    return _without(stored, secrets) if stored else None


def _report(text: str | None) -> Report | None:
    """The stored report; None where there is none, or where it is of an incompatible version."""
    try:
        return None if text is None else Report.model_validate_json(text)
    except ValidationError:
        return None


def _without(record: R, secrets: Collection[str]) -> R:
    """The record whose strings hold no secret: of earlier versions, or set as one since."""
    return type(record).model_validate(redact_strings(record.model_dump(mode="json"), secrets))
