"""The repository's own tests, on the base commit and on the best-voted candidates."""

import asyncio
from collections.abc import Awaitable, Sequence

from bot.contracts import Progress, Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.records import Ballot, NotCompared, OwnTests, OwnTestsReport, SandboxJob, Standing
from bot.settings import SolverSettings
from bot.solver.ballot import credible, distinct_first, regressions
from bot.solver.test_runners import Command, absence, failing

ROUNDS = 3  # batches of candidates tried until one breaks nothing


async def on_base(commands: Sequence[Command], sandbox: Sandbox, settings: SolverSettings) -> OwnTestsReport:
    """The first of the commands that works, on the base commit; else why the first of them does not.

    Needs no candidate: it may run while they are sampled. Raises `SandboxUnavailable`.
    """
    refused: OwnTestsReport | None = None
    for command in commands:
        base = await _run(sandbox, SandboxJob(command=command, timeout=settings.own_tests_timeout))
        if base is None:
            refused = refused or OwnTestsReport(not_compared=NotCompared.SANDBOX_FAILED, tried=command)
            continue
        if (nothing := absence(command, base.execution)) is not None:
            why, detail = nothing
            refused = refused or OwnTestsReport(not_compared=why, tried=command, detail=detail)
            continue
        report = OwnTestsReport(command=command, base=base)
        if base.execution.passed or base.failures is not None:
            return report
        status = base.execution.status
        return report.model_copy(update={"not_compared": NotCompared.UNNAMED_FAILURES, "detail": status})
    return refused or OwnTestsReport(not_compared=NotCompared.NO_COMMAND)


async def run_own_tests(
    ballot: Ballot,
    standings: Sequence[Standing],
    base: Awaitable[OwnTestsReport],
    sandbox: Sandbox,
    settings: SolverSettings,
    progress: Progress,
) -> OwnTestsReport:
    """Run the command of `base`, the result of `on_base`, on the best credible candidates, the best of each behaviour
    first.

    The selection chooses among those. Where all of `settings.own_tests_candidates` break something, the next ones are
    tried, a few times. What could not be run never counts. Raises `SandboxUnavailable`.
    """
    able = credible(standings, ballot)
    best = [standing.candidate for standing in distinct_first(able, ballot, len(able))]
    if not best:
        return OwnTestsReport(not_compared=NotCompared.NO_CANDIDATE)
    progress.update(RunState.SELECTION, 0, 0, "the repository's own tests")
    report = await base
    if not report.compared:
        return report
    for at in range(0, min(len(best), ROUNDS * settings.own_tests_candidates), settings.own_tests_candidates):
        batch = best[at : at + settings.own_tests_candidates]
        progress.update(RunState.SELECTION, at, len(best), "the repository's own tests")
        jobs = [
            SandboxJob(
                changes=ballot.candidates[c].patch.changes, command=report.command, timeout=settings.own_tests_timeout
            )
            for c in batch
        ]
        results = await asyncio.gather(*(_run(sandbox, job) for job in jobs))
        ran = tuple((c, result) for c, result in zip(batch, results, strict=True) if result is not None)
        report = report.model_copy(update={"candidates": report.candidates + ran})
        if any(not regressions(report, c, ballot.candidates[c].patch.paths) for c in batch):
            break
    return report


async def _run(sandbox: Sandbox, job: SandboxJob) -> OwnTests | None:
    """None where the sandbox failed at it."""
    try:
        execution = await sandbox.run(job)
    except SandboxUnavailable:
        raise
    except SandboxError:
        return None
    return OwnTests(execution=execution, failures=failing(execution))
