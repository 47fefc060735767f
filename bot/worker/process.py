"""`troop work`: builds a worker and runs it on the Redis queue."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bot.contracts import Progress
from bot.dispatch import open_dispatcher
from bot.errors import SettingsError, StoreUnavailable
from bot.preflight import Readiness, checks, examine, prepare_sandbox, start_refused
from bot.preflight.services import endpoint
from bot.preflight.workers import forget, report
from bot.sanitize.logs import configure_logs
from bot.settings import Settings, checked, needs_setup
from bot.store import Store
from bot.tasks import under_way
from bot.worker.callbacks import Callbacks
from bot.worker.executor import Service
from bot.worker.missed import missed_deliveries
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, new_name, serve

log = logging.getLogger(__name__)


def build_worker(
    settings: Settings, store: Store, *, local: bool = False, watch: Progress | None = None, name: str = ""
) -> Worker:
    """The worker of these settings; see `Service`. Blocks on the database, to say whether Troop is paused."""
    with contextlib.suppress(StoreUnavailable):
        if settings.paused or store.paused() is not None:
            how = "TROOP_PAUSED is set" if settings.paused else "`troop resume` ends it"
            log.warning("Troop is paused, so that no run starts: %s", how)
    service = Service(settings, store, local=local, watch=watch)
    callbacks = Callbacks(
        service.execute,
        service.execute_command,
        service.announce,
        service.close,
        settings.secrets(),
        service.words,
        service.wait,
    )
    return Worker(store, callbacks, lease_seconds=settings.lease_seconds, name=name)


SETUP_SECONDS = 2.0  # between two looks whether `/setup` has made an App, or the model endpoint answers
ENDPOINT_SECONDS = 900.0  # that jobs wait for the model endpoint at start: an engine loads its model meanwhile
BEAT_SECONDS = 10.0
ALIVE = Path("/tmp/troop-worker-alive")  # noqa: S108 - touched while the event loop runs; compose looks at it


async def run_worker(settings: Settings, again: Callable[[], Settings] | None = None) -> None:
    """`troop work`: execute jobs of the Redis queue until SIGTERM or SIGINT. Raises `SettingsError`.

    `again` reads the settings again, while `/setup` of `troop serve` has not written those that are missing.
    """
    configure_logs(settings)
    async with _beating():
        await _work(await _configured(settings, again))


async def _configured(settings: Settings, again: Callable[[], Settings] | None) -> Settings:
    """The settings, once there is an App in them. Raises `SettingsError`."""
    if again is not None and needs_setup(settings):
        log.warning("there is no App yet: waiting for /setup of `troop serve` to make one")
        while needs_setup(settings):
            await asyncio.sleep(SETUP_SECONDS)
            settings = again()
    return checked(settings, receives=False)


async def _work(settings: Settings) -> None:
    if not settings.redis_url:
        raise SettingsError(
            "TROOP_REDIS_URL is empty: set it, or run `troop serve` alone, which then works without Redis"
        )
    configure_logs(settings)
    start_refused(await examine(settings, works=True))
    prepare_sandbox(settings.sandbox)
    name = new_name()
    async with _reporting(settings, name):
        await _endpoint_answers(settings)
        await _serve(settings, name)


async def _serve(settings: Settings, name: str) -> None:
    store = await asyncio.to_thread(Store.from_settings, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        worker = build_worker(settings, store, name=name)
        dispatcher = open_dispatcher(settings, worker.handle)
        sweeper = Sweeper(store, dispatcher, settings.sweep_seconds, keep_days=settings.keep_days)
        missed = missed_deliveries(settings, store)
        await serve(worker, dispatcher, sweeper, stop, *([missed] if missed else []))
    finally:
        await asyncio.to_thread(store.close)


async def _endpoint_answers(settings: Settings) -> None:
    """Wait until it does, for a while: a run that finds no model fails."""
    loop = asyncio.get_running_loop()
    until = loop.time() + ENDPOINT_SECONDS
    told = False
    while trouble := [one.words for one in await endpoint(settings) if one.level == "missing"]:
        if loop.time() >= until:
            log.error("runs are taken although %s", "; ".join(trouble))
            return
        if not told:
            log.warning("waiting: %s", "; ".join(trouble))
            told = True
        await asyncio.sleep(SETUP_SECONDS)
    if told:
        log.info("the model endpoint answers")


@contextlib.asynccontextmanager
async def _reporting(settings: Settings, name: str) -> AsyncIterator[None]:
    """Tell `/ready` of `troop serve` that somebody works, and what is missing here."""
    try:
        async with under_way(report(settings, name, Readiness(checks(settings, works=True)))):
            yield
    finally:
        await forget(settings, name)


@contextlib.asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(ALIVE.touch)
            await asyncio.sleep(BEAT_SECONDS)

    async with under_way(beat()):
        yield
