"""The vote matrix: every final test on every distinct candidate and on the base commit.

Each pair runs once, but a test that fails on the base commit runs there once more: a vote rests on that failure, and a
test may fail by chance, or since the machine is busy.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bot.errors import SandboxError
from bot.lifecycle import RunState
from bot.records import (
    Ballot,
    Candidate,
    Ending,
    Execution,
    External,
    FileChange,
    Patch,
    Revision,
    SandboxJob,
    Test,
    Trajectory,
    Verdict,
)
from bot.solver.harness import Harness, attempt
from bot.tasks import together

IN_FLIGHT = 128  # jobs handed to the sandbox at once; the sandbox itself limits how many run
GIVE_UP = 20  # jobs that the sandbox may fail at before it must have run a single one
# Output that is kept of failing tests, in characters. On a candidate the last lines say what failed; on the base commit
# some runtimes print the error above a long stack trace.
BASE_TAIL = 2_000
CELL_TAIL = 400
KEPT_LINES = 30
KEPT = 200_000  # of all executions together; beyond it only endings and exit codes are kept

Note = Callable[[Execution | None], None]


@dataclass(frozen=True)
class Earlier:
    """What a revision begins with: its candidates change the reviewed state, and the first run's base still counts."""

    revision: Revision
    base_commit: str
    base: tuple[FileChange, ...]  # what turns the reviewed state into the base commit
    tests: tuple[Test, ...]  # that voted before, and do so again


def tests_of(verdict: Verdict) -> tuple[Test, ...]:
    """The tests of a count that reproduce the bug, and so vote on its revisions, too. Pure."""
    return tuple(verdict.ballot.tests[t] for t in verdict.ballot.voting)


def gather(
    trajectories: Sequence[Trajectory],
    external: Sequence[External],
    disqualified: Callable[[Sequence[FileChange]], str],
    earlier: Sequence[Test] = (),
) -> Ballot:
    """The ballot before any test ran: equal patches are one candidate, equal tests one test. Pure.

    A trajectory's test takes part even where the trajectory has no edit. `disqualified` says why changes are
    disqualified, or "". `earlier`: tests of an earlier run, which no trajectory of this one wrote.
    """
    patches: dict[str, tuple[Patch, list[int]]] = {}
    tests: dict[str, tuple[Test, list[int]]] = {test.id: (test, []) for test in earlier}
    for trajectory in sorted(trajectories, key=lambda t: t.index):
        if trajectory.test is not None:
            tests.setdefault(trajectory.test.id, (trajectory.test, []))[1].append(trajectory.index)
        if trajectory.patch is not None and trajectory.patch.changes:
            patches.setdefault(trajectory.patch.id, (trajectory.patch, []))[1].append(trajectory.index)
    sources: dict[str, list[str]] = {}
    for other in external:
        if other.patch.changes:
            patches.setdefault(other.patch.id, (other.patch, []))
            sources.setdefault(other.patch.id, []).append(other.source)
    candidates = []
    for patch, indices in patches.values():
        written = tuple(t for t, (_, authors) in enumerate(tests.values()) if not set(authors).isdisjoint(indices))
        candidates.append(
            Candidate(
                patch=patch,
                trajectories=tuple(indices),
                tests=written,
                disqualified=disqualified(patch.changes),
                sources=tuple(sources.get(patch.id, ())),
            )
        )
    return Ballot(
        candidates=tuple(candidates),
        tests=tuple(test for test, _ in tests.values()),
        base=(None,) * len(tests),
        cells=((None,) * len(tests),) * len(candidates),
        authors=tuple(tuple(authors) for _, authors in tests.values()),
    )


async def fill_matrix(
    trajectories: Sequence[Trajectory],
    external: Sequence[External],
    harness: Harness,
    disqualified: Callable[[Sequence[FileChange]], str],
    earlier: Earlier | None = None,
) -> Ballot:
    """Run every pair and note what it did.

    A cell is True for exit code 0. It is False for any other end, a time-out, too little memory or a faked success
    included. It is None where nothing is known: the test's command is not there, the sandbox failed at it, or
    `settings.matrix_seconds` were over. The tests run on the base commit first, and those that fail there are the first
    to run on the candidates, so that a time limit cuts off the least useful ones; one that fails and then passes there
    has no vote (`Ballot.unsteady`). In a revision (`earlier`) the sandbox
    holds the reviewed state: then the tests run on the base commit and on that one.

    Raises `SandboxUnavailable`, and `SandboxError` where the sandbox runs nothing at all.
    """
    ballot = gather(trajectories, external, disqualified, () if earlier is None else earlier.tests)
    return await fill(ballot, harness, None if earlier is None else earlier.base)


