"""A run's lease: claimed, renewed, fenced by its attempt number, and given back or ended."""

import json
import math
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from bot.errors import LeaseLost, RunStopped
from bot.lifecycle import ACTIVE, STAGES, STOPPABLE, RunState, allowed
from bot.records import ClaimedRun
from bot.store.base import Wanted, available, claimed_run, free, held, plain
from bot.store.holds import AGAIN, Holds
from bot.store.models import REPORT, RUN, STEP


class Runs(Holds):
    def claim_run(self, run_id: int, worker: str, lease_seconds: float) -> ClaimedRun | None:
        """Take the run for `lease_seconds`, as a new attempt; None where it can't be claimed.

        A lease that ran out is counted as a crash, unless its own worker claims the run again, which lives and only
        could not reach the database; the `max_crashes`-th parks the run instead. A run that was asked to
        stop while nobody held it is stopped instead. Both ends have still to be announced (`claim_announcement`).
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(
                select(RUN)
                .where(RUN.c.id == run_id, RUN.c.state.in_(ACTIVE), free(RUN, now), available(RUN, now))
                .with_for_update(skip_locked=True)
            ).first()
            if row is None or self.still_held(tx, now, row):
                return None
            crashes = row.crashes + (row.lease_until is not None and row.worker != worker)
            unchanged = (RUN.c.id == run_id, RUN.c.attempt == row.attempt, RUN.c.state == row.state)
            if row.stop_reason is not None and row.state in STOPPABLE:
                end = self.end_values(now, RunState.STOPPED, row.stop_reason, announce=True)
                tx.execute(update(RUN).where(*unchanged).values(crashes=crashes, **end))
                self.start_wanted(tx, now, row)
                return None
            if crashes >= self.max_crashes:
                reason = (
                    f"the run's worker died {crashes} times, the last time in the state {row.state}; look into the "
                    "worker's log and memory, then start it again with `/troop retry`"
                )
                end = self.end_values(now, RunState.PARKED, reason, announce=True)
                tx.execute(update(RUN).where(*unchanged).values(crashes=crashes, **end))
                self._keep_report(tx, run_id, self._counted(tx, run_id))
                self.start_wanted(tx, now, row)
                return None
            taken = tx.execute(
                update(RUN)
                .where(*unchanged)
                .values(
                    attempt=row.attempt + 1,
                    worker=worker,
                    lease_until=now + lease_seconds,
                    crashes=crashes,
                    hold=None,
                    updated_at=now,
                )
                .returning(RUN)
            ).first()
            return None if taken is None else claimed_run(taken)

    def renew(self, run_id: int, attempt: int, lease_seconds: float, progress: str | None = None) -> str | None:
        """Extend the lease, and store the progress for the status page. Returns a reason to stop, if there is one.

        Raises `LeaseLost` where the attempt is no longer the newest or the run has ended.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            values: dict[str, object] = {"lease_until": now + lease_seconds, "updated_at": now}
            if progress is not None:
                values["progress"] = plain(progress)
            row = tx.execute(
                update(RUN).where(held(run_id, attempt)).values(**values).returning(RUN.c.stop_reason, RUN.c.state)
            ).first()
            if row is None:
                raise _lost(run_id, attempt)
            return row.stop_reason if row.state in STOPPABLE else None

    def advance(self, run_id: int, attempt: int, new_state: RunState) -> RunState:
        """Enter the next stage; the state that the run is in now.

        A stage that a resumed run has already passed changes nothing: then this only checks the fence, which is to be
        checked before every write to GitHub. Raises `LeaseLost`, `RunStopped` where somebody asked for
        it before publishing began, and ValueError for a transition that `bot.lifecycle` does not know.
        """
        with self.database.write() as tx:
            row = tx.execute(select(RUN).where(held(run_id, attempt)).with_for_update()).first()
            if row is None:
                raise _lost(run_id, attempt)
            state = RunState(row.state)
            if row.stop_reason is not None and state in STOPPABLE:
                raise RunStopped(row.stop_reason)
            if new_state in ACTIVE and STAGES.index(new_state) <= STAGES.index(state):
                return state
            if new_state not in ACTIVE or not allowed(state, new_state):
                raise ValueError(f"a run can't go from {state} to {new_state}; see bot.lifecycle")
            tx.execute(
                update(RUN)
                .where(held(run_id, attempt))
                .values(state=new_state, progress="", updated_at=self.database.now(tx))
            )
            return new_state

    def finish(
        self,
        run_id: int,
        attempt: int,
        state: RunState,
        *,
        reason: str = "",
        report_json: str | None = None,
        pull_request_url: str | None = None,
        announce: bool = False,
    ) -> int | None:
        """End the run. With `announce`, the issue has still to be told. Storing the same end again changes nothing.

        Without a `report_json`, the one that the run's journal has is kept: of a run that could not be published, say.

        Returns the id of the run that was asked for while this one was stopping, if there is one: it is queued now.

        Raises `LeaseLost`, and ValueError for an end that `bot.lifecycle` does not allow from where the run is.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(select(RUN).where(RUN.c.id == run_id).with_for_update()).first()
            if row is None or row.attempt != attempt:
                raise _lost(run_id, attempt)
            if row.state == state and state not in ACTIVE:
                return None  # the answer to the first call was lost
            if row.state not in ACTIVE or row.lease_until is None:
                raise _lost(run_id, attempt)
            if state in ACTIVE or not allowed(RunState(row.state), state):
                raise ValueError(f"a run can't end as {state} from {row.state}; see bot.lifecycle")
            end = self.end_values(now, state, reason, announce=announce)
            tx.execute(update(RUN).where(held(run_id, attempt)).values(pull_request_url=pull_request_url, **end))
            self._keep_report(tx, run_id, report_json or self._counted(tx, run_id))
            return self.start_wanted(tx, now, row)

    @staticmethod
    def _counted(tx: Connection, run_id: int) -> str | None:
        """The report that the run's journal has, for people: with a space before it, if it was redacted."""
        found = tx.scalar(select(STEP.c.payload).where(STEP.c.run_id == run_id, STEP.c.key == "report"))
        return None if found is None else str(found).strip()

    def _keep_report(self, tx: Connection, run_id: int, report_json: str | None) -> None:
        if report_json is not None:
            tx.execute(self.database.insert(REPORT).values(run_id=run_id, text=report_json))
            tx.execute(update(RUN).where(RUN.c.id == run_id).values(tokens=_tokens(report_json)))

    def release(self, run_id: int, attempt: int) -> None:
        """Give the run back, to be claimed at once by another worker. No crash is counted.

        Raises `LeaseLost`, also where the run was given back already.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            self._give_run_back(tx, now, run_id, attempt, {})

    def postpone(
        self, run_id: int, attempt: int, reason: str, delays: Sequence[float], at_least: float = 0.0
    ) -> float | None:
        """Give the run back after an infrastructure error; the seconds until it may be claimed again.

        The n-th time waits `delays[n]`, and at least `at_least`. None, and nothing is changed, where the run was
        given back `len(delays)` times before. Raises `LeaseLost`.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(select(RUN).where(RUN.c.id == run_id, RUN.c.attempt == attempt).with_for_update()).first()
            if row is None:
                raise _lost(run_id, attempt)
            if row.setbacks >= len(delays):
                return None
            delay = max(delays[int(row.setbacks)], at_least)
            values = {"setbacks": row.setbacks + 1, "available_at": now + delay, "reason": plain(reason)}
            self._give_run_back(tx, now, run_id, attempt, values)
            return delay

    def hold_run(self, run_id: int, attempt: int, reason: str, until: float) -> None:
        """Give a run back that may not start yet, once the issue was told why: until then, at most `AGAIN` seconds.

        No setback is counted. Raises `LeaseLost`.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            values = {"hold": plain(reason), "progress": plain(reason), "available_at": min(until, now + AGAIN)}
            self._give_run_back(tx, now, run_id, attempt, values)

    def request_stop(self, run_id: int, reason: str, *, asked_at: float = math.inf) -> bool:
        """Stop the run: at once where no worker holds it (its end is then to be announced), else through its worker.

        `asked_at`: when that was wished, by the database's clock; a label that came after it starts a run of its own.
        False, and nothing is changed, where it has ended or is being published.
        """
        with self.database.write() as tx:
            now = self.database.now(tx)
            row = tx.execute(select(RUN).where(RUN.c.id == run_id).with_for_update()).first()
            if row is None:
                return False
            later = row.wanted is not None and Wanted.model_validate_json(row.wanted).asked_at > asked_at
            if self.stop_row(tx, now, run_id, reason, keep_wanted=later):
                if later:
                    self.start_wanted(tx, now, row)
                return True
            return row.state in STOPPABLE

    @staticmethod
    def _give_run_back(tx: Connection, now: float, run_id: int, attempt: int, values: dict[str, object]) -> None:
        given = tx.execute(
            update(RUN)
            .where(held(run_id, attempt))
            .values(lease_until=None, worker=None, updated_at=now, **values)
            .returning(RUN.c.id)
        ).first()
        if given is None:
            raise _lost(run_id, attempt)


def _tokens(report_json: str) -> int:
    """Of all calls, prompt and completion; 0 where an earlier version's report does not say."""
    usage = json.loads(report_json).get("usage", {})
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))


def _lost(run_id: int, attempt: int) -> LeaseLost:
    return LeaseLost(f"run {run_id} is no longer held by its attempt {attempt}: it was taken by another, or has ended")
