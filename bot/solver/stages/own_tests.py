"""The repository's own tests and documented examples, on the base commit and on the best-voted candidates.

Examples run on all candidates that are credible, since they are quick; tests on the best of those whose examples hold.
On a candidate the tests of the files that it changes run first: what they find broken needs no further run. Where all
tests don't end within their time on the base commit, what ended before is compared, and the tests of the changed files
are compared with a run of their own. Where a few tests are broken the same runs once more, since tests may fail by
chance. Of runners that prove nothing, some tests run again on a candidate, each alone.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from bot.contracts import Progress, Sandbox
from bot.errors import SandboxError
from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.records import Ballot, NotCompared, OwnTests, OwnTestsReport, Patch, SandboxJob, Standing
from bot.sandbox.journaled import JournaledSandbox
from bot.settings import SolverSettings
from bot.solver.ballot import credible, distinct_first
from bot.solver.comparison import by_chance, regressions, time_for, told
from bot.solver.harness import Harness, attempt
from bot.solver.single_tests import alone, chosen, shows
from bot.solver.stages.documented import DocumentedExamples
from bot.solver.stages.watched import TICK, Watched
from bot.solver.test_runners import (
    Command,
    absence,
    complaint,
    counted,
    narrowed,
    related_tests,
    under_way,
    unimported,
)

T = TypeVar("T")

ROUNDS = 3  # batches of candidates tried until one breaks nothing
_WORDS = "the repository's own tests"
_NO_TESTS: Mapping[str, str] = {}


async def on_base(commands: Sequence[Command], sandbox: Sandbox, settings: SolverSettings) -> OwnTestsReport:
    """The first of the commands that works, on the base commit; else why the first of them does not.

    Where more tests fail than pass, as those of a framework do that another runner would set up, the next commands are
    tried as well, and the one under which most pass is taken. All commands whose tests run share the time that one has,
    and none begins with less of it left than the last one took. Needs no candidate: it may run while they are sampled.
    A `Watched` sandbox, handed on to `run_own_tests`, lets that tell how far it is. Raises `SandboxUnavailable`.
    """
    left, took = settings.own_tests_timeout, 0.0  # seconds
    refused: OwnTestsReport | None = None
    unnamed: OwnTestsReport | None = None  # the first whose tests ran and told nothing
    poor: OwnTestsReport | None = None  # the best of those of whose tests most fail
    for command in commands:
        if left < took:
            break
        base = await _run(sandbox, SandboxJob(command=command, timeout=left))
        if base is None:
            refused = refused or OwnTestsReport(not_compared=NotCompared.SANDBOX_FAILED, tried=command)
            continue
        if (absent := absence(command, base.execution)) is not None:
            why, detail = absent
            refused = refused or OwnTestsReport(not_compared=why, tried=command, detail=detail)
            continue
        report = OwnTestsReport(
            command=command,
            base=base,
            unimported=unimported(base.execution),
            under_way=under_way(base.execution) if base.stopped else "",
        )
        took = base.execution.seconds
        left = max(left - took, 0.0)
        known = base.proved or base.passed or base.count is not None
        if known and not base.stopped and len(base.failures or ()) > _passing(report):
            poor = max(filter(None, (poor, report)), key=_passing)
            continue
        if base.execution.passed or base.failures is not None:
            return max(filter(None, (report, poor)), key=_passing)
        said = "" if base.stopped else complaint(base.execution)
        status = ": ".join(filter(None, (base.execution.status, said)))
        nameless = report.model_copy(update={"not_compared": NotCompared.UNNAMED_FAILURES, "detail": status})
        unnamed = unnamed or nameless
    return poor or unnamed or refused or OwnTestsReport(not_compared=NotCompared.NO_COMMAND)


def _passing(report: OwnTestsReport) -> int:
    """How many tests pass on the base commit, as far as its runner says so."""
    base = report.base
    return max(len(base.passed), (base.count or 0) - len(base.failures or ())) if base else 0


async def run_own_tests(
    ballot: Ballot,
    standings: Sequence[Standing],
    base: Awaitable[OwnTestsReport],
    harness: Harness,
    tests: Mapping[str, str] = _NO_TESTS,
) -> OwnTestsReport:
    """Run documented examples on the credible candidates, and the command of `base`, the result of `on_base`, on the
    best of those that contradict none, the best of each behaviour first.

    The selection chooses among those. Where all of `settings.own_tests_candidates` break something, the next ones are
    tried, a few times. What could not be run never counts. `tests`: the repository's, text by path. Raises
    `SandboxUnavailable`.
    """
    settings, watched = harness.settings, Watched.of(harness.sandbox)
    able = credible(standings, ballot)
    best = [standing.candidate for standing in distinct_first(able, ballot, len(able))]
    if not best:
        return OwnTestsReport(not_compared=NotCompared.NO_CANDIDATE)
    on_the_base = _Counted(harness.progress, 0, 0, settings.own_tests_timeout, watched, ", on the base commit")
    report = await on_the_base.until(base)
    documented = await DocumentedExamples(watched, settings).on_each(best, ballot)
    report = report.model_copy(update={"documented": documented})
    comparer = _Comparer(report, watched, settings, tests)
    if not (report.compared or comparer.only_related):
        return report
    said = counted(report.base.execution) if report.base else ""
    contradicted = {one.candidate for one in documented if one.broken}
    best = [candidate for candidate in best if candidate not in contradicted][: ROUNDS * settings.own_tests_candidates]
    for at in range(0, len(best), settings.own_tests_candidates):
        batch = best[at : at + settings.own_tests_candidates]
        words = f": {said} on the base commit" if said else ""
        bound = time_for(report.base, settings.own_tests_timeout)
        counted_up = _Counted(harness.progress, at, len(best), bound, watched, words)
        report = await counted_up.until(comparer.with_candidates(report, ballot, batch, counted_up))
        if any(not regressions(report, c, ballot.candidates[c].patch.paths) for c in batch):
            break
    return comparer.ended(report)


async def run_own_tests_on(
    claimed: OwnTestsReport,
    ballot: Ballot,
    base: OwnTestsReport,
    harness: Harness,
    tests: Mapping[str, str] = _NO_TESTS,
) -> OwnTestsReport:
    """The result on exactly the candidates of another report (`claimed`), where there is one to compare with.

    Otherwise as `run_own_tests`.
    """
    settings, watched = harness.settings, Watched.of(harness.sandbox)
    candidates = [candidate for candidate, _ in claimed.candidates]
    # No journal is behind this sandbox, and the candidates share their runs on the base commit.
    examples = DocumentedExamples(JournaledSandbox(watched, MemoryJournal()), settings)
    documented = await examples.on_each([one.candidate for one in claimed.documented], ballot)
    base = base.model_copy(update={"documented": documented})
    comparer = _Comparer(base, watched, settings, tests)
    if not (base.compared or comparer.only_related):
        return base
    counted_up = _Counted(harness.progress, 0, len(candidates), settings.own_tests_timeout, watched)
    work = comparer.with_candidates(base, ballot, candidates, counted_up)
    return comparer.ended(await counted_up.until(work))


class _Counted:
    """Tells of each candidate that its tests have run; while nothing ends, how many have and for how long they do."""

    def __init__(
        self, progress: Progress, done: int, total: int, bound: float, watched: Watched, words: str = ""
    ) -> None:
        self._progress, self._done, self._total, self._bound = progress, done, total, bound
        self._watched, self._words = watched, words

    def ran(self, candidate: int, result: OwnTests | None) -> None:
        self._done += 1
        words = "could not be run"
        if result:
            words = f"{counted(result.execution) or result.execution.status} on candidate {candidate + 1}"
        self._words = f": {words}"
        self._tell()

    async def until(self, work: Awaitable[T]) -> T:
        """The work's result. A suite may take minutes in one run, which tells nothing before its end."""
        self._tell()
        return await self._watched.until(work, self._bound, self._tell, TICK)

    def _tell(self, more: str = "") -> None:
        self._progress.update(RunState.SELECTION, self._done, self._total, f"{_WORDS}{self._words}{more}")