async def fill(ballot: Ballot, harness: Harness, to_base: tuple[FileChange, ...] | None = None) -> Ballot:
    """`fill_matrix` for candidates and tests that are there.

    `to_base`: in a revision, what turns the reviewed state into the base commit.
    """
    total = len(ballot.tests) * (len(ballot.candidates) + (1 if to_base is None else 2))
    filler = _Filler(harness, total)

    base: list[Execution | None] = [None] * len(ballot.tests)
    reviewed: list[Execution | None] = [None] * len(ballot.tests)
    cells: list[list[Execution | None]] = [[None] * len(ballot.tests) for _ in ballot.candidates]
    kept: dict[Execution, Execution] = {}  # one object for equal executions

    def note(row: list[Execution | None], test: int, execution: Execution | None) -> None:
        if execution is not None:
            short = ending_of(execution, BASE_TAIL if row is base else CELL_TAIL)
            row[test] = kept.setdefault(short, short)

    def note_again(row: list[Execution | None], test: int, execution: Execution | None) -> None:
        if execution is not None and execution.passed:
            unsteady.add(test)
            note(row, test, execution)

    unsteady = set(ballot.unsteady)
    before = [((), base)] if to_base is None else [(to_base, base), ((), reviewed)]

    def on_base() -> Iterator[tuple[SandboxJob, Note]]:
        for t, test in enumerate(ballot.tests):
            for changes, row in before:
                yield filler.job(changes, test), functools.partial(note, row, t)

    def on_base_again() -> Iterator[tuple[SandboxJob, Note]]:
        for changes, row in before:
            for t in [t for t, execution in enumerate(row) if _passed(execution) is False]:
                yield filler.job(changes, ballot.tests[t], again=1), functools.partial(note_again, row, t)

    def _failed(test: int) -> bool:
        return False in (_passed(base[test]), _passed(reviewed[test]))

    def on_candidates() -> Iterator[tuple[SandboxJob, Note]]:
        rank = {False: 0, True: 1, None: 2}
        verdicts = [False if _failed(t) else _passed(base[t]) for t in range(len(base))]
        tests = sorted(range(len(ballot.tests)), key=lambda t: (rank[verdicts[t]], -len(ballot.authors[t]), t))
        order = sorted(range(len(cells)), key=lambda c: (-ballot.candidates[c].samples, c))
        for t in tests:
            for c in order:
                job = filler.job(ballot.candidates[c].patch.changes, ballot.tests[t])
                yield job, functools.partial(note, cells[c], t)

    await filler.run(on_base())
    await filler.run(on_base_again(), more=sum(_passed(one) is False for _, row in before for one in row))
    await filler.run(on_candidates())
    filled = _filled(ballot, base, cells).model_copy(update={"unsteady": tuple(sorted(unsteady))})
    if to_base is None:
        return filled
    return filled.model_copy(update={"reviewed": tuple(_passed(execution) for execution in reviewed)})


def ending_of(execution: Execution, characters: int) -> Execution:
    """The execution with so many characters of the beginning and end of its output; with none where it passed."""
    shown = "" if execution.passed else execution.excerpt(KEPT_LINES, characters)
    return execution.model_copy(update={"output": shown, "truncated": False, "seconds": 0.0, "results": None})


def _passed(execution: Execution | None) -> bool | None:
    if execution is None or execution.ending is Ending.UNAVAILABLE:
        return None
    return execution.passed


def _filled(ballot: Ballot, base: Sequence[Execution | None], cells: Sequence[Sequence[Execution | None]]) -> Ballot:
    """The ballot with these executions, equal ones shared, and no more output than `KEPT` characters.

    Indices go by place, not by which test ended first: a resumed run has the same ballot.
    """
    found: dict[Execution, int] = {}
    left = KEPT

    def index(execution: Execution | None) -> int | None:
        nonlocal left
        if execution is None:
            return None
        if execution not in found and len(execution.output) > left:
            execution = execution.model_copy(update={"output": ""})
        if execution not in found:
            left -= len(execution.output)
            found[execution] = len(found)
        return found[execution]

    base_executions = tuple(index(execution) for execution in base)
    cell_executions = tuple(tuple(index(execution) for execution in row) for row in cells)
    return ballot.model_copy(
        update={
            "base": tuple(_passed(execution) for execution in base),
            "cells": tuple(tuple(_passed(execution) for execution in row) for row in cells),
            "executions": tuple(found),
            "base_executions": base_executions,
            "cell_executions": cell_executions,
        }
    )


class _Filler:
    """Feeds jobs to the sandbox, a bounded number at once, and counts."""

    def __init__(self, harness: Harness, total: int) -> None:
        self._harness = harness
        seconds = harness.settings.matrix_seconds
        self._deadline = time.monotonic() + seconds if seconds else None
        self._total = total
        self._done = 0
        self._ran = 0
        self._failed = 0
        self._late = 0
        harness.progress.update(RunState.MATRIX, 0, total)

    def job(self, changes: tuple[FileChange, ...], test: Test, again: int = 0) -> SandboxJob:
        return SandboxJob(changes=changes, test=test, timeout=self._harness.settings.test_timeout, again=again)

    async def run(self, pairs: Iterator[tuple[SandboxJob, Note]], more: int = 0) -> None:
        """Run all of them. Workers share the iterator, so that a million pairs need no million tasks.

        `more`: how many of them the total does not hold yet.
        """
        self._total += more

        async def work() -> None:
            for job, note in pairs:
                note(await self._one(job))
                self._done += 1
                words = f"{self._late} left out: the time limit is over" if self._late else ""
                self._harness.progress.update(RunState.MATRIX, self._done, self._total, words)

        await together(work() for _ in range(IN_FLIGHT))

    async def _one(self, job: SandboxJob) -> Execution | None:
        """Run one job; None where nothing is known."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._late += 1
            return None
        found = await attempt(self._harness.sandbox, job)
        if isinstance(found, SandboxError):
            self._failed += 1
            if self._ran == 0 and self._failed >= min(GIVE_UP, self._total):
                raise found
            return None
        self._ran += 1
        return found
