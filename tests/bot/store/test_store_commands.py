import pytest
import sqlalchemy as sa

from bot.errors import LeaseLost
from bot.lifecycle import RunState
from bot.records import CommandName
from bot.store import Store
from bot.store.commands import PATIENCE
from bot.store.models import COMMAND
from tests.bot.queueing import again, expire_command, queue_command, queue_run, store_now


def test_a_command_is_claimed_once_and_done_once(store: Store):
    run_id = queue_run(store)
    command_id = queue_command(store)
    claimed = store.claim_command(command_id, "w", 60)
    assert claimed is not None
    assert (claimed.command.name, claimed.sender, claimed.comment_id) == (CommandName.STATUS, "ann", 2**41)
    assert (claimed.run_id, claimed.run_state, claimed.attempt) == (run_id, RunState.QUEUED, 1)
    assert store.claim_command(command_id, "other", 60) is None
    store.finish_command(command_id, claimed.attempt, "answered")
    assert store.claim_command(command_id, "other", 60) is None
    assert "command:1" not in store.due()


def test_a_command_knows_the_newest_run_of_its_issue(store: Store):
    first = queue_run(store)
    store.request_stop(first, "enough")
    second = store.start_again(first, again())
    claimed = store.claim_command(queue_command(store, comment=1), "w", 60)
    elsewhere = store.claim_command(queue_command(store, comment=2, issue=77), "w", 60)
    assert claimed is not None
    assert claimed.run_id == second
    assert elsewhere is not None
    assert (elsewhere.run_id, elsewhere.run_state) == (None, None)


def test_one_whose_worker_died_is_taken_by_another_and_the_first_is_fenced(store: Store):
    command_id = queue_command(store)
    assert store.claim_command(command_id, "w", 60)
    expire_command(store, command_id)
    assert store.due() == ("command:1",)
    second = store.claim_command(command_id, "other", 60)
    assert second is not None
    for write in (
        lambda: store.renew_command(command_id, 1, 60),
        lambda: store.finish_command(command_id, 1),
        lambda: store.release_command(command_id, 1),
        lambda: store.postpone_command(command_id, 1, "", [1.0]),
    ):
        with pytest.raises(LeaseLost, match="command 1 is no longer held by its attempt 1"):
            write()
    store.renew_command(command_id, second.attempt, 60)


def test_one_that_kills_its_worker_each_time_is_given_up(store: Store):
    command_id = queue_command(store)
    for n in range(3):
        assert store.claim_command(command_id, f"w{n}", 60)
        expire_command(store, command_id)
    assert store.claim_command(command_id, "w", 60) is None
    assert store.due() == ()


def test_given_back_it_is_due_at_once_or_after_a_wait(store: Store):
    command_id = queue_command(store)
    assert store.claim_command(command_id, "w", 60)
    store.release_command(command_id, 1)
    assert store.due() == ("command:1",)
    assert store.claim_command(command_id, "w", 60)
    assert store.postpone_command(command_id, 2, "GitHub is away", [5.0, 30.0]) == 30.0
    assert store.due() == ()
    assert store.due(now=store_now(store) + 31) == ("command:1",)
    assert store.postpone_command(command_id, 3, "still", [5.0, 30.0]) is None


def test_commands_of_a_conversation_are_executed_in_their_order(store: Store):
    """`/troop stop` and then `/troop retry` mean something in this order alone."""
    first, second = queue_command(store, comment=1), queue_command(store, comment=2)
    elsewhere = queue_command(store, comment=3, issue=77)
    assert store.claim_command(second, "w", 60) is None
    assert store.claim_command(elsewhere, "w", 60) is not None
    claimed = store.claim_command(first, "w", 60)
    assert claimed is not None
    assert store.claim_command(second, "w", 60) is None
    assert store.finish_command(first, claimed.attempt) == second
    claimed = store.claim_command(second, "w", 60)
    assert claimed is not None
    assert store.finish_command(second, claimed.attempt) is None


def test_a_command_does_not_wait_for_ever(store: Store):
    first, second = queue_command(store, comment=1), queue_command(store, comment=2)
    assert store.claim_command(first, "w", 60) is not None
    with store.database.write() as tx:
        earlier = store.database.now(tx) - PATIENCE - 1
        tx.execute(sa.update(COMMAND).where(COMMAND.c.id == first).values(created_at=earlier))
    assert store.claim_command(second, "w", 60) is not None
