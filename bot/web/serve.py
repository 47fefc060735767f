"""`troop serve`: the web service and, without Redis, also the worker, in one process.

With `TROOP_REDIS_URL` this process receives, stores, enqueues and sweeps, and `troop work` executes, in as many
processes and on as many machines as needed.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from bot.contracts import Dispatcher
from bot.dispatch import open_dispatcher
from bot.errors import SettingsError
from bot.forge.identity import with_slug
from bot.preflight import Check, Readiness, checks, examine, prepare_sandbox, start_refused
from bot.preflight.workers import workers
from bot.sanitize.logs import configure_logs
from bot.settings import Settings, checked, needs_setup
from bot.store import Store
from bot.tasks import under_way
from bot.web.app import create_app
from bot.web.connections import BACKLOG, BoundedServer
from bot.web.dashboard import create_pages
from bot.web.listeners import by_port
from bot.web.owner import with_admin_token
from bot.web.setup import run_setup
from bot.worker.missed import missed_deliveries
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, serve

GRACE = 15.0  # seconds for requests under way when the process is ending

log = logging.getLogger(__name__)


def build_app(
    settings: Settings,
    store: Store,
    *,
    worker: Worker | None = None,
    on_failure: Callable[[], None] = lambda: None,
    readiness: Readiness | None = None,
) -> FastAPI:
    """The application with its background tasks: a sweeper, and `worker` where one is given.

    `on_failure` is called where a background task ends by itself; the log has the reason. `readiness` is what `/ready`
    asks, beyond database and queue.
    """
    dispatcher = open_dispatcher(settings, worker.handle if worker else _no_worker)
    sweeper = Sweeper(store, dispatcher, settings.sweep_seconds, keep_days=settings.keep_days)
    missed = missed_deliveries(settings, store) if worker else None  # else `troop work` asks, which has the key

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        more = [missed] if missed else []
        beside = serve(worker, dispatcher, sweeper, stop, *more) if worker else _sweep(dispatcher, sweeper, stop)
        task = asyncio.create_task(beside, name="background")

        def ended(task: "asyncio.Task[None]") -> None:
            if not stop.is_set():
                log.critical(
                    "a background task ended",
                    exc_info=None if task.cancelled() else task.exception(),
                )
                on_failure()

        task.add_done_callback(ended)
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)

    return create_app(settings, store, dispatcher, lifespan=lifespan, readiness=readiness)


async def run_server(settings: Settings, again: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` for settings, or an address, that can't be used.

    `again` reads the settings again, after `/setup` has written those that were missing.
    """
    configure_logs(settings)
    works = not settings.redis_url
    with contextlib.ExitStack() as stack:
        listening: socket.socket | None = None
        if again is not None and needs_setup(settings):
            listening = stack.enter_context(_listen(settings.host, settings.port))
            await run_setup(settings, listening)
            settings = again().model_copy(update={"host": settings.host, "port": settings.port})
        settings = checked(settings, works=works)
        configure_logs(settings)
        sockets = [listening or stack.enter_context(_listen(settings.host, settings.port))]
        if settings.pages.port not in (0, settings.port):
            sockets.append(stack.enter_context(_listen(settings.pages.host, settings.pages.port, "PAGES_")))
        start_refused(await examine(settings, works=works))
        settings = with_admin_token(await asyncio.to_thread(with_slug, settings))
        store = await asyncio.to_thread(Store.from_settings, settings)
        try:
            worker = None
            if not settings.redis_url:
                from bot.worker.process import build_worker

                worker = build_worker(settings, store)
                prepare_sandbox(settings.sandbox)
            webhook = build_app(
                settings,
                store,
                worker=worker,
                on_failure=lambda: setattr(server, "should_exit", True),
                readiness=Readiness(checks(settings, works=works) | _of_workers(settings)),
            )
            pages = create_pages(settings, store, webhook.state.enqueue) if settings.pages.port else None
            server = BoundedServer(by_port(settings, webhook, pages), timeout_graceful_shutdown=int(GRACE))
            without = "" if worker else ", without a worker"
            log.info("listening on http://%s%s", _address(settings.host, settings.port), without)
            if pages:
                pages.state.site.ending = lambda: server.should_exit
                log.info("pages at %s", settings.pages.address)
            await server.serve(sockets=sockets)
        finally:
            await asyncio.to_thread(store.close)


def _of_workers(settings: Settings) -> dict[str, Check]:
    """Where others execute runs, they are asked while the server runs; at start they may come later."""
    return {"worker": lambda: workers(settings)} if settings.redis_url else {}


async def _sweep(dispatcher: Dispatcher, sweeper: Sweeper, stop: asyncio.Event) -> None:
    """Sweep until `stop` is set, then close the queue."""
    try:
        async with under_way(sweeper.run(), stop.wait()) as tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await dispatcher.close()


async def _no_worker(job_id: str) -> str | None:
    raise AssertionError(f"{job_id}: this process only enqueues")


def _bare(host: str) -> str:
    """Without the brackets that IPv6 addresses have in URLs."""
    return host.removeprefix("[").removesuffix("]")


def _address(host: str, port: int) -> str:
    bare = _bare(host)
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _listen(host: str, port: int, part: str = "") -> socket.socket:
    """`part`: of the variables' names, for the message."""
    host = _bare(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off, which would delay answers on kept connections.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"{_address(host, port)} can't be bound ({error.strerror}); choose another TROOP_{part}PORT, or as "
            f"TROOP_{part}HOST an address of this machine, without http:// and port; 0.0.0.0 and :: are all of them"
        ) from error
