"""What a worker executes: permission check, solver, publishing, and the commands that follow.

`bot.solver.pipeline` has the order within the solver; this file connects it to the forge and the database.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bot.contracts import Forge, Journal, Progress
from bot.errors import BuildFailed, ForgeError, Refused, RunHeld
from bot.forge.github import GitHubForge
from bot.git.checkout import check_out
from bot.journal import once
from bot.lifecycle import STAGES, RunState
from bot.llm.bundled_engine import SharedEngine
from bot.publish.followup import FollowUp
from bot.publish.messages.labels import Labels
from bot.publish.messages.onboarding import Proposal
from bot.publish.messages.reason import reason
from bot.publish.publish import publish
from bot.publish.revise import publish_revision
from bot.publish.status_comment import StatusComment, announce, announce_failed_build, tell_of_wait
from bot.records import (
    Again,
    Build,
    Checkout,
    ClaimedCommand,
    ClaimedRun,
    Issue,
    Outcome,
    Record,
    Report,
)
from bot.sanitize.addresses import hide_addresses
from bot.sanitize.redact import redact, redact_report
from bot.scratch import remove_tree
from bot.settings import Settings, SolverSettings
from bot.solver.onboarding import propose
from bot.solver.parting import decided
from bot.solver.pipeline import solve
from bot.solver.project import take_config
from bot.solver.stages.matrix import Earlier, tests_of
from bot.solver.workbench import Audience, open_workbench
from bot.store import AGAIN, BUILDS, Hold, Store, in_thread, run_job
from bot.worker.base_branch import check_out_run, take_default_config
from bot.worker.callbacks import Advance, Executed, Finished
from bot.worker.judging import Judging, Shift
from bot.worker.renamed import Job, by_its_name_now
from bot.worker.spending import accounted
from bot.worker.stored_runs import StoredRuns
from bot.worker.wishes import Wishes

log = logging.getLogger(__name__)


class Seed(Record):
    """What the run samples with, from its first attempt to its last, and in those that go on from it."""

    value: int


@dataclass(frozen=True)
class Watchers:
    """Several `Progress` as one."""

    all: Sequence[Progress]

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
        for one in self.all:
            one.update(state, done, total, note)


class Service:
    """The worker's callbacks, for one set of settings. `local`: allows the process sandbox, for the demo."""

    def __init__(self, settings: Settings, store: Store, *, local: bool = False, watch: Progress | None = None) -> None:
        self._settings = settings
        self._store = store
        self._local = local
        self._watch = watch
        self._labels = Labels(wanted=settings.label)
        self._forges: dict[int | None, GitHubForge] = {}
        self._engine = SharedEngine(settings)
        self._judging = Judging(settings, store)
        self._wishes = Wishes(store, self._labels)
        self._runs = StoredRuns(store, self._judging, settings.revisions_per_day)

    def forge(self, installation_id: int | None) -> Forge:
        """One for each installation, so that all its runs share tokens."""
        if installation_id not in self._forges:
            self._forges[installation_id] = GitHubForge(self._settings, installation_id)
        return self._forges[installation_id]

    async def _by_its_name_now(self, job: Job) -> Job:
        return await by_its_name_now(job, self.forge(job.installation_id), self._store, self._settings)

    # -- runs

    async def execute(self, run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        """The whole run, resumed from its journal; see `bot.worker.callbacks.Execute`."""
        run = await self._by_its_name_now(run)
        try:
            return await self._execute(run, journal, progress, advance)
        except BuildFailed as failure:  # the repository's own fault, told at once with what to try
            await advance(run.state)
            await announce_failed_build(self.forge(run.installation_id), run, failure, self._labels)
            return Finished(state=RunState.FAILED, note=str(failure), announced=True)
        except Refused:
            await self._check_name(run)
            raise

    async def _execute(self, run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        forge = self.forge(run.installation_id)
        if run.state is RunState.QUEUED and (end := await self._wishes.unwanted(forge, run)) is not None:
            return end

        if run.state is RunState.QUEUED:
            await self._held(run, forge, advance)

        async def fence() -> None:
            await advance(run.state)  # an earlier state changes nothing, and the attempt is checked

        async with _folder(self._settings.work_dir / f"run-{run.id}-{run.attempt}") as folder:
            # Closed before publishing, which writes the same comment.
            async with StatusComment(forge, run, fence, failed=partial(self._stop_if_hopeless, forge, run)) as comment:
                watchers = Watchers([progress, comment, *([self._watch] if self._watch else [])])

                async def enter(state: RunState) -> None:
                    await advance(state)
                    watchers.update(state, 0, 0)

                await enter(RunState.CHECKOUT)
                if run.state is RunState.QUEUED:
                    await comment.begun()
                if run.revision is None:
                    await fence()
                    await forge.set_label(run.repository, run.issue.number, self._labels.running, self._labels.known)
                checkout = await check_out_run(run, forge, folder, journal, self._settings, self._runs)
                report = await self._solve(run, forge, checkout, journal, watchers, enter)
                await enter(RunState.PUBLISHING)
            if run.revision is not None:
                await self._same_name(run)
                return await self._revised(run, forge, report, checkout, fence)
            page = self._settings.pages.of_run(run.id)
            kept = redact_report(report.model_dump_json(), self._settings.secrets())
            try:
                await self._same_name(run)
                published = await publish(forge, run, report, checkout, fence, labels=self._labels, page=page)
            except Refused as error:  # the repository was archived meanwhile, say: the count is kept
                await self._check_name(run)
                return Finished(state=RunState.FAILED, report_json=kept, note=str(error))
        solved = report.verdict.outcome is Outcome.SOLVED
        return Finished(
            state=RunState.SOLVED if solved else RunState.ABSTAINED,
            report_json=kept,
            pull_request_url=published.pull_request_url or None,
            note=f"{reason(report)} {published.untold}".strip(),
            announced=True,
        )

    async def _revised(
        self,
        run: ClaimedRun,
        forge: Forge,
        report: Report,
        checkout: Checkout,
        fence: Callable[[], Awaitable[None]],
    ) -> Finished:
        assert run.revision is not None, "a revision is published"
        kept = await publish_revision(forge, run, report, checkout, fence, page=self._settings.pages.of_run(run.id))
        return Finished(
            state=RunState.ABSTAINED if kept else RunState.SOLVED,
            report_json=redact_report(report.model_dump_json(), self._settings.secrets()),
            note=kept or reason(report),
            announced=True,
        )

    async def _earlier(self, run: ClaimedRun, forge: Forge, checkout: Checkout) -> Earlier | None:
        """What a revision begins with; None for other runs. The base commit's config is put in place."""
        if run.revision is None:
            return None
        report = await self._runs.published(run.repository, run.issue.number)
        if report is None:
            raise Refused("the count of the run that made the pull request is gone; `/troop retry` makes a new one")
        changes = await forge.changes_to(run.repository, checkout, report.base_commit)
        await asyncio.to_thread(take_config, Path(checkout.root), changes)
        if report.base_branch:  # whose own config never counted
            await take_default_config(run, forge, checkout)
        return Earlier(
            revision=run.revision, base_commit=report.base_commit, base=changes, tests=tests_of(report.verdict)
        )

    async def _stop_if_hopeless(self, forge: Forge, run: ClaimedRun) -> None:
        """Spend no more on a run of which nothing can come. Raises `ForgeError`."""
        if why := await self._wishes.hopeless(forge, run):
            await self._check_name(run)
            await in_thread(self._store.request_stop, run.id, self.words(why))

    async def _check_name(self, run: ClaimedRun) -> None:
        """Raises `ForgeError` where the repository has another name now: what was refused counts for the old one."""
        with contextlib.suppress(Refused):  # it is gone, or may not be worked on any more
            await self._same_name(run)

    async def _same_name(self, run: ClaimedRun) -> None:
        """Raises `ForgeError` where the repository has another name now, and `Refused` where another one has its."""
        if (await self._by_its_name_now(run)).repository != run.repository:
            raise ForgeError(f"GitHub has {run.repository} under another name now; it is tried again by that one")

    async def _held(self, run: ClaimedRun, forge: Forge, advance: Advance) -> None:
        """Raises `RunHeld`, once the issue was told, where no run may start now."""
        hold = await in_thread(self._store.hold, run.repository) or await self._held_by_label(run, forge)
        if hold is not None:
            await advance(run.state)
            await self.wait(run, hold.reason)
            raise RunHeld(hold.reason, hold.until)

    async def _held_by_label(self, run: ClaimedRun, forge: Forge) -> Hold | None:
        labels = (await forge.issue_state(run.repository, run.conversation)).labels
        if self._labels.paused.casefold() not in {label.casefold() for label in labels}:
            return None
        words = f"it has the label `{self._labels.paused}`; the run starts within a minute after the label is taken off"
        return Hold(reason=words, until=time.time() + AGAIN)

    async def _solve(
        self,
        run: ClaimedRun,
        forge: Forge,
        checkout: Checkout,
        journal: Journal,
        progress: Progress,
        advance: Callable[[RunState], Awaitable[None]],
    ) -> Report:
        if (done := await journal.get("report")) is not None:
            return Report.model_validate_json(done)
        if run.again is not None and run.again.answer is not None:
            return await self._decided(run.again, journal, advance)

        async def with_comments() -> Issue:
            comments = await forge.comments_before(run.repository, run.issue.number, run.labelled_at)
            # With the comment of a mention, which is no earlier one.
            flags = {*run.issue.flags, *(flag for comment in comments for flag in comment.flags)}
            return run.issue.model_copy(
                update={"comments": (*comments, *run.issue.comments), "flags": tuple(sorted(flags))}
            )

        issue = await once(journal, "issue", Issue, with_comments)
        earlier = await self._earlier(run, forge, checkout)
        before = await self._runs.report(run.again.of_run) if run.again is not None and run.again.more else None

        def tell(words: str) -> None:
            progress.update(RunState.CHECKOUT, 0, 0, self.words(words))

        loop, builds = asyncio.get_running_loop(), itertools.count()

        def keep(build: Build) -> None:
            key = f"{BUILDS}{run.attempt}/{next(builds):02}"
            asyncio.run_coroutine_threadsafe(journal.put(key, build.model_dump_json()), loop).result()

        async with (
            accounted(self._store, run, self._settings.spending) as allowance,
            open_workbench(
                self._settings,
                checkout,
                base_url=await self._engine.url(),
                user=f"troop-run-{run.id}",
                server=not self._local,
                audience=Audience(notice=log.warning, tell=tell, keep=keep),
            ) as bench,
        ):
            wanted = bench.config.feedback
            shift = await once(journal, "shift", Shift, lambda: self._judging.shift(run.repository, wanted=wanted))
            solver = await self._sampling(run, journal, bench.settings, before)
            calibrated = solver.model_copy(update={"confidence_shift": shift.value})
            bench = replace(bench, allowance=allowance, earlier=earlier, settings=calibrated)
            report = await solve(issue, bench, journal, progress, advance, labelled_at=run.labelled_at)
            cost = report.usage.cost - (before.usage.cost if before is not None else 0.0)
            allowance.spent = max(allowance.spent, cost)  # with calls of an attempt that was killed
            return report

    @staticmethod
    async def _sampling(
        run: ClaimedRun, journal: Journal, solver: SolverSettings, before: Report | None
    ) -> SolverSettings:
        """The solver's settings, with the run's seed; where it goes on from the run of `before`, with more attempts."""

        async def make() -> Seed:
            # The id is part of the seed, so that a run that is started again samples something else.
            first = run.again.of_run if run.again is not None and run.again.more else run.id
            return Seed(value=solver.seed + 100_003 * (first - 1))

        changed: dict[str, object] = {"seed": (await once(journal, "seed", Seed, make)).value}
        if before is not None and run.again is not None:
            used = before.usage.prompt_tokens + before.usage.completion_tokens
            changed |= {"trajectories": len(before.trajectories) + run.again.more, "stop": "none"}
            changed |= {"token_budget": solver.token_budget and solver.token_budget + used}
        return solver.model_copy(update=changed)

    async def _decided(self, again: Again, journal: Journal, advance: Callable[[RunState], Awaitable[None]]) -> Report:
        """The count of the run that asked, with the answer counted: no model is asked, and no test runs."""
        asked, option = await self._runs.report(again.of_run), again.answer
        if asked is None or option is None:
            raise Refused("the count of the run that asked is gone; `/troop retry` makes a new one")
        for state in STAGES[STAGES.index(RunState.CONTEXT) : STAGES.index(RunState.PUBLISHING)]:
            await advance(state)

        async def make() -> Report:
            return decided(asked, option, again.sender)

        return await once(journal, "report", Report, make)

    async def announce(self, run: ClaimedRun, state: RunState, reason: str) -> None:
        """Tell the issue of an end without a result; see `bot.worker.callbacks.Announce`."""
        run = await self._by_its_name_now(run)
        await announce(self.forge(run.installation_id), run, state, reason, self._labels)

    async def wait(self, run: ClaimedRun, reason: str) -> None:
        """Tell the issue that the run is tried again later, and why."""
        run = await self._by_its_name_now(run)
        await tell_of_wait(self.forge(run.installation_id), run, reason)

    # -- commands

    async def execute_command(self, command: ClaimedCommand) -> Executed:
        """One `/troop` comment; see `bot.worker.callbacks.ExecuteCommand`."""
        command = await self._by_its_name_now(command)
        forge = self.forge(command.installation_id)
        async with _folder(self._settings.work_dir / f"command-{command.id}-{command.attempt}") as folder:

            async def at(commit: str) -> Checkout:
                return await check_out(forge, command.repository, folder, commit)

            async def proposal(checkout: Checkout) -> Proposal:
                return await propose(checkout, self._settings, server=not self._local)

            of_run, most = self._settings.pages.of_run, self._settings.solver.trajectories
            followup = FollowUp(
                forge, self._runs, at, labels=self._labels, propose=proposal, page=of_run, most_more=most
            )
            done = await followup.execute(command)
        return Executed(note=done.note, following=None if done.started is None else run_job(done.started))

    def words(self, text: str) -> str:
        """An error's words without secrets and without addresses of the operator's network: issues are often public."""
        return redact(hide_addresses(text, self._settings), self._settings.secrets())

    async def close(self) -> None:
        """Stop the bundled engine, if it was started."""
        await self._engine.close()


@contextlib.asynccontextmanager
async def _folder(path: Path) -> AsyncIterator[Path]:
    """A folder `NAME-ATTEMPT`, removed in the end. Folders of earlier, killed attempts are removed first.

    A later attempt's is not: this one may have begun late, and lost its lease before it came here.
    """

    def begin() -> None:
        name, _, attempt = path.name.rpartition("-")
        for old in path.parent.glob(f"{name}-*"):
            if int(old.name.rpartition("-")[2]) <= int(attempt):
                remove_tree(old)
        path.mkdir(parents=True)

    # In threads, since removing a large repository takes seconds and the lease must be renewed meanwhile.
    await asyncio.to_thread(begin)
    try:
        yield path
    finally:
        await asyncio.shield(asyncio.to_thread(remove_tree, path))
