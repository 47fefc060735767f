"""A real run whose worker is killed with SIGKILL at one point after another, for `test_killed_run.py`.

Run as `python -m tests.integration.killed_run FOLDER` with the settings as JSON on stdin. One process is forked for
each point; each goes on where the last one died, and the final one lives. Prints how each ended.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from bot.contracts import Journal, Progress
from bot.lifecycle import ACTIVE, RunState
from bot.records import ClaimedRun
from bot.settings import Settings
from bot.store import Store, run_job
from bot.worker.callbacks import Advance, Callbacks, Finished
from bot.worker.executor import Service
from bot.worker.worker import Worker
from tests.patience import PATIENCE

LEASE = 0.4  # seconds
STAGES = [state for state in RunState if state in ACTIVE][1:]
ACTS = 6  # of publishing: before each the fence is called
POINTS = [*(f"state:{state}" for state in STAGES), *(f"act:{n}" for n in range(1, ACTS)), "published"]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


async def work(settings: Settings, run_id: int, point: str) -> None:
    store = Store.from_settings(settings)
    service = Service(settings, store, local=True)

    async def execute(run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        acts = -1  # calls of the fence since publishing was entered

        async def deadly(state: RunState) -> None:
            nonlocal acts
            await advance(state)
            if point == f"state:{state}":
                die()
            if acts >= 0 or state is RunState.PUBLISHING:
                acts += 1
            if acts > 0 and point == f"act:{acts}":
                die()

        end = await service.execute(run, journal, progress, deadly)
        if point == "published":
            die()
        return end

    worker = Worker(store, Callbacks(execute, service.execute_command, service.announce), lease_seconds=LEASE)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await worker.handle(run_job(run_id))
        info = store.run(run_id)
        if info is not None and info.state not in ACTIVE:
            return
        await asyncio.sleep(0.05)  # the lease of the killed one runs out
    raise TimeoutError(f"the run did not end: {store.run(run_id)}")


def main() -> None:
    settings = Settings.model_validate_json(sys.stdin.read())
    folder = Path(sys.argv[1])
    ends = {}
    for point in [*POINTS, ""]:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work(settings, 1, point))
            except BaseException as error:
                (folder / "error").write_text(f"{point}: {error!r}")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        ends[point or "end"] = os.waitstatus_to_exitcode(status)
        if status and not os.WIFSIGNALED(status):
            break  # the next ones would fare no better
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
