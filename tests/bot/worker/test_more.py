"""More attempts that vote with those of an earlier run."""

import pytest

from bot.journal import MemoryJournal
from bot.records import Again
from bot.settings import SolverSettings
from bot.solver.stopping import ALL, stopping
from bot.store import Store
from bot.worker.executor import Service
from tests.bot.queueing import queue_run
from tests.bot.sample import report


@pytest.mark.parametrize("settings", [{"stop_at": 0.8}, {"stop": "first-finish"}, {"stop": "short-m"}])
async def test_who_asks_for_more_attempts_gets_all_of_them(store: Store, settings: dict[str, object]) -> None:
    run = store.claim_run(queue_run(store), "w", 1000)
    assert run is not None
    run = run.model_copy(update={"again": Again(command_id=1, sender="ann", more=5, of_run=run.id)})
    before, solver = report(), SolverSettings.model_validate(settings)
    found = await Service._sampling(run, MemoryJournal(), solver, before)
    assert stopping(found) == ALL
    assert found.trajectories == len(before.trajectories) + 5
    alone = await Service._sampling(run.model_copy(update={"again": None}), MemoryJournal(), solver, None)
    assert stopping(alone) == stopping(solver) != ALL
