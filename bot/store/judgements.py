"""What people made of runs' winners, one row a run: the newest act replaces the one before."""

from typing import Any

from sqlalchemy import delete, exists, or_, select, update

from bot.lifecycle import ACTIVE
from bot.records import Act, Judgement
from bot.store.base import Part
from bot.store.models import JUDGEMENT, REPORT, RUN

NEWEST = 200  # of a repository that count, so that a change of its model is followed


class Judgements(Part):
    def run_of_pull(self, repository: str, pull: int) -> int | None:
        """The newest run with a count that made or revised the pull request; None for one that is not ours."""
        query = (
            select(RUN.c.id)
            .where(
                RUN.c.repository == repository,
                or_(RUN.c.pull_number == pull, RUN.c.pull_request_url.endswith(f"/pull/{pull}")),
                exists().where(REPORT.c.run_id == RUN.c.id),
            )
            .order_by(RUN.c.id.desc())
            .limit(1)
        )
        with self.database.read() as tx:
            return tx.scalar(query)

    def revision_of(self, repository: str, pull: int, until: float) -> int | None:
        """The active run that revises the pull request and was asked for until that moment; None for none."""
        wanted = (RUN.c.repository == repository, RUN.c.pull_number == pull, RUN.c.state.in_(ACTIVE))
        with self.database.read() as tx:
            return tx.scalar(select(RUN.c.id).where(*wanted, RUN.c.created_at <= until))

    def judge(
        self,
        run_id: int,
        act: Act,
        by: str,
        *,
        odds: float | None,
        candidate: int,
        overruled: bool = False,
        pull_request_url: str = "",
    ) -> None:
        """Keep the act, in the place of an earlier one. `candidate` and `overruled` count for `Act.USED`, and for the
        first act; `pull_request_url` for a run that has made none of its own. `odds`: as of `Judgement`.
        """
        shown = {"candidate": candidate, "overruled": overruled}
        with self.database.write() as tx:
            values = {"act": act, "judged_by": by, "accepted": act.accepts, "judged_at": self.database.now(tx)}
            insert = self.database.insert(JUDGEMENT).values(run_id=run_id, odds=odds, **values, **shown)
            replaced = values | (shown if act is Act.USED else {})
            tx.execute(insert.on_conflict_do_update(index_elements=["run_id"], set_=replaced))
            if pull_request_url:
                made = (RUN.c.id == run_id, RUN.c.pull_request_url.is_(None))
                tx.execute(update(RUN).where(*made).values(pull_request_url=pull_request_url))

    def judgements(self, repository: str = "", limit: int = NEWEST) -> tuple[Judgement, ...]:
        """The newest first; of all repositories where none is named."""
        query = select(JUDGEMENT, RUN.c.repository, RUN.c.issue_number).join(RUN, RUN.c.id == JUDGEMENT.c.run_id)
        if repository:
            query = query.where(RUN.c.repository == repository)
        query = query.order_by(JUDGEMENT.c.judged_at.desc(), JUDGEMENT.c.run_id.desc()).limit(limit)
        with self.database.read() as tx:
            return tuple(map(_judgement, tx.execute(query)))

    def judged_repositories(self) -> tuple[str, ...]:
        """Those with judgements."""
        query = select(RUN.c.repository).join(JUDGEMENT, RUN.c.id == JUDGEMENT.c.run_id).distinct()
        with self.database.read() as tx:
            return tuple(tx.scalars(query.order_by(RUN.c.repository)))

    def forget_judgements(self, repository: str) -> int:
        """Delete the repository's; how many."""
        of = select(RUN.c.id).where(RUN.c.repository == repository)
        with self.database.write() as tx:
            return tx.execute(delete(JUDGEMENT).where(JUDGEMENT.c.run_id.in_(of))).rowcount


def _judgement(row: Any) -> Judgement:
    return Judgement(
        run_id=row.run_id,
        repository=row.repository,
        issue_number=row.issue_number,
        act=Act(row.act),
        by=row.judged_by,
        odds=row.odds,
        candidate=row.candidate,
        overruled=row.overruled,
        accepted=row.accepted,
        at=Part.moment(row.judged_at),
    )
