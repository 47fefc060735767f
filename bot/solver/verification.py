"""Runs a bundle's matrix again and counts again, on a checkout of the commit that it names. No model is asked."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bot.contracts import Progress
from bot.errors import BundleError
from bot.honoured import honour
from bot.patch.diff import file_diff
from bot.patch.encoding import UTF_8
from bot.patch.reader import encoding_of, text_of
from bot.records import Ballot, Bundle, Candidate, Checkout, Environment, FileChange, Patch, TestConfig
from bot.repo_config import FILE_NAME, RepoConfig
from bot.retrieval.source_files import find_tests
from bot.sandbox import open_sandbox
from bot.sandbox.build import Plan
from bot.sanitize import REDACTED
from bot.settings import Settings
from bot.solver.ballot import Count, count
from bot.solver.harness import Harness
from bot.solver.project import (
    build_recipe,
    config_of_tests,
    disqualifying,
    own_test_commands,
    read_config,
    take_config,
    with_tests,
)
from bot.solver.recount import Recount, recount
from bot.solver.stages.differential import differentials, with_differentials
from bot.solver.stages.matrix import fill
from bot.solver.stages.own_tests import on_base, run_own_tests_on
from bot.solver.workbench import Audience, solver_settings


async def verify(
    bundle: Bundle,
    checkout: Checkout,
    to_base: tuple[FileChange, ...] | None,
    settings: Settings,
    progress: Progress,
    audience: Audience,
    venv_of: Path,
) -> Recount:
    """The bundle's count made again and compared. `checkout`: of the bundle's `parent`.

    `to_base`: of a revision, what turns that commit into the base commit. `venv_of`: as of `open_sandbox`. Raises
    `BundleError`, `SandboxError` and `BuildFailed` where that can't be done.
    """
    root = Path(checkout.root)
    await asyncio.to_thread(take_config, root, to_base or ())
    config, notes = read_config(checkout, settings)
    config, notes = claimed_config(bundle.environment.config, config, notes, settings)
    recipe = build_recipe(checkout, config, settings)
    for note in notes:
        audience.notice(note)
    plan = Plan(recipe, f"{settings.github_url} {checkout.repository}", audience.tell, apart=checkout.commit)
    sandbox = await open_sandbox(
        settings.sandbox, root, config=config, plan=plan, venv_of=venv_of, notice=audience.notice
    )
    try:
        for words in (*other_environment(bundle.environment, sandbox.environment), *redacted_tests(bundle)):
            audience.notice(words)
        solver, commands = solver_settings(settings.solver, config), own_test_commands(checkout, config, recipe)
        timeout = bundle.environment.test_timeout or solver.test_timeout
        solver = solver.model_copy(update={"test_timeout": timeout, "matrix_seconds": 0.0})
        again = _Again(bundle, checkout, commands, Harness(sandbox, solver, progress))
        return recount(bundle.verdict, await again.count(to_base))
    finally:
        await sandbox.close()


def claimed_config(
    claimed: TestConfig | None, here: RepoConfig, notes: tuple[str, ...], settings: Settings
) -> tuple[RepoConfig, tuple[str, ...]]:
    """The config with the tests that the run had, within what is allowed here, and what to say of it.

    A run takes the default branch's, which need not be that of the commit that it worked on.
    """
    if claimed is None:
        why = "the bundle is of an earlier Troop and does not say how the repository's config had tests run; taken is "
        return here, (*notes, f"{why}the {FILE_NAME} of the commit")
    config, ignored = honour(with_tests(here, claimed), settings)
    now, then = config_of_tests(here), config_of_tests(config)
    differ = [name for name in TestConfig.model_fields if getattr(now, name) != getattr(then, name)]
    if differ:
        ignored = (*ignored, f"{', '.join(differ)}: as in the bundle, not as in the {FILE_NAME} of the commit")
    return config, ignored


def other_environment(claimed: Environment, here: Environment) -> tuple[str, ...]:
    """In what the two differ, in words: what differs here may let tests end otherwise."""
    found = []
    if not claimed.sandbox:
        found.append("the bundle does not say where its tests ran")
    elif claimed.sandbox != here.sandbox:
        found.append(f"the bundle's tests ran in the {claimed.sandbox} sandbox, here they run in {here.sandbox}")
    elif claimed.image != here.image:
        found.append(f"the bundle's tests ran in {claimed.image!r}, here they run in {here.image!r}: see --image")
    elif claimed.digest != here.digest:
        found.append(f"{claimed.image} was {claimed.digest} then, and is {here.digest} here")
    elif claimed.steps != here.steps:
        found.append("other commands make the image for the tests here than did then")
    if claimed.services != here.services:
        was, now = ("; ".join(one.services) or "nothing" for one in (claimed, here))
        found.append(f"beside the bundle's tests ran {was}, here runs {now}")
    return tuple(found)


def redacted_tests(bundle: Bundle) -> tuple[str, ...]:
    """Which tests are not the ones that ran, in words: a bundle has no credentials, nor what looks like one."""
    held = [f"T{number}" for number, test in enumerate(bundle.verdict.ballot.tests, 1) if REDACTED in test.text]
    if not held:
        return ()
    return (f"what looks like a credential was taken out of {', '.join(held)}, which may end otherwise here",)


class _Again:
    """One count made again."""

    def __init__(
        self, bundle: Bundle, checkout: Checkout, commands: Sequence[tuple[str, ...]], harness: Harness
    ) -> None:
        self._bundle = bundle
        self._checkout = checkout
        self._commands = commands
        self._harness = harness

    async def count(self, to_base: tuple[FileChange, ...] | None) -> Count:
        ballot = await asyncio.to_thread(self._unfilled)
        ballot = await fill(ballot, self._harness, to_base)
        counted = await self._with_own_tests(ballot)
        if not self._bundle.verdict.ballot.differentials:  # none, or a bundle of an earlier Troop
            return counted
        return with_differentials(counted, await differentials(counted, self._harness))

    async def _with_own_tests(self, ballot: Ballot) -> Count:
        claimed = self._bundle.verdict.own_tests
        if claimed is None or not (claimed.candidates or claimed.documented):
            return Count(ballot, count(ballot, claimed), claimed)
        commands = self._commands if claimed.candidates else ()
        base = await on_base(commands, self._harness.sandbox, self._harness.settings)
        tests = await asyncio.to_thread(find_tests, self._checkout)
        own = await run_own_tests_on(claimed, ballot, base, self._harness, tests)
        return Count(ballot, count(ballot, own), own)

    def _unfilled(self) -> Ballot:
        """The bundle's ballot without what is found out again: results, disqualifications and diffs."""
        claimed = self._bundle.verdict.ballot
        root = Path(self._checkout.root)
        read, encoding = text_of(root), encoding_of(root)
        why = disqualifying(self._checkout, self._commands)
        candidates = []
        for candidate in claimed.candidates:
            patch = candidate.patch
            if not patch.changes:
                raise BundleError("the bundle has a candidate that changes nothing")
            if not candidate.sources:  # whose diffs another program wrote
                texts = [(c, read(c.path)) for c in patch.changes]
                made = (
                    file_diff(c.path, before, c.text, c.executable, encoding(c.path) if before is not None else UTF_8)
                    for c, before in texts
                )
                patch = Patch(changes=patch.changes, diff="".join(made))
            candidates.append(_changed(candidate, patch, why(patch.changes)))
        return claimed.model_copy(update={"candidates": tuple(candidates), "reviewed": (), "differentials": ()})


def _changed(candidate: Candidate, patch: Patch, disqualified: str) -> Candidate:
    return candidate.model_copy(update={"patch": patch, "disqualified": disqualified})
