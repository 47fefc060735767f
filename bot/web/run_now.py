"""A run as it is now: its head, its stages, and its trajectories as a grid that fills."""

import re
from collections.abc import Sequence

from bot.lifecycle import ACTIVE, STAGES, RunState
from bot.publish.messages.states import in_words
from bot.publish.messages.words import counted
from bot.records import Build, Record, Report, money
from bot.sanitize.redact import redact_strings
from bot.store import BUILDS, RunInfo
from bot.web.links import link
from bot.web.reading import RunReader
from bot.web.report_page import templates
from bot.web.site import Site

_OF = re.compile(r"\((\d[\d,]*) of (\d[\d,]*)\)")
_KEY = re.compile(r"model/trajectory/(\d+)/(test|edit)")
_BUILDS = 20  # layers of images whose logs a page shows
_SHOWN = 256  # trajectories of a run that is under way


class Cell(Record):
    """One trajectory: how far it is (`waits`, `test`, `edit`, `patch`, `none`), and the same in words."""

    number: int  # from 0
    kind: str
    words: str
    link: bool  # whether there is something to read


def grid(store: RunReader, run: RunInfo, report: Report | None = None) -> tuple[Cell, ...]:
    """The trajectories in their order. Blocks on the database."""
    if report is not None:
        return tuple(
            Cell(
                number=one.index,
                kind="patch" if one.patch else "none",
                words=one.end.value if one.patch else f"no fix: {one.end.value}",
                link=True,
            )
            for one in report.trajectories
        )
    calls: dict[int, int] = {}
    phase: dict[int, str] = {}
    for key in store.step_keys(run.id, "model/trajectory/"):
        if found := _KEY.match(key):
            number = int(found[1])
            calls[number] = calls.get(number, 0) + 1
            phase[number] = found[2]
    total = counts(run)[1] if run.state is RunState.TRAJECTORIES else 0
    return tuple(
        _cell(number, phase.get(number, ""), calls.get(number, 0))
        for number in range(min(_SHOWN, max(total, 1 + max(calls, default=-1))))
    )


def _cell(number: int, phase: str, calls: int) -> Cell:
    words = {"test": "writing a test", "edit": "writing a fix", "": "waiting"}[phase]
    said = f"{words}, {counted(calls, 'call')}" if calls else words
    return Cell(number=number, kind=phase or "waits", words=said, link=bool(calls))


def counts(run: RunInfo) -> tuple[int, int]:
    """How many of how many, as the progress says; (0, 0) where it does not."""
    found = _OF.search(run.progress)
    return (int(found[1].replace(",", "")), int(found[2].replace(",", ""))) if found else (0, 0)


def run_values(site: Site, run: RunInfo, cells: tuple[Cell, ...], *, has_report: bool) -> dict[str, object]:
    """What the fragments need."""
    settings = site.settings
    done, total = counts(run)
    return {
        "run": run,
        "cells": cells,
        "done": done,
        "total": total,
        "has_report": has_report,
        "in_words": in_words,
        "stages": STAGES,
        "active": run.state in ACTIVE,
        "cost": money(run.cost, settings.spending.currency) if run.cost else "",
        "pull_request": link(run.pull_request_url, settings),
        "issue": link(f"{settings.github_web_url}/{run.repository}/issues/{run.issue_number}", settings),
    }


def builds_of(site: Site, run_ids: Sequence[int]) -> list[tuple[int, Build]]:
    """What these runs built of the image for the tests, by the run's id, the newest first. Blocks on the database."""
    found = []
    for run_id, payload in site.store.steps_of(run_ids, BUILDS, _BUILDS):
        kept = redact_strings(Build.model_validate_json(payload).model_dump(mode="json"), site.secrets)
        found.append((run_id, Build.model_validate(kept)))
    return found


def run_fragments(site: Site, run: RunInfo, cells: tuple[Cell, ...]) -> tuple[str, ...]:
    """The parts of a run's page that change while it goes on."""
    values = run_values(site, run, cells, has_report=False)
    return tuple(templates.get_template(name).render(values).strip() for name in ("run_head.html", "run_live.html"))
