"""Deletes old rows. Runs and their reports are kept."""

from sqlalchemy import delete, select, tuple_

from bot.store.base import Part
from bot.store.models import COMMAND, DELIVERY, RUN, STEP

DAY = 86_400.0  # seconds


class Pruning(Part):
    def prune(self, keep_days: float, limit: int = 2000) -> int:
        """Delete deliveries, executed commands, and the steps of ended runs, older than that; how many rows.

        At most `limit` of each, so that others don't wait long for the database; call it again where that many were
        deleted. GitHub redelivers for three days, so younger deliveries must be kept, or they would be executed twice.
        """
        with self.database.write() as tx:
            before = self.database.now(tx) - keep_days * DAY
            deliveries = select(DELIVERY.c.guid).where(DELIVERY.c.received_at < before).limit(limit)
            commands = select(COMMAND.c.id).where(COMMAND.c.done, COMMAND.c.finished_at < before).limit(limit)
            steps = (
                select(STEP.c.run_id, STEP.c.key)
                .join(RUN, RUN.c.id == STEP.c.run_id)
                .where(RUN.c.finished_at < before)
                .limit(limit)
            )
            return sum(
                tx.execute(statement).rowcount
                for statement in (
                    delete(DELIVERY).where(DELIVERY.c.guid.in_(deliveries)),
                    delete(COMMAND).where(COMMAND.c.id.in_(commands)),
                    delete(STEP).where(tuple_(STEP.c.run_id, STEP.c.key).in_(steps)),
                )
            )