class _Comparer:
    """Runs tests on candidates, as far as needed to compare them with the base commit."""

    def __init__(
        self, report: OwnTestsReport, sandbox: Sandbox, settings: SolverSettings, tests: Mapping[str, str]
    ) -> None:
        self._report = report
        self._sandbox = sandbox
        self._settings = settings
        self._tests = tests
        self._time = time_for(report.base, settings.own_tests_timeout)
        stopped = report.base is not None and report.base.stopped
        # All tests don't end on the base commit, and their runner does not say how each one went.
        self.only_related = stopped and not report.compared and bool(tests)

    async def with_candidates(
        self, report: OwnTestsReport, ballot: Ballot, candidates: Sequence[int], progress: _Counted
    ) -> OwnTestsReport:
        """The report with the results on the candidates."""

        async def on(c: int) -> tuple[int, OwnTests | None, OwnTests | None]:
            ran, compared_with = await self.on(ballot.candidates[c].patch)
            progress.ran(c, ran)
            return c, ran, compared_with

        results = await asyncio.gather(*map(on, candidates))
        ran = tuple((c, result) for c, result, _ in results if result is not None)
        bases = tuple((c, compared_with) for c, _, compared_with in results if compared_with is not None)
        return report.model_copy(update={"candidates": report.candidates + ran, "bases": report.bases + bases})

    def ended(self, report: OwnTestsReport) -> OwnTestsReport:
        if self.only_related and report.bases:
            return report.model_copy(update={"not_compared": None, "detail": ""})
        return report

    async def on(self, patch: Patch) -> tuple[OwnTests | None, OwnTests | None]:
        """The result on the candidate, and the base commit's on the same files where not all were run.

        None where the sandbox failed, or there is nothing to compare.
        """
        files = await asyncio.to_thread(related_tests, patch.paths, self._tests)
        argv = narrowed(self._report.command, files) if files else None
        if argv is not None:
            first = await self._first(patch, argv, tuple(files))
            if first is not None:
                return first
        if self.only_related:
            return None, None
        after = await self._all(patch, self._report.command)
        base = self._report.base
        if after is None or base is None:
            return after, None
        return await self._checked(patch, self._report.command, base, after), None

    async def _checked(self, patch: Patch, command: Command, base: OwnTests, after: OwnTests) -> OwnTests:
        """The result, looked at once more: what is broken by chance, and what is although the output hides it."""
        after = await self._twice(patch, command, base, after)
        return await self._spot_checked(patch, command, base, after)

    async def _twice(self, patch: Patch, command: Command, base: OwnTests, after: OwnTests) -> OwnTests:
        """The result; a test that is broken in a first run, and not in a second one of the same, counts as passed."""
        found = regressions(_compared(command, base, after), 0, patch.paths)
        broken = by_chance(base, after, found)
        second = await self._all(patch, command, again=1) if broken else None
        if second is None:
            return after
        if not regressions(_compared(command, base, second), 0, patch.paths):
            return second.model_copy(update={"flaky": broken})
        flaky = tuple(name for name in broken if name in second.passed)
        failures = after.failures and tuple(name for name in after.failures if name not in flaky)
        passed = (*after.passed, *(name for name in flaky if name not in after.passed))
        return after.model_copy(update={"failures": failures, "passed": passed, "flaky": flaky})

    async def _spot_checked(self, patch: Patch, command: Command, base: OwnTests, after: OwnTests) -> OwnTests:
        """The result with what is broken although the output says otherwise: of a runner that proves nothing, some
        tests run again, each alone. Those count which do so on the base commit."""
        if after.proved or after.failures is None or regressions(_compared(command, base, after), 0, patch.paths):
            return after

        async def passes(name: str, on: Patch | None) -> bool:
            argv = alone(command, name)
            found = await self._all(on, argv) if argv is not None else None
            return found is not None and shows(found.execution, name)

        async def hidden(name: str) -> bool:
            return await passes(name, None) and not await passes(name, patch)

        names = chosen([name for name in base.passed if alone(command, name)], patch.diff)
        found = await asyncio.gather(*map(hidden, names))
        broken = tuple(name for name, is_broken in zip(names, found, strict=True) if is_broken)
        passed = tuple(name for name in after.passed if name not in broken)
        return after.model_copy(update={"failures": (*after.failures, *broken), "passed": passed})

    async def _first(
        self, patch: Patch, argv: Command, files: tuple[str, ...]
    ) -> tuple[OwnTests | None, OwnTests | None] | None:
        """The result of the related tests, if that is enough; None if all tests are to be run.

        It is compared with a run of the same files: tests may depend on what ran before them.
        """
        after = await self._all(patch, argv)
        if after is None or absence(argv, after.execution) is not None:
            return None
        if after.execution.passed and not self.only_related and not self._only_so(after, argv):
            return None
        base = await self._all(None, argv)
        if base is None or base.stopped or absence(argv, base.execution) is not None:
            return None
        after = await self._checked(patch, argv, base, after)
        after, base = (one.model_copy(update={"files": files}) for one in (after, base))
        enough = self.only_related or regressions(_compared(argv, base, after), 0, patch.paths)
        return (after, base) if enough else None

    def _only_so(self, after: OwnTests, argv: Command) -> bool:
        """Whether single tests can be run by the command for related files, and not by the one for all (`npm test`)."""
        return not after.proved and alone(self._report.command, "") is None and alone(argv, "") is not None

    async def _all(self, patch: Patch | None, command: Command, again: int = 0) -> OwnTests | None:
        changes = patch.changes if patch else ()
        timeout = self._time if patch else self._settings.own_tests_timeout
        return await _run(self._sandbox, SandboxJob(changes=changes, command=command, timeout=timeout, again=again))


def _compared(command: Command, base: OwnTests, after: OwnTests) -> OwnTestsReport:
    """A report on one candidate, 0."""
    return OwnTestsReport(command=command, base=base, candidates=((0, after),))


async def _run(sandbox: Sandbox, job: SandboxJob) -> OwnTests | None:
    """None where the sandbox failed at it."""
    found = await attempt(sandbox, job)
    return None if isinstance(found, SandboxError) else told(found)
