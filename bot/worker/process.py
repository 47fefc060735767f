"""`troop work`: builds a worker and runs it on the Redis queue."""

import asyncio
import logging
import signal
from collections.abc import Callable

from bot.contracts import Progress
from bot.dispatch import open_dispatcher
from bot.errors import SettingsError
from bot.preflight import examine, fetch_image, start_refused
from bot.sanitize.logs import redact_logs
from bot.settings import Settings, checked, needs_setup
from bot.store import Store
from bot.worker.executor import Service
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Callbacks, Worker, serve

log = logging.getLogger(__name__)


def build_worker(settings: Settings, store: Store, *, local: bool = False, watch: Progress | None = None) -> Worker:
    """The worker of these settings; see `Service`."""
    service = Service(settings, store, local=local, watch=watch)
    callbacks = Callbacks(
        service.execute, service.execute_command, service.announce, service.close, service.words, service.wait
    )
    return Worker(store, callbacks, lease_seconds=settings.lease_seconds)


SETUP_SECONDS = 2.0  # between two looks whether `/setup` has made an App


async def run_worker(settings: Settings, again: Callable[[], Settings] | None = None) -> None:
    """`troop work`: execute jobs of the Redis queue until SIGTERM or SIGINT. Raises `SettingsError`.

    `again` reads the settings again, while `/setup` of `troop serve` has not written those that are missing.
    """
    logging.getLogger("bot").setLevel(logging.INFO)  # a service logs every run, whatever the console's level
    if again is not None and needs_setup(settings):
        log.warning("there is no App yet: waiting for /setup of `troop serve` to make one")
        while needs_setup(settings):
            await asyncio.sleep(SETUP_SECONDS)
            settings = again()
    settings = checked(settings, receives=False)
    if not settings.redis_url:
        raise SettingsError(
            "TROOP_REDIS_URL is empty: set it, or run `troop serve` alone, which then works without Redis"
        )
    redact_logs(settings.secrets())
    start_refused(await examine(settings, works=True))
    fetch_image(settings.sandbox)
    store = await asyncio.to_thread(Store.from_settings, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        worker = build_worker(settings, store)
        dispatcher = open_dispatcher(settings, worker.handle)
        sweeper = Sweeper(store, dispatcher, settings.sweep_seconds, keep_days=settings.keep_days)
        await serve(worker, dispatcher, sweeper, stop)
    finally:
        await asyncio.to_thread(store.close)
