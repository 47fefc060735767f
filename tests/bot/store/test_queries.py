from bot.lifecycle import RunState
from bot.store import Store
from tests.bot.queueing import queue_command, queue_run


def test_due_lists_commands_first_and_then_runs_the_oldest_first(store: Store):
    runs = [queue_run(store, issue=n) for n in (3, 1, 2)]
    queue_command(store)
    assert store.due() == ("command:1", *(f"run:{id_}:0" for id_ in runs))
    assert store.due(limit=1) == ("command:1", f"run:{runs[0]}:0")


def test_runs_can_be_paged_and_filtered(store: Store):
    ids = [queue_run(store, issue=n) for n in (1, 2)]
    other = queue_run(store, repository="octo/other")
    store.request_stop(ids[0], "enough")

    def found(**filters) -> list[int]:
        return [run.id for run in store.runs(**filters)]

    assert found() == [other, ids[1], ids[0]]
    assert found(limit=1) == [other]
    assert found(before=other) == [ids[1], ids[0]]
    assert found(repository="octo/repo", issue_number=2) == [ids[1]]
    assert found(active=True) == [other, ids[1]]
    assert found(active=False) == [ids[0]]
    assert store.counts()[RunState.QUEUED] == 2
    assert store.counts()[RunState.STOPPED] == 1
    assert store.counts()[RunState.SOLVED] == 0
    info = store.run(ids[0])
    assert info is not None
    assert info.issue_title == "It breaks"
    assert info.stop_requested
