"""One bug through the whole pipeline, and the hidden check on every distinct candidate."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bot.contracts import Sandbox
from bot.evaluation.planting.bugs import Bug
from bot.evaluation.planting.packages import Package, write_tree
from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.publish.messages.reason import reason
from bot.publish.messages.states import in_words
from bot.records import Ballot, Candidate, Issue, Patch, Report, SandboxJob, Test
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.models import Models
from bot.solver.pipeline import solve
from bot.solver.workbench import Workbench
from tests.fakes import advance

CHECK_TIMEOUT = 30.0  # seconds; the check took at most 6 on the original
_MARKS = {True: "+", False: ".", None: "?"}
_CELLS = {mark: cell for cell, mark in _MARKS.items()}


class Told:
    """A `Progress` that says how far a bug is, where it has been silent for so many seconds."""

    def __init__(self, bug: str, say: Callable[[str], None], quiet: float = 30.0) -> None:
        self._bug = bug
        self._say = say
        self._quiet = quiet
        self._last = time.monotonic()

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last >= self._quiet:
            self._last = now
            count = f" {done}/{total}" if total else ""
            self._say(f"{self._bug}: {in_words(state)}{count}")


async def solve_bug(
    bug: Bug,
    package: Package,
    models: Models,
    solver: SolverSettings,
    folder: Path,
    say: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """The record of one bug, as it is written to the results. `folder` is made and holds the checkout."""
    began, started = time.time(), time.monotonic()
    write_tree(bug.files(package), folder / "package")
    checkout = await check_out(LocalCheckout(folder / "package"), "", folder / "checkout")
    sandbox = await open_sandbox(SandboxSettings(kind="process"), Path(checkout.root), notice=lambda _: None)
    try:
        issue = Issue(title=bug.title, body=bug.body)
        report = await solve(
            issue, Workbench(checkout, models, sandbox, solver), MemoryJournal(), Told(bug.id, say), advance
        )
        solved = time.monotonic()
        verdicts = await judge(report.verdict.ballot.candidates, bug, sandbox)
    finally:
        await sandbox.close()
    times = {"seconds": round(solved - started, 2), "judging_seconds": round(time.monotonic() - solved, 2)}
    return as_record(bug, report, verdicts) | times | {"began": round(began, 2), "ended": round(time.time(), 2)}


async def judge(candidates: Sequence[Candidate], bug: Bug, sandbox: Sandbox) -> list[bool]:
    """Whether each candidate passes the hidden check. The sandbox is over the planted tree."""

    async def passes(candidate: Candidate) -> bool:
        job = SandboxJob(changes=candidate.patch.changes, test=bug.check, timeout=CHECK_TIMEOUT)
        return (await sandbox.run(job)).passed

    return list(await asyncio.gather(*(passes(candidate) for candidate in candidates)))


def as_record(bug: Bug, report: Report, solves: Sequence[bool]) -> dict[str, Any]:
    """JSON: the bug, the ballot in short, who solves, the verdict, the cost."""
    verdict, ballot = report.verdict, report.verdict.ballot
    ends: dict[str, int] = {}
    for trajectory in report.trajectories:
        ends[trajectory.end.value] = ends.get(trajectory.end.value, 0) + 1
    return {
        "id": bug.id,
        "kind": bug.mutation.kind,
        "before": bug.mutation.before,
        "after": bug.mutation.after,
        "title": bug.title,
        "with_tests": bug.with_tests,
        "samples": len(report.trajectories),
        "ends": ends,
        "shown": [file.path for file in report.context.files],
        "candidates": [
            {
                "diff": candidate.patch.diff,
                "trajectories": candidate.trajectories,
                "disqualified": candidate.disqualified,
                "solves": solved,
            }
            for candidate, solved in zip(ballot.candidates, solves, strict=True)
        ],
        "tests": [
            {"authors": authors, "text": test.text} for test, authors in zip(ballot.tests, ballot.authors, strict=True)
        ],
        "base": "".join(_MARKS[cell] for cell in ballot.base),
        "cells": ["".join(_MARKS[cell] for cell in row) for row in ballot.cells],
        "outcome": verdict.outcome.value,
        "winner": verdict.winner,
        "reason": reason(report),
        "usage": report.usage.model_dump(),
    }


def ballot_of(record: dict[str, Any]) -> Ballot:
    """The ballot again, patches by their diffs alone: enough to count."""
    tests = [Test(path=f"test_{i}.py", text=test["text"]) for i, test in enumerate(record["tests"])]
    authors = tuple(tuple(test["authors"]) for test in record["tests"])
    return Ballot(
        candidates=tuple(
            Candidate(
                patch=Patch(changes=(), diff=candidate["diff"]),
                trajectories=tuple(candidate["trajectories"]),
                tests=tuple(t for t, who in enumerate(authors) if set(who) & set(candidate["trajectories"])),
                disqualified=candidate["disqualified"],
            )
            for candidate in record["candidates"]
        ),
        tests=tuple(tests),
        base=tuple(_CELLS[mark] for mark in record["base"]),
        cells=tuple(tuple(_CELLS[mark] for mark in row) for row in record["cells"]),
        authors=authors,
    )
