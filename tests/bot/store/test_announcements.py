import pytest

from bot.lifecycle import RunState
from bot.store import Store, run_job
from bot.store.announcements import DELAYS
from tests.bot.queueing import cancel, expire, make_available, queue_run, state_of


@pytest.fixture
def ended(store: Store) -> int:
    """A run whose end the issue has not been told of."""
    run_id = queue_run(store)
    run = store.claim_run(run_id, "w", 60)
    assert run is not None
    store.finish(run_id, run.attempt, RunState.FAILED, reason="it broke", announce=True)
    return run_id


def test_an_end_is_told_once(store: Store, ended: int):
    assert store.due() == (run_job(ended, 1),)
    telling = store.claim_announcement(ended, "w", 60)
    assert telling is not None
    assert (telling.run.id, telling.state, telling.reason, telling.is_notice) == (
        ended,
        RunState.FAILED,
        "it broke",
        False,
    )
    assert store.claim_announcement(ended, "other", 60) is None
    assert store.due() == ()
    store.announced(ended)
    assert store.claim_announcement(ended, "w", 60) is None
    assert store.due() == ()


def test_one_whose_teller_died_is_told_by_another(store: Store, ended: int):
    assert store.claim_announcement(ended, "w", 60)
    expire(store, ended)
    assert store.due() == (run_job(ended, 1),)
    assert store.claim_announcement(ended, "other", 60)


def test_a_failed_telling_is_tried_again_later_and_given_up_in_the_end(store: Store, ended: int):
    for delay in DELAYS:
        assert store.claim_announcement(ended, "w", 60)
        assert store.announcement_failed(ended) == delay
        assert store.due() == ()
        make_available(store, ended)
    assert store.claim_announcement(ended, "w", 60)
    assert store.announcement_failed(ended) is None
    make_available(store, ended)
    assert store.due() == ()
    assert state_of(store, ended) is RunState.FAILED


def test_a_telling_that_kills_its_worker_each_time_is_given_up(store: Store, ended: int):
    for _ in range(len(DELAYS) + 1):
        assert store.claim_announcement(ended, "w", 60)
        expire(store, ended)
    assert store.claim_announcement(ended, "w", 60) is None
    assert store.due() == ()


def test_a_good_end_needs_no_telling_and_a_cancelled_one_does(store: Store):
    run_id = queue_run(store)
    assert store.claim_announcement(run_id, "w", 60) is None
    store.accept("c", "issues", "unlabeled", cancel())
    assert store.due() == (run_job(run_id),)
    telling = store.claim_announcement(run_id, "w", 60)
    assert telling is not None
    assert telling.state is RunState.STOPPED


def test_a_notice_is_marked_as_one(store: Store):
    for issue in range(3):
        queue_run(store, issue)
    notice = queue_run(store, issue=4)
    telling = store.claim_announcement(notice, "w", 60)
    assert telling is not None
    assert telling.is_notice
    assert telling.run.issue.number == 4
