"""The journal of a run in the database."""

import json
from collections.abc import Collection

from sqlalchemy import Float, Integer, Text, literal, select

from bot.errors import LeaseLost
from bot.sanitize.redact import redact_strings
from bot.store.base import Part, held
from bot.store.models import RUN, STEP
from bot.store.threads import in_thread

_FOR_PEOPLE = " "  # before a step that was redacted


class Steps(Part):
    def get_step(self, run_id: int, key: str) -> str | None:
        """The stored JSON, or None."""
        with self.database.read() as tx:
            return tx.scalar(select(STEP.c.payload).where(STEP.c.run_id == run_id, STEP.c.key == key))

    def put_step(self, run_id: int, attempt: int, key: str, payload: str) -> None:
        """Store one step; a second of the same key keeps the first. Raises `LeaseLost`.

        The fence is part of the statement: the row is selected from the run's row, which matches only the attempt that
        holds the lease.
        """
        with self.database.write() as tx:
            source = (
                select(
                    RUN.c.id,
                    literal(key, Text),
                    literal(payload, Text),
                    literal(attempt, Integer),
                    literal(self.database.now(tx), Float),
                )
                .where(held(run_id, attempt))
                .with_for_update(read=True)  # PostgreSQL: no claim may commit between this check and our commit
            )
            written = tx.execute(
                self.database.insert(STEP)
                .from_select(["run_id", "key", "payload", "attempt", "created_at"], source)
                .on_conflict_do_nothing()
                .returning(STEP.c.run_id)
            ).first()
            if written is None and tx.scalar(select(RUN.c.id).where(held(run_id, attempt))) is None:
                raise LeaseLost(
                    f"run {run_id} is no longer held by its attempt {attempt}: it was taken by another, or has ended"
                )

    def step_keys(self, run_id: int, prefix: str = "") -> tuple[str, ...]:
        """Keys of the finished steps that begin with `prefix`, in the order in which they were stored."""
        query = select(STEP.c.key).where(STEP.c.run_id == run_id).order_by(STEP.c.created_at, STEP.c.key)
        if prefix:
            query = query.where(STEP.c.key.startswith(prefix, autoescape=True))
        with self.database.read() as tx:
            return tuple(tx.scalars(query))

    def steps_of(self, run_ids: Collection[int], prefix: str, limit: int) -> tuple[tuple[int, str], ...]:
        """The newest steps of these runs whose keys begin with `prefix`: run and JSON."""
        query = select(STEP.c.run_id, STEP.c.payload).where(STEP.c.run_id.in_(run_ids))
        query = query.where(STEP.c.key.startswith(prefix, autoescape=True))
        with self.database.read() as tx:
            rows = tx.execute(query.order_by(STEP.c.created_at.desc(), STEP.c.key.desc()).limit(limit))
            return tuple((int(row.run_id), row.payload) for row in rows)


class DbJournal:
    """`contracts.Journal` of one claimed run.

    What is stored has none of the `secrets`, and nothing in the form of a token. A step that held one is stored for
    people alone, with a space before its JSON: a resumed run must not go on with code in which `[redacted]` stands, so
    it does such a step again.
    """

    def __init__(self, steps: Steps, run_id: int, attempt: int, secrets: Collection[str] = ()) -> None:
        self._secrets = secrets
        self._steps = steps
        self._run_id = run_id
        self._attempt = attempt

    async def get(self, key: str) -> str | None:
        stored = await in_thread(self._steps.get_step, self._run_id, key)
        return None if stored is None or stored.startswith(_FOR_PEOPLE) else stored

    async def put(self, key: str, value: str) -> None:
        await in_thread(self._put, key, value)

    def _put(self, key: str, value: str) -> None:
        self._steps.put_step(self._run_id, self._attempt, key, _stored(value, self._secrets))


def _stored(value: str, secrets: Collection[str]) -> str:
    parsed = json.loads(value)
    redacted = redact_strings(parsed, secrets)
    return value if redacted == parsed else _FOR_PEOPLE + json.dumps(redacted)
