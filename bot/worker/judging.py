"""What people make of winners: kept by repository, and read to correct the probability of the next ones."""

from bot.records import Act, Record, Report
from bot.settings import Settings
from bot.solver.ballot import credible
from bot.solver.confidence import labels, odds_of, shift_for
from bot.store import Store, in_thread


class Shift(Record):
    """Of the log-odds that a winner is right, the same for the whole run."""

    value: float


class Judging:
    """Judgements over the store. Nothing is kept or read where the operator or the repository does not want it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    async def shift(self, repository: str, *, wanted: bool) -> Shift:
        """The operator's shift, moved by what is known of the repository. `wanted`: whether the repository lets it be
        kept; where not, what is known is deleted."""
        prior = self._settings.solver.confidence_shift
        if not wanted:
            await in_thread(self._store.forget_judgements, repository)
        if not wanted or not self._settings.feedback:
            return Shift(value=prior)
        return Shift(value=shift_for(*labels(await in_thread(self._store.judgements, repository)), prior))

    async def keep(
        self, run_id: int, report: Report, act: Act, by: str, *, chosen: int | None = None, url: str = ""
    ) -> bool:
        """Keep what `by` did; whether it was. `chosen`: the candidate of `Act.USED`, by its index in the ballot.
        `url`: of the pull request where the run may have opened none."""
        if not self._settings.feedback or not report.judged:
            return False
        verdict = report.verdict
        able = credible(verdict.standings, verdict.ballot)
        first = verdict.winner if verdict.winner is not None else able[0].candidate if able else None
        if chosen is None and first is None:
            return False
        shown = first if chosen is None else chosen
        assert shown is not None
        # A person's answer decided, or nothing did: then the count's own probability has no part in it.
        counted = first is not None and verdict.answered is None
        cells = verdict.ballot.cells
        await in_thread(
            self._store.judge,
            run_id,
            act,
            by,
            odds=odds_of(verdict.standing(first), verdict.ballot) if counted and first is not None else None,
            candidate=verdict.number(shown),
            overruled=first is not None and cells[shown] != cells[first],
            pull_request_url=url,
        )
        return True
