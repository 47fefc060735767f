"""SIGKILL of real processes at every point, and outages of Redis: nothing is lost, nothing finished is done again."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bot.dispatch.arq import ArqDispatcher
from bot.lifecycle import RunState
from bot.store import Store, run_job
from bot.worker.sweeper import Sweeper
from bot.worker.worker import serve
from tests.bot.queueing import queue_command, queue_run, start, state_of
from tests.bot.worker.killed_process import POINTS, STAGES, Process
from tests.bot.worker.working import Fake, solve, worker_of
from tests.patience import PATIENCE, eventually, soon
from tests.services import RedisServer


def kill(what: str, folder: Path, *arguments: str) -> int:
    """How many processes were killed; all that were started were."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.bot.worker.killed_process", what, str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=len(POINTS) * PATIENCE,
        check=False,
    )
    lines = done.stdout.split("\n")[:-1]
    assert done.returncode == 0, done.stderr
    assert set(lines) == {"killed"}, done.stdout + done.stderr
    return len(lines)


def effects(folder: Path) -> list[str]:
    return (folder / "effects").read_text().splitlines()


@pytest.fixture
def folder(tmp_path: Path, store: Store) -> Path:
    """Where `store` has its file, as the processes expect it."""
    return tmp_path


async def test_a_worker_killed_at_every_point_loses_no_step_and_repeats_no_finished_one(folder: Path, store: Store):
    run_id = queue_run(store)
    assert kill("everywhere", folder) == len(POINTS) == 3 * len(STAGES) + 1
    await soon(Process(folder).run_until_idle())
    # Killed once after the effect and before its record: that one step, and only then, is made a second time.
    assert Counter(effects(folder)) == {str(stage): 2 for stage in STAGES}
    assert list(dict.fromkeys(effects(folder))) == [str(stage) for stage in STAGES]
    assert store.step_keys(run_id) == tuple(f"step/{stage}" for stage in STAGES)
    info = store.run(run_id)
    assert info is not None
    assert (info.state, info.crashes, info.attempt) == (RunState.SOLVED, len(POINTS), len(POINTS) + 1)
    assert (store.report(run_id), info.pull_request_url) == ('{"the": "whole count"}', "http://x/1")


async def test_a_run_that_kills_its_worker_three_times_is_parked_and_told(folder: Path, store: Store):
    run_id = queue_run(store)
    assert kill("parked", folder) == 3
    await soon(Process(folder, max_crashes=3).run_until_idle())
    assert state_of(store, run_id) is RunState.PARKED
    assert effects(folder).count("matrix") == 3
    assert effects(folder)[-1] == "told: parked"


async def test_a_command_whose_worker_was_killed_is_executed_by_another(folder: Path, store: Store):
    queue_command(store)
    kill("command", folder)
    await soon(Process(folder).run_until_idle())
    assert effects(folder) == ["command 1", "command 1"]
    assert store.due(now=1e12) == ()


async def test_the_web_killed_after_its_commit_and_before_the_queue_loses_no_run(folder: Path, store: Store):
    kill("web", folder)
    assert store.accept("the-guid", "issues", "labeled", start()).duplicate  # GitHub's redelivery would not help
    await soon(Process(folder).run_until_idle())
    [run] = store.runs()
    assert run.state is RunState.SOLVED
    assert effects(folder) == [str(stage) for stage in STAGES]


@pytest.mark.service
async def test_a_worker_killed_on_redis_is_followed_by_another(folder: Path, store: Store, redis_url: str):
    run_id = queue_run(store)
    kill("redis", folder, redis_url)
    await soon(Process(folder, redis_url=redis_url).run_until_idle())
    assert state_of(store, run_id) is RunState.SOLVED
    assert Counter(effects(folder)) == {str(stage): 2 if stage is RunState.MATRIX else 1 for stage in STAGES}


@pytest.mark.service
async def test_a_redis_that_is_down_and_then_flushed_and_then_restarted_loses_no_run(
    store: Store, fake: Fake, redis_server: RedisServer
):
    fake.run = solve
    worker = worker_of(store, fake)
    queues = {"run": 1, "command": 1}
    web = ArqDispatcher(worker.handle, queues, redis_server.url)
    redis_server.stop()
    first = queue_run(store, issue=1)
    with pytest.raises(ConnectionError):
        await web.enqueue(run_job(first))  # the web answers 202 all the same
    redis_server.start()
    second = queue_run(store, issue=2)
    await web.enqueue(run_job(second))
    redis_server.flush()

    dispatcher = ArqDispatcher(worker.handle, queues, redis_server.url, poll_seconds=0.01)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(worker, dispatcher, Sweeper(store, dispatcher, 0.02), stop))
    await until_ended(store, first, second)
    redis_server.stop()
    third = queue_run(store, issue=3)
    redis_server.start()
    await until_ended(store, third)
    stop.set()
    await soon(serving)
    await web.close()
    assert sorted(fake.executed) == [(first, 1), (second, 1), (third, 1)]


async def until_ended(store: Store, *run_ids: int) -> None:
    await eventually(lambda: all(state_of(store, run_id) is RunState.SOLVED for run_id in run_ids))
