"""Requests that must not get lost, or be done twice: attacks 5, 6, 36, 37, 42."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.errors import RetryRefused
from bot.lifecycle import RunState
from bot.store import Store, parse
from bot.webhook.decisions import CancelRun, StartRun
from bot.worker.executor import _folder
from tests.bot.queueing import LABELLED_AT, again, cancel, claim, command, expire, queue_run, start, state_of

LATER = LABELLED_AT + timedelta(seconds=1)


def active(store: Store) -> list[int]:
    return [run.id for run in store.runs(active=True)]


def relabelled(sender: str = "ann") -> StartRun:
    return start().model_copy(update={"sender": sender, "labelled_at": LATER})


def test_attack_36_a_label_that_comes_while_the_run_is_stopping_starts_a_run_after_it(store: Store):
    first = queue_run(store)
    attempt = claim(store, first)
    store.accept("off", "issues", "unlabeled", cancel())
    accepted = store.accept("on", "issues", "labeled", relabelled())
    assert accepted.note == f"run {first} is stopping; a new run starts once it has ended"
    following = store.finish(first, attempt, RunState.STOPPED, announce=True)
    assert following is not None
    assert active(store) == [following]
    assert store.claim_announcement(first, "w", 60) is None, "telling would take the new label off"
    again = store.claim_run(following, "w", 60)
    assert again is not None
    assert again.labelled_at == LATER


def test_a_label_that_comes_while_a_dead_worker_holds_the_run_starts_one_after_it(store: Store):
    first = queue_run(store)
    claim(store, first)
    store.accept("off", "issues", "unlabeled", cancel())
    store.accept("on", "issues", "labeled", relabelled())
    expire(store, first)
    assert store.claim_run(first, "w", 60) is None
    [following] = active(store)
    assert following != first
    assert f"run:{following}:0" in store.due()


@pytest.mark.parametrize(("wishes", "runs"), [(["off", "on", "off"], 0), (["off", "on", "off", "on"], 1)])
def test_attack_36_the_last_wish_counts(store: Store, wishes: list[str], runs: int):
    first = queue_run(store)
    attempt = claim(store, first)
    for n, wish in enumerate(wishes):
        store.accept(str(n), "issues", wish, cancel() if wish == "off" else relabelled())
    following = store.finish(first, attempt, RunState.STOPPED, announce=True)
    assert (following is not None, len(active(store))) == (bool(runs), runs)
    assert (store.claim_announcement(first, "w", 60) is None) == bool(runs)


def test_a_label_right_after_a_run_was_stopped_at_once_keeps_its_label(store: Store):
    first = queue_run(store)
    store.accept("off", "issues", "unlabeled", cancel())
    assert state_of(store, first) is RunState.STOPPED
    second = parse(store.accept("on", "issues", "labeled", relabelled()).job_id or "").id
    assert store.claim_announcement(first, "w", 60) is None
    assert store.needs_label(second)


def test_a_label_that_is_taken_off_by_an_announcement_under_way_does_not_count(store: Store):
    first = queue_run(store)
    store.accept("off", "issues", "unlabeled", cancel())
    assert store.claim_announcement(first, "w", 60) is not None
    second = parse(store.accept("on", "issues", "labeled", relabelled()).job_id or "").id
    assert not store.needs_label(second)
    store.announced(first)
    assert not store.needs_label(second)


def test_an_unlabel_that_arrives_late_does_not_stop_the_newer_request(store: Store):
    first = parse(store.accept("on", "issues", "labeled", relabelled()).job_id or "").id
    late = cancel().model_copy(update={"at": LABELLED_AT})
    assert store.accept("off", "issues", "unlabeled", late).note.endswith(f"before run {first} was asked for")
    assert active(store) == [first]


def test_attack_36_retry_while_the_run_is_stopping_is_remembered(store: Store):
    first = queue_run(store)
    attempt = claim(store, first)
    with pytest.raises(RetryRefused, match="still queued"):
        store.start_again(first, again())
    assert store.request_stop(first, "ann asked for it")
    assert store.start_again(first, again()) is None
    following = store.finish(first, attempt, RunState.STOPPED, announce=True)
    assert following is not None
    run = store.run(following)
    assert run is not None
    assert run.retry_of == first
    assert not store.needs_label(following), "a command started it"


def test_stop_after_retry_forgets_it(store: Store):
    first = queue_run(store)
    attempt = claim(store, first)
    store.request_stop(first, "ann asked for it")
    store.start_again(first, again())
    store.request_stop(first, "ann asked for it again")
    assert store.finish(first, attempt, RunState.STOPPED) is None
    assert active(store) == []


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "not yet checked"])
def test_attack_37_people_who_may_not_start_runs_do_not_use_up_the_quota_of_those_who_may(store: Store, refused: bool):
    for issue in range(1, 10):
        reader = start(issue).model_copy(update={"sender": "reader"})
        job = store.accept(f"r{issue}", "issues", "labeled", reader).job_id
        if job is not None and refused and (run := store.claim_run(parse(job).id, "w", 60)) is not None:
            store.finish(run.id, run.attempt, RunState.REFUSED)
    assert store.accept("m", "issues", "labeled", start(20)).note.endswith("is queued")
    runs = [run for run in store.runs(limit=100) if run.sender == "reader"]
    assert len(runs) == 4, "the quota of three, and one notice"


def test_attack_42_a_renamed_repository_is_one_repository(store: Store):
    store.accept("g1", "issues", "labeled", start().model_copy(update={"repository_id": 77}))
    renamed = start(repository="octo/new-name").model_copy(update={"repository_id": 77})
    accepted = store.accept("g2", "issues", "labeled", renamed)
    assert accepted.note == "run 1 of this issue is queued already"
    assert [run.repository for run in store.runs()] == ["octo/new-name"]
    stop = CancelRun(repository="octo/new-name", issue_number=1, reason="closed", repository_id=77)
    assert store.accept("g3", "issues", "closed", stop).note == "closed; run 1 is stopped"


def test_another_repository_that_takes_the_old_name_is_another(store: Store):
    for guid, name, number in (("g1", "octo/a", 1), ("g2", "octo/b", 2), ("g3", "octo/c", 1), ("g4", "octo/a", 2)):
        store.accept(guid, "issues", "labeled", start(repository=name).model_copy(update={"repository_id": number}))
    assert [(run.id, run.repository) for run in store.runs()] == [(2, "octo/a"), (1, "octo/c")]


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**53, 2**63 - 1])
def test_attack_42_numbers_beyond_32_bits(store: Store, number: int):
    decision = start(issue=number).model_copy(update={"repository_id": number, "installation_id": number})
    assert store.accept("g", "issues", "labeled", decision).job_id is not None
    run = store.claim_run(1, "w", 60)
    assert run is not None
    assert (run.issue.number, run.installation_id) == (number, number)


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)])
def test_attack_42_dates_at_the_ends_of_time(store: Store, moment: datetime):
    store.accept("g", "issues", "labeled", start().model_copy(update={"labelled_at": moment}))
    run = store.claim_run(1, "w", 60)
    assert run is not None
    assert run.labelled_at == moment


def test_attack_42_a_command_that_waits_is_renamed_with_its_repository(store: Store):
    old = start().model_copy(update={"repository": "octo/old", "repository_id": 77})
    store.accept("1", "issues", "labeled", old)
    asked = command().model_copy(update={"repository": "octo/old", "repository_id": 77})
    job = parse(store.accept("2", "issue_comment", "created", asked).job_id or "")
    renamed = start(issue=2).model_copy(update={"repository": "octo/new", "repository_id": 77})
    store.accept("3", "issues", "labeled", renamed)
    assert job is not None
    claimed = store.claim_command(job.id, "w", 60)
    assert claimed is not None
    assert claimed.repository == "octo/new"
    assert claimed.run_id == 1


async def test_an_attempt_that_begins_late_leaves_the_files_of_a_later_one_alone(tmp_path: Path) -> None:
    """It has lost its lease meanwhile, which it learns at its next write; found by `make chaos`."""
    (tmp_path / "run-7-1").mkdir()
    (tmp_path / "run-7-3").mkdir()
    (tmp_path / "run-70-1").mkdir()
    async with _folder(tmp_path / "run-7-2") as mine:
        assert mine.is_dir()
        assert sorted(one.name for one in tmp_path.iterdir()) == ["run-7-2", "run-7-3", "run-70-1"]
    assert (tmp_path / "run-7-3").is_dir()
