"""One process of the service, `serve` or `work`.

Web, queue, store, lease, checkout, sandbox, publishing and GitHub are the real ones. Only what is between checkout and
pull request is light: a few steps that are journaled, each of which is paid for by a line in a ledger, instead of
models, and one job in a container, so that hundreds of runs fit into minutes.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from bot.contracts import Forge, Journal, Progress, Sandbox
from bot.dispatch import open_dispatcher
from bot.forge.hook_deliveries import HookDeliveries
from bot.journal import once
from bot.lifecycle import RunState
from bot.preflight import prepare_sandbox
from bot.records import Checkout, ClaimedRun, Record, Report, SandboxJob
from bot.sandbox import open_sandbox
from bot.sandbox.journaled import JournaledSandbox
from bot.sanitize.logs import configure_logs
from bot.settings import Settings
from bot.store import Store
from bot.web.serve import run_server
from bot.worker.callbacks import Callbacks
from bot.worker.executor import Service
from bot.worker.missed import MissedDeliveries
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, serve
from tests.bot.sample import FILES, GOOD, report
from tests.chaos.ledger import Ledger

STEPS = 3  # of each stage
STAGES = (RunState.CONTEXT, RunState.TRAJECTORIES, RunState.MATRIX, RunState.SELECTION)
PAUSE = 0.02  # seconds that a step takes, so that some are under way when a process dies
DELAYS = (0.2,) * 1000  # seconds: an infrastructure that is killed all the time is no reason to give up
MISSED_SECONDS = 2.0
JOB = SandboxJob(command=("sh", "-c", "test -f tools/clamp.py && sleep 0.1"), timeout=60)

__all__ = ["FILES", "GOOD"]

log = logging.getLogger(__name__)


class Paid(Record):
    """What a step cost."""

    step: str


class Light(Service):
    """The worker's service with a solver that only pays."""

    async def _solve(
        self,
        run: ClaimedRun,
        forge: Forge,
        checkout: Checkout,
        journal: Journal,
        progress: Progress,
        advance: Callable[[RunState], Awaitable[None]],
    ) -> Report:
        ledger = Ledger(self._settings.work_dir)

        def step(name: str) -> Callable[[], Awaitable[Paid]]:
            async def pay() -> Paid:
                await asyncio.sleep(PAUSE)
                ledger.pay(run.id, name)
                return Paid(step=name)

            return pay

        async with contextlib.AsyncExitStack() as stack:
            sandbox = await self._sandbox(checkout, stack)
            for stage in STAGES:
                await advance(stage)
                for number in range(STEPS):
                    name = f"{stage}/{number}"
                    await once(journal, name, Paid, step(name))
                if sandbox is not None and stage is RunState.MATRIX:
                    found = await JournaledSandbox(sandbox, journal).run(JOB)
                    assert found.passed, found

        async def made() -> Report:
            return report(the_issue=run.issue, base_commit=checkout.commit)

        return await once(journal, "report", Report, made)

    async def _sandbox(self, checkout: Checkout, stack: contextlib.AsyncExitStack) -> Sandbox | None:
        if self._settings.sandbox.kind != "docker":  # where no daemon of the test's own can be
            return None
        sandbox = await open_sandbox(self._settings.sandbox, Path(checkout.root), server=True, notice=log.warning)
        stack.push_async_callback(sandbox.close)
        return sandbox


async def work(settings: Settings) -> None:
    configure_logs(settings)
    store = Store.from_settings(settings)
    prepare_sandbox(settings.sandbox)
    service = Light(settings, store, local=True)
    callbacks = Callbacks(
        service.execute, service.execute_command, service.announce, service.close, settings.secrets(), service.words
    )
    worker = Worker(store, callbacks, lease_seconds=settings.lease_seconds, delays=DELAYS, name=f"chaos-{os.getpid()}")
    dispatcher = open_dispatcher(settings, worker.handle)
    sweeper = Sweeper(store, dispatcher, settings.sweep_seconds, keep_days=settings.keep_days)
    missed = MissedDeliveries(store, HookDeliveries(settings), interval=MISSED_SECONDS, under_way=MISSED_SECONDS)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(worker, dispatcher, sweeper, stop, missed)


def run(kind: str, settings_json: str, log_file: str, docker: str) -> None:
    """Until it is killed. `log_file` gets what it prints; `docker` is the address of the daemon."""
    os.environ["DOCKER_HOST"] = docker
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(descriptor, number)
    settings = Settings.model_validate_json(settings_json)
    asyncio.run(run_server(settings) if kind == "serve" else work(settings))
