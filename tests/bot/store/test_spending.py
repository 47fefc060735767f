"""What runs cost, by run, repository and day; caps; the pause switch."""

from datetime import UTC, datetime

import pytest

from bot.errors import LeaseLost
from bot.settings import SpendingSettings
from bot.store import Store
from bot.store.spending import resets
from tests.bot.queueing import make_available, queue_run, store_now

PRICES = ("*=1/1",)


def capped(store: Store, **caps: float) -> Store:
    store.spending = SpendingSettings.model_validate({"prices": PRICES} | caps)
    return store


def claimed(store: Store, issue: int = 1, repository: str = "octo/repo") -> int:
    run_id = queue_run(store, issue, repository)
    assert store.claim_run(run_id, "w", 1000) is not None
    return run_id


def test_what_runs_cost_is_kept_by_run_repository_and_month(store: Store) -> None:
    first, second, other = claimed(store), claimed(store, 2), claimed(store, 1, "octo/other")
    for run_id, costs in ((first, (0.25, 1.0, 1.0)), (second, (2.0,)), (other, (5.5,))):
        for cost in costs:
            store.spend(run_id, 1, cost)
    assert [store.cost(run_id) for run_id in (first, second, other)] == [1.0, 2.0, 5.5]
    assert [(row.repository, row.cost, row.runs) for row in store.spent()] == [
        ("octo/other", 5.5, 1),
        ("octo/repo", 3.0, 2),
    ]
    assert store.spent_now() == {"day": 8.5, "month": 8.5}
    assert list(store.months().values()) == [8.5]
    assert store.spent("2001-01") == ()


def test_a_cost_never_shrinks_and_an_earlier_attempt_writes_nothing(store: Store) -> None:
    run_id = claimed(store)
    store.spend(run_id, 1, 2.0)
    store.spend(run_id, 1, 1.0)
    assert store.cost(run_id) == store.spent_now()["day"] == 2.0
    store.release(run_id, 1)
    store.claim_run(run_id, "w", 1000)
    with pytest.raises(LeaseLost):
        store.spend(run_id, 1, 3.0)
    assert store.cost(run_id) == 2.0


def test_the_tightest_cap_bounds_a_run(store: Store) -> None:
    capped(store, run=4, day=10, repository_day=6)
    first, second = claimed(store), claimed(store, 2)
    room = store.spend(first, 1, 1.0)
    assert room is not None
    assert (room.limit, room.why) == (4.0, "the cap of 4.00 USD a run")
    room = store.spend(second, 1, 3.0)
    assert room is not None
    assert (room.limit, room.why) == (4.0, "the cap of 4.00 USD a run")
    room = store.spend(first, 1, 2.5)  # 5.5 of the repository's 6 are spent: this run may cost half a dollar more
    assert room is not None
    assert (room.limit, room.why) == (3.0, "this repository's cap of 6.00 USD a day")


@pytest.mark.parametrize(
    ("caps", "repository", "words"),
    [
        ({"day": 2}, "octo/other", "the cap of 2.00 USD a day is reached"),
        ({"month": 2}, "octo/other", "the cap of 2.00 USD a month is reached"),
        ({"repository_day": 2}, "octo/repo", "this repository's cap of 2.00 USD a day is reached"),
        ({"repository_month": 1.5}, "octo/repo", "this repository's cap of 1.50 USD a month is reached"),
        ({"repository_month": 2}, "octo/other", ""),
        ({"day": 2.01, "month": 3}, "octo/repo", ""),
        ({"run": 1}, "octo/repo", ""),
    ],
)
def test_a_new_run_waits_for_the_day_or_month_that_is_spent(
    store: Store, caps: dict[str, float], repository: str, words: str
) -> None:
    capped(store, **caps)
    store.spend(claimed(store), 1, 2.0)
    hold = store.hold(repository)
    assert (hold.reason if hold else "").partition(";")[0] == words
    if hold:
        assert "it resets, on 1 " in hold.reason or "day" in words
        assert hold.until > store_now(store)


@pytest.mark.parametrize(
    ("window", "now", "reset"),
    [
        ("day", "2026-01-31T23:59:59", "2026-02-01T00:00:00"),
        ("day", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
        ("month", "2026-12-31T12:00:00", "2027-01-01T00:00:00"),
        ("month", "2028-02-29T12:00:00", "2028-03-01T00:00:00"),
        ("month", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_when_a_day_and_a_month_end(window: str, now: str, reset: str) -> None:
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in (now, reset)]
    assert resets(window, moments[0]) == moments[1]


def test_while_paused_a_run_waits_told_once_and_goes_on_at_once(store: Store) -> None:
    run_id = queue_run(store)
    store.pause("an upgrade", "ann")
    paused, hold = store.paused(), store.hold("octo/repo")
    assert paused is not None
    assert hold is not None
    assert (paused.reason, paused.by) == ("an upgrade", "ann")
    assert hold.reason == "Troop is paused by its operator: an upgrade; the run starts when it goes on"
    assert store.claim_run(run_id, "w", 1000) is not None  # to tell the issue
    store.hold_run(run_id, 1, hold.reason, hold.until)
    assert store.due() == ()
    make_available(store, run_id)
    assert store.claim_run(run_id, "w", 1000) is None  # it was told that already
    assert store.due() == ()
    held = store.run(run_id)
    assert held is not None
    assert (held.hold, held.progress, held.attempt, held.crashes) == (hold.reason, hold.reason, 1, 0)
    store.pause("something else")
    make_available(store, run_id)
    again = store.claim_run(run_id, "w", 1000)  # another reason is told, too
    assert again is not None
    store.hold_run(run_id, again.attempt, "something else", hold.until)
    assert store.resume() == 1
    assert store.paused() is None
    assert store.due() == (f"run:{run_id}:2",)
    assert store.claim_run(run_id, "w", 1000) is not None


def test_a_run_that_waits_can_be_stopped_and_one_under_way_goes_on(store: Store) -> None:
    waiting, under_way = queue_run(store), claimed(store, 2)
    store.pause()
    hold = store.hold("octo/repo")
    assert hold is not None
    store.claim_run(waiting, "w", 1000)
    store.hold_run(waiting, 1, hold.reason, hold.until)
    assert store.request_stop(waiting, "ann asked for it")
    assert store.claim_announcement(waiting, "w", 10) is not None
    store.release(under_way, 1)
    assert store.claim_run(under_way, "w", 1000) is not None


def test_the_setting_pauses_too(store: Store) -> None:
    store.paused_by_setting = True
    assert store.hold("octo/repo") is not None
    assert store.resume() == 0
    assert store.hold("octo/repo") is not None
