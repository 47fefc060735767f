"""The examples of the documentation in the files that a candidate changes, run on it and on the base commit."""

import asyncio
from collections.abc import Sequence

from bot.contracts import Sandbox
from bot.errors import SandboxError
from bot.records import Ballot, Documented, Execution, FileChange, Patch, SandboxJob, Test
from bot.settings import SolverSettings
from bot.solver.comparison import time_on_candidates
from bot.solver.documented import compared, files_of, script, seen
from bot.solver.harness import attempt


class DocumentedExamples:
    """Runs them, and those that a candidate breaks once more; equal runs are the journal's."""

    def __init__(self, sandbox: Sandbox, settings: SolverSettings) -> None:
        self._sandbox = sandbox
        self._settings = settings

    async def on_each(self, candidates: Sequence[int], ballot: Ballot) -> tuple[Documented, ...]:
        """As `on`, of each of the ballot's candidates that there is something to say of."""
        found = await asyncio.gather(*(self.on(c, ballot.candidates[c].patch) for c in candidates))
        return tuple(one for one in found if one is not None)

    async def on(self, candidate: int, patch: Patch) -> Documented | None:
        """None where there is none that holds on the base commit, or the sandbox fails. Raises `SandboxUnavailable`."""
        texts = {change.path: change.text or "" for change in patch.changes}
        files = files_of(path for path, text in texts.items() if ">>>" in text)
        if not files or not self._settings.examples:
            return None
        test = script(files)
        runs = await asyncio.gather(*(self._run(test, again=again) for again in (0, 1)))
        base = [one for one in (seen(run) for run in runs if run is not None) if one is not None]
        if len(base) < len(runs) or runs[0] is None:
            return None
        bound = time_on_candidates(runs[0].seconds, self._settings.own_tests_timeout)
        first = await self._run(test, patch.changes, bound)
        found = compared(candidate, base, [first], files) if first is not None else None
        if first is None or found is None or not found.broken:
            return found
        second = await self._run(test, patch.changes, bound, again=1)
        return found if second is None else compared(candidate, base, [first, second], files)

    async def _run(
        self, test: Test, changes: tuple[FileChange, ...] = (), bound: float = 0.0, again: int = 0
    ) -> Execution | None:
        """None where the sandbox failed at it. `bound`: seconds; 0: as for any test."""
        bound = bound or self._settings.test_timeout
        found = await attempt(self._sandbox, SandboxJob(changes=changes, test=test, timeout=bound, again=again))
        return None if isinstance(found, SandboxError) else found
