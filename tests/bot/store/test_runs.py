import threading

import pytest

from bot.errors import LeaseLost, RunStopped
from bot.lifecycle import RunState
from bot.store import Store, run_job
from tests.bot.queueing import claim, expire, make_available, queue_run, state_of, store_now

STAGES = [
    RunState.CHECKOUT,
    RunState.CONTEXT,
    RunState.TRAJECTORIES,
    RunState.MATRIX,
    RunState.SELECTION,
    RunState.PUBLISHING,
]


@pytest.fixture
def run_id(store: Store) -> int:
    return queue_run(store)


def test_twenty_workers_claim_at_once_and_one_has_it(store: Store, run_id: int):
    barrier = threading.Barrier(20)
    claims = []

    def work(n: int) -> None:
        barrier.wait()
        claims.append(store.claim_run(run_id, f"w{n}", 60))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 20
    assert [run.attempt for run in claims if run] == [1]


def test_a_held_run_is_neither_claimed_nor_due(store: Store, run_id: int):
    claim(store, run_id)
    assert store.claim_run(run_id, "other", 60) is None
    assert store.due() == ()
    assert store.due(now=store_now(store) + 61) == (run_job(run_id, 1),)


def test_a_lease_that_ran_out_is_taken_and_its_holder_is_fenced(store: Store, run_id: int):
    old = claim(store, run_id)
    expire(store, run_id)
    new = claim(store, run_id)
    assert new == old + 1
    for write in (
        lambda: store.renew(run_id, old, 60),
        lambda: store.advance(run_id, old, RunState.CHECKOUT),
        lambda: store.finish(run_id, old, RunState.FAILED),
        lambda: store.release(run_id, old),
        lambda: store.postpone(run_id, old, "", [1.0]),
        lambda: store.put_step(run_id, old, "k", "{}"),
    ):
        with pytest.raises(LeaseLost, match="no longer held by its attempt 1"):
            write()
    assert store.renew(run_id, new, 60) is None
    assert store.step_keys(run_id) == ()


def test_a_lease_that_ran_out_and_was_not_taken_can_be_renewed(store: Store, run_id: int):
    attempt = claim(store, run_id)
    expire(store, run_id)
    store.renew(run_id, attempt, 60)
    assert store.claim_run(run_id, "other", 60) is None


def test_the_stages_are_passed_in_order(store: Store, run_id: int):
    attempt = claim(store, run_id)
    with pytest.raises(ValueError, match="from queued to context"):
        store.advance(run_id, attempt, RunState.CONTEXT)
    for stage in STAGES:
        assert store.advance(run_id, attempt, stage) is stage
        assert state_of(store, run_id) is stage
    store.finish(run_id, attempt, RunState.SOLVED, report_json="{}", pull_request_url="http://x/1")
    info = store.run(run_id)
    assert info is not None
    assert (info.state, info.pull_request_url, info.worker) == (RunState.SOLVED, "http://x/1", None)
    assert info.finished_at is not None
    assert store.report(run_id) == "{}"
    assert store.due() == ()


def test_a_resumed_run_passes_what_is_behind_it_without_a_change(store: Store, run_id: int):
    attempt = claim(store, run_id)
    for stage in STAGES[:4]:
        store.advance(run_id, attempt, stage)
    expire(store, run_id)
    attempt = claim(store, run_id)
    for stage in STAGES[:4]:
        assert store.advance(run_id, attempt, stage) is RunState.MATRIX
    assert store.advance(run_id, attempt, RunState.SELECTION) is RunState.SELECTION


def test_ends_that_the_lifecycle_does_not_know_are_refused(store: Store, run_id: int):
    attempt = claim(store, run_id)
    for wrong in (RunState.SOLVED, RunState.ABSTAINED, RunState.QUEUED, RunState.MATRIX):
        with pytest.raises(ValueError, match=f"can't end as {wrong} from queued"):
            store.finish(run_id, attempt, wrong)
    with pytest.raises(ValueError, match="from queued to solved"):
        store.advance(run_id, attempt, RunState.SOLVED)
    store.finish(run_id, attempt, RunState.REFUSED, reason="may not")


def test_the_same_end_twice_is_stored_once_and_another_is_refused(store: Store, run_id: int):
    attempt = claim(store, run_id)
    store.finish(run_id, attempt, RunState.FAILED, reason="first")
    store.finish(run_id, attempt, RunState.FAILED, reason="second")
    info = store.run(run_id)
    assert info is not None
    assert info.reason == "first"
    with pytest.raises(LeaseLost):
        store.finish(run_id, attempt, RunState.STOPPED)
    with pytest.raises(LeaseLost):
        store.renew(run_id, attempt, 60)


