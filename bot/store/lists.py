"""Lists of runs for people: filtered, searched, and read page by page from where the last one ended."""

import re
from collections.abc import Collection

from sqlalchemy import ColumnElement, func, or_, select

from bot.lifecycle import ACTIVE, RunState
from bot.records import Record
from bot.store.base import Part, plain
from bot.store.models import RUN
from bot.store.queries import SHOWN, RunInfo, run_info

_NUMBER = re.compile(r"#?(\d{1,15})")


class RunFilter(Record):
    """Which runs are listed. `repositories`: those that may be seen; None: all."""

    repositories: frozenset[str] | None = None
    repository: str = ""
    states: frozenset[RunState] = frozenset()  # empty: all
    words: str = ""  # in the issue's title, or its number, or the repository's name


class Listed(Record):
    """One page of a list, the newest first. `newer`, `older`: whether there are such runs beyond it."""

    runs: tuple[RunInfo, ...]
    newer: bool
    older: bool


class Lists(Part):
    def listed(
        self, wanted: RunFilter, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> Listed:
        """The page of runs older than `before`, or the one of runs next newer than `after`, else the newest."""
        where = _conditions(wanted)
        query = select(*SHOWN).where(*where).limit(limit + 1)
        if after is not None:
            query = query.where(RUN.c.id > after).order_by(RUN.c.id)
        else:
            query = query.where(*([] if before is None else [RUN.c.id < before])).order_by(RUN.c.id.desc())
        with self.database.read() as tx:
            rows = [run_info(row, self._secrets) for row in tx.execute(query)]
        more = len(rows) > limit
        rows = rows[:limit]
        if after is not None:
            return Listed(runs=tuple(reversed(rows)), newer=more, older=True)
        return Listed(runs=tuple(rows), newer=before is not None, older=more)

    def repositories(self, visible: Collection[str] | None = None) -> tuple[str, ...]:
        """Those that have runs, of the `visible` ones."""
        query = select(RUN.c.repository).distinct().order_by(RUN.c.repository)
        with self.database.read() as tx:
            found = tuple(tx.scalars(query))
        return found if visible is None else tuple(name for name in found if name in visible)

    def mark(self) -> str:
        """Changes whenever a list may: with a new run, one that ends, and what those under way tell."""
        active = select(func.count(), func.max(RUN.c.updated_at)).where(RUN.c.state.in_(ACTIVE))
        with self.database.read() as tx:
            newest = tx.scalar(select(func.max(RUN.c.id))) or 0
            count, updated = tx.execute(active).one()
            return f"{newest}-{count}-{updated or 0:.3f}"

    def outcomes(self, repository: str) -> dict[RunState, int]:
        """How many runs of the repository are in each state. Notices are not counted."""
        query = (
            select(RUN.c.state, func.count())
            .where(RUN.c.repository == repository, ~RUN.c.is_notice)
            .group_by(RUN.c.state)
        )
        with self.database.read() as tx:
            return {RunState(state): count for state, count in tx.execute(query)}


def _conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.repository:
        found.append(RUN.c.repository == plain(wanted.repository))
        if wanted.repositories is not None and wanted.repository not in wanted.repositories:
            found.append(RUN.c.id < 0)
    elif wanted.repositories is not None:
        found.append(RUN.c.repository.in_(sorted(wanted.repositories)))
    if wanted.states:
        found.append(RUN.c.state.in_(sorted(wanted.states)))
    words = plain(wanted.words).strip()
    if number := _NUMBER.fullmatch(words):
        found.append(RUN.c.issue_number == int(number[1]))
    elif words:
        found.append(
            or_(
                func.lower(RUN.c.title).contains(words.lower(), autoescape=True),
                func.lower(RUN.c.repository).contains(words.lower(), autoescape=True),
            )
        )
    return found


STATES: dict[str, frozenset[RunState]] = {"active": ACTIVE} | {
    state.value: frozenset({state}) for state in RunState if state not in ACTIVE
}
