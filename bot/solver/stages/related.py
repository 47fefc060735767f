"""The repository's own tests of the files that an edit changes, and the examples that these document, run on it and on
the base commit.

All of the repository's tests run later, on the best-voted candidates alone: then the model can no longer mend what an
edit broke.
"""

import asyncio
from collections.abc import Sequence

from bot.contracts import Sandbox
from bot.records import Checkout, Ending, Execution, Patch, Record, SandboxJob
from bot.retrieval.source_files import find_tests
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.documented import DocumentedExamples
from bot.solver.test_runners import absence, failing, narrowed, related_tests

_NAMED = 20  # failing tests that are named
_LINES, _CHARACTERS = 80, 6_000  # of what they print


class Compared(Record):
    """What the tests of the changed files came to."""

    files: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()  # what passes on the base commit and fails with the edit
    output: str = ""  # of the run with the edit, where something is broken
    why_not: str = ""  # what the runner said where the files can't be run on the base commit
    contradicted: tuple[str, ...] = ()  # documented examples that hold on the base commit and not with the edit


class RelatedTests:
    """Runs them for all trajectories; equal runs are the journal's."""

    def __init__(self, checkout: Checkout, sandbox: Sandbox, solver: ResolvedSolver, shown: Sequence[str] = ()) -> None:
        """`shown`: paths of the tests that the model sees, which are run on every edit."""
        self._shown = shown
        self._checkout = checkout
        self._sandbox = sandbox
        self._solver = solver
        self._examples = DocumentedExamples(sandbox, solver.settings)

    async def compared(self, patch: Patch) -> Compared | None:
        """None where there is nothing to compare, or tests don't end on the base commit. Raises `SandboxError`."""
        contradicted = await self.contradicted(patch)
        compared = await self._tests(patch)
        return (compared or Compared()).model_copy(update={"contradicted": contradicted}) if contradicted else compared

    async def contradicted(self, patch: Patch) -> tuple[str, ...]:
        """The documented examples that hold on the base commit and not with the edit, in words."""
        found = await self._examples.on(0, patch)
        return found.broken if found is not None else ()

    async def _tests(self, patch: Patch) -> Compared | None:
        commands = self._solver.test_commands if self._solver.shows_tests else ()
        if not commands:
            return None
        texts = await asyncio.to_thread(find_tests, self._checkout)
        shown = {path: texts[path] for path in self._shown if path in texts}
        chosen = shown | await asyncio.to_thread(related_tests, patch.paths, texts)
        if not chosen:
            return None
        why_not = ""
        for command in commands:
            argv = narrowed(command, chosen)
            if argv is None:
                continue
            base = await self._run(argv)
            if base.ending is Ending.TIMED_OUT:  # so would every other command
                return None
            absent = absence(argv, base)
            if absent is not None:
                why_not = why_not or absent[1]
            elif not base.passed and failing(base) is None:  # nothing to compare with
                why_not = why_not or f"{base.status} without your edit, and no test is named"
            elif base.ending is Ending.EXITED:
                with_edit = await self._run(argv, patch)
                return Compared(files=tuple(chosen), **broken(base, with_edit, patch.paths))
        return Compared(files=tuple(chosen), why_not=why_not) if why_not else None

    async def _run(self, argv: tuple[str, ...], patch: Patch | None = None) -> Execution:
        changes = patch.changes if patch else ()
        timeout = self._solver.settings.test_timeout
        return await self._sandbox.run(SandboxJob(changes=changes, command=argv, timeout=timeout))


def broken(base: Execution, with_edit: Execution, paths: Sequence[str]) -> dict[str, object]:
    """The fields of `Compared` that say what fails with the edit alone. Pure.

    Tests by their names where the runner gives them; else the run as a whole. `paths`: changed files, whose tests, if
    they are new, never passed before.
    """
    before, after = failing(base), failing(with_edit)
    if before is not None and after is not None:
        names = [name for name in after if name not in before and name.split("::")[0] not in paths]
    else:
        names = [with_edit.status] if base.passed and not with_edit.passed else []
    if not names:
        return {}
    cut = [*names[:_NAMED], *([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])]
    return {"broken": tuple(cut), "output": with_edit.excerpt(_LINES, _CHARACTERS)}
