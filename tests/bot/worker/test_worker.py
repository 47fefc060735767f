"""Jobs that are executed, and how they end."""

import asyncio
import errno
from pathlib import Path

import pytest

from bot.errors import (
    CheckoutError,
    EndpointDown,
    ForgeError,
    LeaseLost,
    RateLimited,
    Refused,
    RunStopped,
    SandboxError,
)
from bot.lifecycle import RunState
from bot.records import ClaimedRun
from bot.store import Store, run_job
from bot.worker.callbacks import Callbacks, Finished
from bot.worker.worker import DELAYS, Worker, decisive
from bot.worker.worker import reason as words_of
from tests.bot.queueing import make_available, queue_run, store_now
from tests.bot.worker.working import Fake, failing, info, solve, worker_of


async def test_a_run_is_executed_and_its_end_is_stored(store: Store, fake: Fake, worker: Worker):
    run_id = queue_run(store)
    assert await worker.handle(run_job(run_id)) is None
    end = info(store, run_id)
    assert (end.state, end.pull_request_url, store.report(run_id)) == (RunState.SOLVED, "http://x/pull/1", "{}")
    assert fake.told == []
    assert store.due() == ()


async def test_a_job_that_comes_many_times_to_many_workers_is_executed_once(store: Store, fake: Fake):
    run_id = queue_run(store)
    workers = [worker_of(store, fake, name=f"w{n}") for n in range(5)]
    await asyncio.gather(*(worker.handle(run_job(run_id)) for worker in workers for _ in range(3)))
    await workers[0].handle(run_job(run_id))
    assert fake.executed == [(run_id, 1)]


@pytest.mark.parametrize("job_id", ["", "nonsense", "run:1", "run:99:0", "command:99"])
async def test_what_is_not_there_is_survived(job_id: str, worker: Worker, fake: Fake):
    assert await worker.handle(job_id) is None
    assert fake.executed == []


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "has run out of disk space"),
        (errno.EMFILE, "has run out of open files"),
        (errno.EROFS, "has a disk that can't be written"),
    ],
)
def test_what_the_server_ran_out_of_is_told_without_its_paths(number: int, what: str) -> None:
    words = words_of(OSError(number, "No more", "/data/runs/run-1-1/secret-name"))
    assert words == f"the server {what}; its log has the details"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CheckoutError("the repository holds 3 GB, more than the 2 GB allowed"), "holds 3 GB"),
        (Refused("the branch is protected"), "the branch is protected"),
        (KeyError("password=hunter2"), "an unexpected error (KeyError); the worker's log has the details"),
        (ExceptionGroup("both", [KeyError("x"), SandboxError("docker is away")]), "(KeyError)"),
    ],
    ids=["ours", "refused", "unexpected", "group"],
)
async def test_an_error_fails_the_run_with_a_reason_that_people_may_read(
    store: Store, fake: Fake, worker: Worker, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
):
    fake.run = failing(error)
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.FAILED
    assert reason in info(store, run_id).reason
    assert "hunter2" not in info(store, run_id).reason
    assert fake.told == [(RunState.FAILED, info(store, run_id).reason)]
    assert "Traceback" in caplog.text
    assert store.due() == ()


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ConnectionError("the database restarts"), 5),
        (SandboxError("the daemon restarts"), 5),
        (EndpointDown("the model's endpoint restarts"), 5),
        (ForgeError("GitHub answered 502"), 5),
        (OSError(errno.ENOSPC, "No space left on device"), 5),
        (RateLimited("GitHub said wait", retry_after=90.0), 90),
        (ExceptionGroup("both", [SandboxError("a"), ConnectionError("b")]), 5),
    ],
    ids=["connection", "sandbox", "endpoint", "forge", "disk full", "rate", "group"],
)
async def test_an_infrastructure_error_gives_the_run_back_for_later(
    store: Store, fake: Fake, worker: Worker, error: Exception, seconds: float
):
    fake.run = failing(error)
    run_id = queue_run(store)
    before = store_now(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.QUEUED
    assert store.due(before + seconds - 0.1) == ()
    assert store.due(store_now(store) + seconds) == (run_job(run_id, 1),)
    make_available(store, run_id)
    fake.run = solve
    await worker.handle(run_job(run_id, 1))
    assert (info(store, run_id).state, info(store, run_id).crashes) == (RunState.SOLVED, 0)
    assert fake.told == []


async def test_an_infrastructure_error_that_stays_fails_the_run(store: Store, fake: Fake, worker: Worker):
    fake.run = failing(SandboxError("there is no Docker daemon"))
    run_id = queue_run(store)
    for _ in range(len(DELAYS) + 1):
        make_available(store, run_id)
        await worker.handle(run_job(run_id))
    assert len(fake.executed) == len(DELAYS) + 1
    assert fake.told == [(RunState.FAILED, f"gave up after {len(DELAYS) + 1} tries: there is no Docker daemon")]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SandboxError("no socket at tcp://10.1.2.3:2375"), ["no socket at an address; it is tried again in 5 s"]),
        (ForgeError("GitHub answered 502"), []),  # who can't be asked can't be told
    ],
)
async def test_the_issue_is_told_what_a_run_waits_for(store: Store, fake: Fake, error: Exception, told: list[str]):
    waits: list[str] = []

    async def wait(run: ClaimedRun, reason: str) -> None:
        waits.append(reason)

    def words(text: str) -> str:
        return text.replace("tcp://10.1.2.3:2375", "an address")

    fake.run = failing(error)
    callbacks = Callbacks(fake.execute, fake.execute_command, fake.announce, words=words, wait=wait)
    run_id = queue_run(store)
    await Worker(store, callbacks).handle(run_job(run_id))
    assert waits == told
    assert "10.1.2.3" not in info(store, run_id).reason


