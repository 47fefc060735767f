"""Processes that kill themselves with SIGKILL, for `test_killed.py`. No clean-up runs in them, as in an outage.

Run as `python -m tests.bot.worker.killed_process WHAT FOLDER [ARGUMENT]`; it forks one process a death, and prints how
each ended. The pipeline has one step a stage; each leaves a line in the file `effects`, which stands for what a step
costs or does outside.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bot.contracts import Dispatcher
from bot.dispatch.arq import ArqDispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from bot.journal import once
from bot.lifecycle import ACTIVE, RunState
from bot.records import ClaimedCommand, ClaimedRun, Reply
from bot.store import Store
from bot.worker.callbacks import Advance, Callbacks, Executed, Finished
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, serve
from tests.bot.queueing import start
from tests.patience import soon

LEASE = 0.2  # seconds
STAGES = [state for state in RunState if state in ACTIVE][1:]
MOMENTS = ("entered", "made", "stored")  # of each step: before its effect, after it, after it is in the journal
POINTS = [f"{stage}:{moment}" for stage in STAGES for moment in MOMENTS] + ["ending"]


class Process:
    """A worker whose pipeline dies at one point; with an empty point it lives."""

    def __init__(self, folder: Path, point: str = "", redis_url: str = "", max_crashes: int = 100) -> None:
        self.point = point
        self.effects = folder / "effects"
        self.store = Store.open(f"sqlite:///{folder / 'troop.sqlite3'}", max_crashes=max_crashes)
        self.worker = Worker(self.store, Callbacks(self.execute, self.command, self.announce), lease_seconds=LEASE)
        queues = {"run": 1, "command": 1}
        self.dispatcher: Dispatcher = InProcessDispatcher(self.worker.handle, queues)
        if redis_url:
            self.dispatcher = ArqDispatcher(self.worker.handle, queues, redis_url, poll_seconds=0.01)
        self.idle = asyncio.Event()

    async def run_until_idle(self) -> None:
        """Work until nothing is left to do, whoever holds it."""
        sweeper = Sweeper(self.store, self.dispatcher, LEASE / 8)
        serving = asyncio.create_task(serve(self.worker, self.dispatcher, sweeper, self.idle))
        while self.store.due(now=1e12):  # noqa: ASYNC110 - any process may do the work; only the database knows
            await asyncio.sleep(LEASE / 8)
        self.idle.set()
        await serving
        self.store.close()

    async def execute(self, run: ClaimedRun, journal, progress, advance: Advance) -> Finished:
        for stage in STAGES:
            await advance(stage)

            async def make(stage: RunState = stage) -> Reply:
                self.die_at(f"{stage}:entered")
                self.effect(str(stage))
                self.die_at(f"{stage}:made")
                return Reply(text=f"result of {stage}")

            assert (await once(journal, f"step/{stage}", Reply, make)).text == f"result of {stage}"
            self.die_at(f"{stage}:stored")
        self.die_at("ending")
        return Finished(state=RunState.SOLVED, report_json='{"the": "whole count"}', pull_request_url="http://x/1")

    async def command(self, command: ClaimedCommand) -> Executed:
        self.effect(f"command {command.id}")
        self.die_at("command")
        return Executed()

    async def announce(self, run: ClaimedRun, state: RunState, reason: str) -> None:
        self.effect(f"told: {state}")

    def effect(self, line: str) -> None:
        with self.effects.open("a") as file:
            file.write(line + "\n")

    def die_at(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


def die(what: Callable[[], None]) -> None:
    """Do it in a forked process that is expected to be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            what()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    print("killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else f"status {status}")


def work(folder: Path, point: str, redis_url: str = "", max_crashes: int = 100) -> None:
    async def main() -> None:
        await Process(folder, point, redis_url, max_crashes).run_until_idle()

    asyncio.run(soon(main()))


def web(folder: Path) -> None:
    """The web's part, killed between its commit and its hand-over to the queue."""
    store = Store.open(f"sqlite:///{folder / 'troop.sqlite3'}")
    store.accept("the-guid", "issues", "labeled", start())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["everywhere", folder]:
            for point in POINTS:
                die(lambda point=point: work(Path(folder), point))
        case ["parked", folder]:
            for _ in range(3):
                die(lambda: work(Path(folder), "matrix:made", max_crashes=3))
        case ["command", folder]:
            die(lambda: work(Path(folder), "command"))
        case ["web", folder]:
            die(lambda: web(Path(folder)))
        case ["redis", folder, url]:
            die(lambda: work(Path(folder), "matrix:made", url))
        case other:
            raise SystemExit(f"what is {other}?")
