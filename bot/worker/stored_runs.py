"""`bot.publish.runs.Runs` over the store."""

from functools import partial

from bot.lifecycle import RunState
from bot.publish.runs import Counted
from bot.records import Act, Again, Report
from bot.store import RunInfo, Store, in_thread
from bot.worker.judging import Judging

_HISTORY = 20  # runs of an issue that are searched for a report


class StoredRuns:
    """See `bot.publish.runs.Runs`."""

    def __init__(self, store: Store, judging: Judging, revisions_per_day: int) -> None:
        self._store = store
        self._judging = judging
        self._revisions_per_day = revisions_per_day

    async def newest(self, repository: str, issue_number: int) -> RunInfo | None:
        found = await in_thread(self._store.runs, repository=repository, issue_number=issue_number, limit=1)
        return found[0] if found else None

    async def newest_counted(self, repository: str, issue_number: int) -> Counted | None:
        found = await in_thread(self._store.runs, repository=repository, issue_number=issue_number, limit=_HISTORY)
        for run in found:
            if (report := await self.report(run.id)) is not None:
                return Counted(run_id=run.id, report=report)
        return None

    async def judge(self, repository: str, pull: int, act: Act, by: str) -> bool:
        run_id = await in_thread(self._store.run_of_pull, repository, pull)
        report = None if run_id is None else await self.report(run_id)
        if run_id is None or report is None:
            return False
        return await self._judging.keep(run_id, report, act, by)

    async def judge_choice(self, repository: str, issue_number: int, candidate: int, by: str, url: str) -> bool:
        found = await self.newest_counted(repository, issue_number)
        if found is None:
            return False
        return await self._judging.keep(found.run_id, found.report, Act.USED, by, chosen=candidate, url=url)

    async def report(self, run_id: int) -> Report | None:
        text = await in_thread(self._store.report, run_id)
        return None if text is None else Report.model_validate_json(text)

    async def started_by(self, command_id: int) -> int | None:
        return await in_thread(self._store.started_by, command_id)

    async def start_again(self, run_id: int, again: Again) -> int | None:
        return await in_thread(self._store.start_again, run_id, again)

    async def revise(self, run_id: int, again: Again) -> int | None:
        return await in_thread(self._store.revise, run_id, again, most_a_day=self._revisions_per_day)

    async def published(self, repository: str, issue_number: int) -> Report | None:
        """The count behind the pull request: of the newest run that made or revised one, else of the newest."""
        found = await in_thread(self._store.runs, repository=repository, issue_number=issue_number, limit=_HISTORY)
        solved = next((run for run in found if run.state is RunState.SOLVED), None)
        text = None if solved is None else await in_thread(self._store.report, solved.id)
        if text is None:
            counted = await self.newest_counted(repository, issue_number)
            return None if counted is None else counted.report
        return Report.model_validate_json(text)

    async def stop_revision(self, repository: str, pull: int, reason: str, *, asked_at: float) -> bool:
        run_id = await in_thread(self._store.revision_of, repository, pull, asked_at)
        return run_id is not None and await self.request_stop(run_id, reason, asked_at=asked_at)

    async def request_stop(self, run_id: int, reason: str, *, asked_at: float) -> bool:
        return await in_thread(partial(self._store.request_stop, run_id, reason, asked_at=asked_at))