async def test_an_issue_that_can_not_be_told_loses_nothing_and_is_told_later(store: Store, fake: Fake, worker: Worker):
    def away() -> None:
        raise ForgeError("GitHub answered 500")

    fake.run = failing(CheckoutError("too large"))
    fake.announcing = away
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.FAILED
    assert store.due() == ()
    make_available(store, run_id)
    [job_id] = store.due()
    fake.announcing = lambda: None
    await worker.handle(job_id)
    assert fake.told == [(RunState.FAILED, "too large")]
    assert len(fake.executed) == 1
    assert store.due() == ()


async def test_the_notice_that_the_quota_is_spent_is_told_and_nothing_is_executed(tmp_path: Path, fake: Fake):
    store = Store.open(f"sqlite:///{tmp_path / 'quota.sqlite3'}", quota_runs_per_hour=1)
    queue_run(store, issue=1)
    notice = queue_run(store, issue=2)
    await worker_of(store, fake).handle(run_job(notice))
    assert fake.executed == []
    [(state, reason)] = fake.told
    assert state is RunState.REFUSED
    assert "1 runs an hour" in reason
    store.close()


async def test_the_third_crash_is_told(store: Store, fake: Fake, worker: Worker):
    run_id = queue_run(store)
    for n in range(3):
        assert store.claim_run(run_id, f"killed {n}", -1)  # its lease has run out already
        assert info(store, run_id).attempt == n + 1
    await worker.handle(run_job(run_id, 3))
    assert fake.executed == []
    assert [state for state, _ in fake.told] == [RunState.PARKED]


async def test_an_end_that_the_lifecycle_does_not_know_fails_the_run(store: Store, fake: Fake, worker: Worker):
    async def run(*_: object) -> Finished:
        return Finished(state=RunState.SOLVED)  # without ever publishing

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert info(store, run_id).state is RunState.FAILED
    assert [state for state, _ in fake.told] == [RunState.FAILED]


async def test_a_pipeline_that_told_the_issue_itself_is_not_repeated(store: Store, fake: Fake, worker: Worker):
    async def run(*_: object) -> Finished:
        return Finished(state=RunState.REFUSED, note="may not", announced=True)

    fake.run = run
    run_id = queue_run(store)
    await worker.handle(run_job(run_id))
    assert (info(store, run_id).state, info(store, run_id).reason) == (RunState.REFUSED, "may not")
    assert fake.told == []


def test_of_several_errors_the_one_that_counts_is_taken():
    lost, stopped, infra, other = LeaseLost("l"), RunStopped("s"), SandboxError("i"), KeyError("o")
    assert decisive(ExceptionGroup("", [other, infra, ExceptionGroup("", [stopped, lost])])) is lost
    assert decisive(ExceptionGroup("", [other, stopped])) is stopped
    assert decisive(ExceptionGroup("", [infra, other])) is other
    assert decisive(ExceptionGroup("", [infra])) is infra
    assert decisive(other) is other