def test_a_run_given_back_is_taken_at_once_and_no_crash_is_counted(store: Store, run_id: int):
    for expected in range(1, 11):
        attempt = claim(store, run_id)
        assert attempt == expected
        store.release(run_id, attempt)
        assert store.due() == (run_job(run_id, attempt),)
    with pytest.raises(LeaseLost):
        store.put_step(run_id, 10, "k", "{}")  # given back is given back, though no other has it yet
    info = store.run(run_id)
    assert info is not None
    assert (info.crashes, info.attempt) == (0, 10)


def test_the_third_crash_parks_the_run(store: Store, run_id: int):
    for _ in range(3):
        claim(store, run_id)
        expire(store, run_id)
    assert store.claim_run(run_id, "w", 60) is None
    info = store.run(run_id)
    assert info is not None
    assert (info.state, info.crashes, info.attempt) == (RunState.PARKED, 3, 3)
    assert "died 3 times" in info.reason
    assert "/troop retry" in info.reason
    telling = store.claim_announcement(run_id, "w", 60)
    assert telling is not None
    assert (telling.state, telling.reason) == (RunState.PARKED, info.reason)


def test_setbacks_wait_longer_each_time_and_then_are_too_many(store: Store, run_id: int):
    delays = [5.0, 30.0]
    assert store.postpone(run_id, claim(store, run_id), "docker is away", delays) == 5.0
    assert store.claim_run(run_id, "w", 60) is None
    assert store.due() == ()
    assert store.due(now=store_now(store) + 6) == (run_job(run_id, 1),)
    make_available(store, run_id)
    assert store.postpone(run_id, claim(store, run_id), "GitHub said wait", delays, at_least=99.0) == 99.0
    make_available(store, run_id)
    attempt = claim(store, run_id)
    assert store.postpone(run_id, attempt, "again", delays) is None
    store.finish(run_id, attempt, RunState.FAILED)  # still held, so that it can be ended
    info = store.run(run_id)
    assert info is not None
    assert info.crashes == 0


def test_a_stop_is_seen_at_the_next_stage_but_not_once_publishing_began(store: Store, run_id: int):
    attempt = claim(store, run_id)
    store.advance(run_id, attempt, RunState.CHECKOUT)
    assert store.request_stop(run_id, "ann said stop") is True
    store.request_stop(run_id, "ben said it too")
    with pytest.raises(RunStopped, match="ann said stop"):
        store.advance(run_id, attempt, RunState.CONTEXT)
    store.finish(run_id, attempt, RunState.STOPPED)

    second = queue_run(store)
    attempt = claim(store, second)
    for stage in STAGES:
        store.advance(second, attempt, stage)
    assert store.request_stop(second, "too late") is False
    assert store.renew(second, attempt, 60) is None
    store.advance(second, attempt, RunState.PUBLISHING)
    store.release(second, attempt)
    assert store.request_stop(second, "too late as well") is False
    store.finish(second, claim(store, second), RunState.SOLVED)


def test_the_first_who_asks_for_a_stop_is_told(store: Store, run_id: int):
    attempt = claim(store, run_id)
    store.request_stop(run_id, "ann said stop")
    store.release(run_id, attempt)
    assert store.request_stop(run_id, "the label was taken off")  # nobody holds it: at once
    info = store.run(run_id)
    assert info is not None
    assert (info.state, info.reason) == (RunState.STOPPED, "ann said stop")


def test_a_stop_of_a_run_whose_worker_died_later_is_kept(store: Store, run_id: int):
    claim(store, run_id)
    store.request_stop(run_id, "ann said stop")
    expire(store, run_id)
    assert store.claim_run(run_id, "w", 60) is None
    info = store.run(run_id)
    assert info is not None
    assert (info.state, info.reason) == (RunState.STOPPED, "ann said stop")


def test_progress_is_stored_with_the_lease_and_forgotten_at_the_next_stage(store: Store, run_id: int):
    attempt = claim(store, run_id)
    store.renew(run_id, attempt, 60, "checkout: 1 of 2")
    info = store.run(run_id)
    assert info is not None
    assert info.progress == "checkout: 1 of 2"
    store.advance(run_id, attempt, RunState.CHECKOUT)
    info = store.run(run_id)
    assert info is not None
    assert info.progress == ""


def test_words_that_a_database_would_not_take_are_mended(store: Store, run_id: int):
    attempt = claim(store, run_id)
    store.renew(run_id, attempt, 60, "reading a\0b \udcff.py ✓")
    store.finish(run_id, attempt, RunState.FAILED, reason="no file \0 \udcff " + "x" * 100_000)
    info = store.run(run_id)
    assert info is not None
    assert info.progress == "reading a\N{REPLACEMENT CHARACTER}b ?.py ✓"
    assert info.reason.startswith("no file \N{REPLACEMENT CHARACTER} ? xxx")
    assert len(info.reason) == 4000


def test_asking_about_no_run(store: Store):
    assert store.run(99) is None
    assert store.report(99) is None
    assert store.claim_run(99, "w", 60) is None
    assert not store.request_stop(99, "")
    with pytest.raises(LeaseLost):
        store.renew(99, 1, 60)
