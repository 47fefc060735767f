"""What runs cost: by run, and by repository and day, in the currency of the settings. Days and months are UTC's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.engine import Connection

from bot.errors import LeaseLost
from bot.records import Record
from bot.settings import Cap
from bot.store.base import Part, held
from bot.store.models import RUN, SPENDING


class Room(Record):
    """How much a run may cost in all, by the cap that leaves it least."""

    limit: float
    why: str


class Spent(Record):
    """What a repository's runs cost in a month."""

    repository: str
    cost: float
    runs: int


def utc(seconds: float) -> datetime:
    """A moment in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def resets(window: str, now: float) -> float:
    """When the present day or month ends, in seconds since 1970."""
    midnight = utc(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "day":
        return (midnight + timedelta(days=1)).timestamp()
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()


class Spending(Part):
    def spend(self, run_id: int, attempt: int, cost: float) -> Room | None:
        """Store what the run has cost so far, and tell how much it may; None: no cap is set.

        The cost only grows: less than what is stored changes nothing. Raises `LeaseLost`.
        """
        with self.database.write() as tx:
            row = tx.execute(
                select(RUN.c.cost, RUN.c.repository).where(held(run_id, attempt)).with_for_update()
            ).first()
            if row is None:
                raise LeaseLost(f"run {run_id} is no longer held by its attempt {attempt}")
            now = self.database.now(tx)
            if cost > row.cost:
                tx.execute(update(RUN).where(RUN.c.id == run_id).values(cost=cost))
                self._enter(tx, now, row.repository, cost - row.cost, first=row.cost == 0)
            return self._room(tx, now, row.repository, max(cost, row.cost))

    def cost(self, run_id: int) -> float:
        """What the run has cost, as it is stored."""
        with self.database.read() as tx:
            return float(tx.scalar(select(RUN.c.cost).where(RUN.c.id == run_id)) or 0.0)

    def spent(self, month: str = "") -> tuple[Spent, ...]:
        """By repository, in a month such as `2026-01`, else in the present one; the most expensive first."""
        with self.database.read() as tx:
            month = month or f"{utc(self.database.now(tx)):%Y-%m}"
            rows = tx.execute(
                select(
                    SPENDING.c.repository,
                    func.sum(SPENDING.c.cost).label("cost"),
                    func.sum(SPENDING.c.runs).label("runs"),
                )
                .where(*_of_month(month))
                .group_by(SPENDING.c.repository)
                .order_by(func.sum(SPENDING.c.cost).desc(), SPENDING.c.repository)
            )
            return tuple(Spent(repository=row.repository, cost=row.cost, runs=row.runs) for row in rows)

    def months(self) -> dict[str, float]:
        """What each month cost in all, the newest first."""
        month = func.substr(SPENDING.c.day, 1, 7)
        query = select(month, func.sum(SPENDING.c.cost)).group_by(month).order_by(month.desc())
        with self.database.read() as tx:
            return {name: float(cost) for name, cost in tx.execute(query)}

    def spent_now(self) -> dict[str, float]:
        """What the present `day` and `month` cost so far."""
        with self.database.read() as tx:
            now = self.database.now(tx)
            return {window: self._in(tx, now, window, None) for window in ("day", "month")}

    def windows(self, tx: Connection, now: float, repository: str) -> Iterator[tuple[Cap, float]]:
        """The caps of days and months, each with what is spent of it."""
        for cap in self.spending.caps:
            if cap.window != "run":
                yield cap, self._in(tx, now, cap.window, repository if cap.of_repository else None)

    def _room(self, tx: Connection, now: float, repository: str, cost: float) -> Room | None:
        rooms = [Room(limit=cap.amount, why=cap.words) for cap in self.spending.caps if cap.window == "run"]
        for cap, spent in self.windows(tx, now, repository):
            rooms.append(Room(limit=cost + cap.amount - spent, why=cap.words))
        return min(rooms, key=lambda room: room.limit, default=None)

    def _enter(self, tx: Connection, now: float, repository: str, cost: float, *, first: bool) -> None:
        insert = self.database.insert(SPENDING).values(
            day=f"{utc(now):%Y-%m-%d}", repository=repository, cost=cost, runs=int(first)
        )
        more = {"cost": SPENDING.c.cost + insert.excluded.cost, "runs": SPENDING.c.runs + insert.excluded.runs}
        tx.execute(insert.on_conflict_do_update(index_elements=["day", "repository"], set_=more))

    @staticmethod
    def _in(tx: Connection, now: float, window: str, repository: str | None) -> float:
        today = utc(now)
        where = [SPENDING.c.day == f"{today:%Y-%m-%d}"] if window == "day" else list(_of_month(f"{today:%Y-%m}"))
        if repository is not None:
            where.append(SPENDING.c.repository == repository)
        return float(tx.scalar(select(func.sum(SPENDING.c.cost)).where(*where)) or 0.0)


def _of_month(month: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return SPENDING.c.day >= f"{month}-01", SPENDING.c.day <= f"{month}-31"
