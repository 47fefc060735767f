"""What a run spends is in the database while it goes on, and however it ends."""

import asyncio

import pytest

from bot.settings import SpendingSettings
from bot.store import Store
from bot.worker import spending
from bot.worker.spending import accounted
from tests.bot.queueing import queue_run
from tests.patience import eventually

SETTINGS = SpendingSettings(prices=("*=1/1",), run=5.0, day=6.0)


async def test_the_cost_is_stored_meanwhile_and_caps_reach_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "INTERVAL", 0.01)
    store.spending = SETTINGS
    first, second = queue_run(store), queue_run(store, 2)
    one, two = store.claim_run(first, "w", 1000), store.claim_run(second, "w", 1000)
    assert one is not None
    assert two is not None
    async with accounted(store, one, SETTINGS) as allowance:
        assert (allowance.limit, allowance.spent) == (5.0, 0.0)
        allowance.spent = 1.5
        await eventually(lambda: store.cost(first) == 1.5)
        store.spend(second, 1, 4.0)  # the day has half a dollar left
        await eventually(lambda: allowance.limit == 2.0)
        assert allowance.why == "the cap of 6.00 USD a day"
        allowance.spent = 1.75
    assert store.cost(first) == 1.75
    store.release(first, 1)
    again = store.claim_run(first, "w", 1000)
    assert again is not None
    async with accounted(store, again, SETTINGS) as allowance:
        assert allowance.spent == 1.75


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError])
async def test_a_run_that_breaks_off_has_cost_what_it_has_cost(store: Store, error: type[BaseException]) -> None:
    run_id = queue_run(store)
    run = store.claim_run(run_id, "w", 1000)
    assert run is not None

    async def breaks_off() -> None:
        async with accounted(store, run, SETTINGS) as allowance:
            allowance.spent = 0.5
            raise error

    with pytest.raises(error):
        await breaks_off()
    assert store.cost(run_id) == 0.5


async def test_after_another_worker_took_the_run_nothing_is_written(store: Store) -> None:
    run_id = queue_run(store)
    run = store.claim_run(run_id, "w", 1000)
    assert run is not None
    async with accounted(store, run, SETTINGS) as allowance:
        store.release(run_id, 1)
        allowance.spent = 0.5
    assert store.cost(run_id) == 0.0
