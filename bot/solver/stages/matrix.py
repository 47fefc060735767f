"""The vote matrix: every final test on every distinct candidate and on the untouched repository, each pair once."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from bot.contracts import Progress, Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.records import Ballot, Candidate, Ending, FileChange, Patch, SandboxJob, Test, Trajectory
from bot.settings import SolverSettings

IN_FLIGHT = 128  # jobs handed to the sandbox at once; how many really run is the sandbox's own affair
GIVE_UP = 20  # jobs that the sandbox may fail at before it must have run a single one


def gather(
    trajectories: Sequence[Trajectory],
    external: Sequence[Patch],
    disqualified: Callable[[Sequence[FileChange]], str],
) -> Ballot:
    """The ballot before any test ran: equal patches are one candidate, equal tests one test. Pure.

    A trajectory's test takes part even where the trajectory has no edit. `disqualified` says why changes are
    disqualified, or "".
    """
    patches: dict[str, tuple[Patch, list[int]]] = {}
    tests: dict[str, tuple[Test, list[int]]] = {}
    for trajectory in sorted(trajectories, key=lambda t: t.index):
        if trajectory.test is not None:
            tests.setdefault(trajectory.test.id, (trajectory.test, []))[1].append(trajectory.index)
        if trajectory.patch is not None and trajectory.patch.changes:
            patches.setdefault(trajectory.patch.id, (trajectory.patch, []))[1].append(trajectory.index)
    for patch in external:
        if patch.changes:
            patches.setdefault(patch.id, (patch, []))
    candidates = []
    for patch, indices in patches.values():
        written = tuple(t for t, (_, authors) in enumerate(tests.values()) if not set(authors).isdisjoint(indices))
        candidates.append(
            Candidate(
                patch=patch,
                trajectories=tuple(indices),
                tests=written,
                disqualified=disqualified(patch.changes),
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
    external: Sequence[Patch],
    sandbox: Sandbox,
    settings: SolverSettings,
    disqualified: Callable[[Sequence[FileChange]], str],
    progress: Progress,
) -> Ballot:
    """Run every pair and note who passes.

    A cell is True for exit code 0. It is False for any other end of the run, a time-out, too little memory or a
    faked success included: whoever hangs does not pass. It is None where nothing can be said: the test's command is
    not there, the sandbox failed at it again and again, or `settings.matrix_seconds` were over. The tests run on the
    untouched repository first, and those that fail there are the first to run on the candidates, so that a limit cuts
    off the least telling ones.

    Raises `SandboxUnavailable`, and `SandboxError` where the sandbox runs nothing at all.
    """
    ballot = gather(trajectories, external, disqualified)
    total = len(ballot.tests) * (len(ballot.candidates) + 1)
    deadline = time.monotonic() + settings.matrix_seconds if settings.matrix_seconds else None
    filler = _Filler(sandbox, settings.test_timeout, deadline, progress, total)
    progress.update(RunState.MATRIX, 0, total)

    base: list[bool | None] = [None] * len(ballot.tests)
    cells: list[list[bool | None]] = [[None] * len(ballot.tests) for _ in ballot.candidates]

    def on_base() -> Iterator[tuple[SandboxJob, Callable[[bool | None], None]]]:
        for t, test in enumerate(ballot.tests):
            yield filler.job((), test), lambda passed, t=t: base.__setitem__(t, passed)  # type: ignore[misc]

    def on_candidates() -> Iterator[tuple[SandboxJob, Callable[[bool | None], None]]]:
        rank = {False: 0, True: 1, None: 2}
        tests = sorted(range(len(ballot.tests)), key=lambda t: (rank[base[t]], -len(ballot.authors[t]), t))
        order = sorted(range(len(cells)), key=lambda c: (-ballot.candidates[c].samples, c))
        for t in tests:
            for c in order:
                job = filler.job(ballot.candidates[c].patch.changes, ballot.tests[t])
                yield job, lambda passed, c=c, t=t: cells[c].__setitem__(t, passed)  # type: ignore[misc]

    await filler.run(on_base())
    await filler.run(on_candidates())
    return ballot.model_copy(update={"base": tuple(base), "cells": tuple(tuple(row) for row in cells)})


class _Filler:
    """Feeds jobs to the sandbox, a bounded number at once, and counts."""

    def __init__(
        self, sandbox: Sandbox, timeout: float, deadline: float | None, progress: Progress, total: int
    ) -> None:
        self._sandbox = sandbox
        self._timeout = timeout
        self._deadline = deadline
        self._progress = progress
        self._total = total
        self._done = 0
        self._ran = 0
        self._failed = 0
        self._late = 0

    def job(self, changes: tuple[FileChange, ...], test: Test) -> SandboxJob:
        return SandboxJob(changes=changes, test=test, timeout=self._timeout)

    async def run(self, pairs: Iterator[tuple[SandboxJob, Callable[[bool | None], None]]]) -> None:
        """All of them. Workers share the iterator, so that a million pairs need no million tasks."""

        async def work() -> None:
            for job, note in pairs:
                note(await self._one(job))
                self._done += 1
                words = f"{self._late} left out: the time is up" if self._late else ""
                self._progress.update(RunState.MATRIX, self._done, self._total, words)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # callers catch a `SandboxError`, not a group of them

    async def _one(self, job: SandboxJob) -> bool | None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._late += 1
            return None
        try:
            execution = await self._sandbox.run(job)
        except SandboxUnavailable:
            raise
        except SandboxError:
            self._failed += 1
            if self._ran == 0 and self._failed >= min(GIVE_UP, self._total):
                raise
            return None
        self._ran += 1
        return None if execution.ending is Ending.UNAVAILABLE else execution.passed
