"""Runs a second through the whole store, queue and worker with an empty pipeline.

    python -m tests.bench.bench_queue [--quick] [--json FILE]

Two baselines in the same run: the empty pipeline called directly, with no store and no queue; and what no store could
do without, the bare `sqlite3` module making as many durable commits (an fsync each) as a run has: its delivery, its
claim, its six stages, its end.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bot.contracts import Dispatcher
from bot.dispatch.arq import ArqDispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from bot.dispatch.queues import queues
from bot.journal import MemoryJournal
from bot.lifecycle import ACTIVE, RunState
from bot.records import ClaimedCommand, ClaimedRun
from bot.store import Store
from bot.worker.callbacks import Advance, Callbacks, Executed, Finished
from bot.worker.worker import StoredProgress, Worker
from tests.bot.queueing import start
from tests.services import RedisServer, redis_executable

AT_ONCE = 4  # runs
COMMITS = 9  # a run
STAGES = [state for state in RunState if state in ACTIVE][1:]


async def empty_pipeline(run: ClaimedRun, journal: object, progress: object, advance: Advance) -> Finished:
    """What the real one does with the store, less the work: it enters every stage and ends."""
    for stage in STAGES:
        await advance(stage)
    return Finished(state=RunState.SOLVED, report_json="{}")


async def direct(count: int) -> float:
    """Runs a second without store and queue."""

    async def advance(_state: RunState) -> None: ...

    run = ClaimedRun(
        id=1,
        repository="octo/repo",
        installation_id=None,
        issue=start().issue,
        sender="ann",
        labelled_at=start().labelled_at,
        state=RunState.QUEUED,
        attempt=1,
    )
    begun = time.perf_counter()
    for _ in range(count):
        await empty_pipeline(run, MemoryJournal(), StoredProgress(), advance)
    return count / (time.perf_counter() - begun)


def bare_commits(count: int, folder: Path) -> float:
    """Runs a second if a run were only its commits."""
    connection = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, state TEXT)")
    begun = time.perf_counter()
    for n in range(count):
        connection.execute("INSERT INTO run VALUES (?, ?)", (n, "queued"))
        for commit in range(COMMITS - 1):
            connection.execute("UPDATE run SET state = ? WHERE id = ?", (str(commit), n))
    rate = count / (time.perf_counter() - begun)
    connection.close()
    return rate


async def through(count: int, folder: Path, make: Callable[[Worker], Dispatcher]) -> float:
    """Runs a second from delivery to the stored end. Checks that every run ended once, and well."""
    store = Store.open(f"sqlite:///{folder / 'troop.sqlite3'}", quota_runs_per_hour=count)
    ended = asyncio.Event()
    done = 0

    async def execute_command(_command: ClaimedCommand) -> Executed:
        raise AssertionError("there are no commands here")

    async def announce(run: ClaimedRun, state: RunState, reason: str) -> None:
        raise AssertionError(f"run {run.id} is {state}: {reason}")

    worker = Worker(store, Callbacks(empty_pipeline, execute_command, announce), name="bench")
    handle = worker.handle

    async def counted(job_id: str) -> str | None:
        nonlocal done
        following = await handle(job_id)
        done += 1
        if done == count:
            ended.set()
        return following

    worker.handle = counted  # type: ignore[method-assign]
    async with running(make(worker)) as dispatcher:
        begun = time.perf_counter()
        for n in range(count):
            accepted = await asyncio.to_thread(store.accept, f"guid-{n}", "issues", "labeled", start(issue=n))
            assert accepted.job_id is not None
            await dispatcher.enqueue(accepted.job_id)
        await asyncio.wait_for(ended.wait(), 600)
        seconds = time.perf_counter() - begun
    runs = store.runs(limit=count + 1)
    assert [(run.state, run.attempt) for run in runs] == [(RunState.SOLVED, 1)] * count
    store.close()
    return count / seconds


@contextlib.asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[Dispatcher]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        await dispatcher.close()
        await task


async def measure(count: int) -> dict[str, float]:
    figures = {"direct calls": await direct(max(count, 1000))}
    with tempfile.TemporaryDirectory() as folder:
        figures["bare commits"] = bare_commits(count, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        figures["in-process"] = await through(
            count, Path(folder), lambda worker: InProcessDispatcher(worker.handle, queues(AT_ONCE))
        )
    executable = redis_executable()
    if executable is None:
        raise SystemExit("no redis-server: apt-get install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(executable, Path(folder))
        server.start()
        try:
            figures["arq on Redis"] = await through(
                count, Path(folder), lambda worker: ArqDispatcher(worker.handle, queues(AT_ONCE), server.url)
            )
        finally:
            server.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 runs instead of 500")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    count = 50 if arguments.quick else 500
    figures = asyncio.run(measure(count))
    device = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, SQLite with fsync"
    called, bare = figures["direct calls"], figures["bare commits"]
    print(f"{count} runs with an empty pipeline, {AT_ONCE} at once; {device}")
    for name, rate in figures.items():
        print(
            f"{name:>14}  {rate:>10.0f} runs/s  {1000 / rate:>8.3f} ms/run  "
            f"{rate / bare:>8.2f} of bare commits  1/{called / rate:.0f} of direct calls"
        )
    if arguments.json:
        values = {
            "benchmark": "queue",
            "runs": count,
            "at_once": AT_ONCE,
            "device": device,
            "runs_per_second": figures,
            "ratio_to_bare_commits": {name: rate / bare for name, rate in figures.items()},
            "ratio_to_direct_calls": {name: rate / called for name, rate in figures.items()},
        }
        arguments.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
