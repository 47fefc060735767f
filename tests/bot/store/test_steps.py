import pytest

from bot.errors import LeaseLost
from bot.journal import once
from bot.records import Reply
from bot.store import DbJournal, Store
from tests.bot.queueing import expire, queue_run


async def test_a_step_is_kept_for_the_next_attempt_and_made_once(store: Store):
    run_id = queue_run(store)
    made = 0

    async def make() -> Reply:
        nonlocal made
        made += 1
        return Reply(text="it’s \x00 done ✓")

    for attempt in (1, 2):
        assert store.claim_run(run_id, "w", 60)
        journal = DbJournal(store, run_id, attempt)
        assert (await once(journal, "trajectory/3/test/1", Reply, make)).text == "it’s \x00 done ✓"
        expire(store, run_id)
    assert made == 1


async def test_the_first_value_of_a_key_stays(store: Store):
    run_id = queue_run(store)
    assert store.claim_run(run_id, "w", 60)
    journal = DbJournal(store, run_id, 1)
    assert await journal.get("k") is None
    await journal.put("k", "1")
    await journal.put("k", "2")
    await journal.put("l", "3")
    assert await journal.get("k") == "1"
    assert store.step_keys(run_id) == ("k", "l")


async def test_an_older_attempt_reads_but_does_not_write(store: Store):
    run_id = queue_run(store)
    assert store.claim_run(run_id, "w", 60)
    old = DbJournal(store, run_id, 1)
    await old.put("k", "1")
    expire(store, run_id)
    assert store.claim_run(run_id, "other", 60)
    with pytest.raises(LeaseLost):
        await old.put("l", "1")
    with pytest.raises(LeaseLost):
        await old.put("k", "1")  # also where the key is there: whoever goes on would go on with the next act
    assert await old.get("k") == "1"
    assert store.step_keys(run_id) == ("k",)


def test_the_journals_of_two_runs_are_apart(store: Store):
    first, second = queue_run(store, issue=1), queue_run(store, issue=2)
    assert store.claim_run(first, "w", 60)
    assert store.claim_run(second, "w", 60)
    store.put_step(first, 1, "k", "1")
    assert store.get_step(second, "k") is None


async def test_attack_35_what_is_stored_has_no_secret_and_is_made_again(store: Store):
    run_id = queue_run(store)
    token, known = "ghp_" + "x1Y2" * 9, "operators-own-secret"
    made = 0

    async def make() -> Reply:
        nonlocal made
        made += 1
        return Reply(text=f"use {token} and {known}")

    for attempt in (1, 2):
        assert store.claim_run(run_id, "w", 60)
        journal = DbJournal(store, run_id, attempt, (known,))
        assert token in (await once(journal, "k", Reply, make)).text, "the run goes on with what the model wrote"
        expire(store, run_id)
    assert made == 2
    stored = store.get_step(run_id, "k") or ""
    assert Reply.model_validate_json(stored).text == "use [redacted] and [redacted]"
