"""The worker's process: its shutdown, and a database that comes and goes."""

import asyncio
import logging

import pytest

from bot.dispatch.inprocess import InProcessDispatcher
from bot.errors import (
    StoreUnavailable,
)
from bot.lifecycle import RunState
from bot.settings import Settings
from bot.store import Store, run_job
from bot.worker.callbacks import Callbacks
from bot.worker.process import build_worker
from bot.worker.sweeper import Sweeper
from bot.worker.worker import Worker, serve
from tests.bot.queueing import queue_command, queue_run
from tests.bot.worker.working import Fake, forever, info, solve, worker_of
from tests.patience import soon


async def test_at_shutdown_a_run_is_given_back_and_taken_at_once(store: Store, fake: Fake):
    fake.run = forever
    run_id = queue_run(store)
    first, second = worker_of(store, fake), worker_of(store, fake)
    handling = asyncio.create_task(first.handle(run_job(run_id)))
    await fake.started.wait()
    first.shutdown()
    assert await soon(handling) == run_job(run_id, 1)  # to be handed over
    assert fake.ended == ["CancelledError"]
    assert await first.handle(run_job(run_id, 1)) is None
    fake.run = solve
    await second.handle(run_job(run_id, 1))
    assert fake.executed == [(run_id, 1), (run_id, 2)]
    assert (info(store, run_id).state, info(store, run_id).crashes) == (RunState.SOLVED, 0)


@pytest.mark.parametrize(("by_setting", "how"), [(True, "TROOP_PAUSED is set"), (False, "`troop resume` ends it")])
async def test_a_worker_says_at_start_that_troop_is_paused(
    store: Store, by_setting: bool, how: str, caplog: pytest.LogCaptureFixture
):
    settings = Settings(_env_file=None, paused=by_setting)
    if not by_setting:
        store.pause()
    await build_worker(settings, store).close()
    assert caplog.messages == [f"Troop is paused, so that no run starts: {how}"]
    store.resume()


async def test_a_cancelled_job_gives_its_run_back(store: Store, fake: Fake):
    fake.run = forever
    run_id = queue_run(store)
    handling = asyncio.create_task(worker_of(store, fake).handle(run_job(run_id)))
    await fake.started.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert fake.ended == ["CancelledError"]
    assert store.due() == (run_job(run_id, 1),)


async def test_a_job_cancelled_while_it_claims_gives_its_run_back(store: Store, fake: Fake, monkeypatch):
    claiming, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    claim = store.claim_run

    def slow(*values):
        loop.call_soon_threadsafe(claiming.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        return claim(*values)

    monkeypatch.setattr(store, "claim_run", slow)
    run_id = queue_run(store)
    handling = asyncio.create_task(worker_of(store, fake).handle(run_job(run_id)))
    await claiming.wait()
    handling.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert fake.executed == []
    assert store.due() == (run_job(run_id, 1),)


@pytest.mark.parametrize("how", ["shutdown", "cancel"])
async def test_a_command_is_given_back_at_the_end(store: Store, fake: Fake, how: str):
    fake.command = forever
    worker = worker_of(store, fake)
    command_id = queue_command(store)
    handling = asyncio.create_task(worker.handle(f"command:{command_id}"))
    await fake.started.wait()
    if how == "shutdown":
        worker.shutdown()
        await handling
    else:
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling
    assert store.due() == (f"command:{command_id}",)


async def test_a_database_that_restarts_at_the_end_is_waited_for(store: Store, fake: Fake, monkeypatch):
    fails = iter([StoreUnavailable("restarting"), StoreUnavailable("restarting")])
    finish = store.finish

    def restarting(*values, **named) -> None:
        for error in fails:
            raise error
        finish(*values, **named)

    monkeypatch.setattr(store, "finish", restarting)
    monkeypatch.setattr("bot.worker.worker.PERSIST", (0.001, 0.001, 0.001))
    run_id = queue_run(store)
    await worker_of(store, fake).handle(run_job(run_id))
    assert info(store, run_id).state is RunState.SOLVED


async def test_a_database_that_is_away_at_the_claim_leaves_the_job_to_the_sweeper(
    store: Store, fake: Fake, worker: Worker, monkeypatch
):
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    run_id = queue_run(store)
    with monkeypatch.context() as patched:
        patched.setattr(store, "claim_run", away)
        assert await worker.handle(run_job(run_id)) is None
    assert store.due() == (run_job(run_id),)


async def test_serving_until_told_to_stop(store: Store, fake: Fake, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    fake.run = forever
    run_id = queue_run(store)  # the web died before it enqueued: the sweeper finds it
    worker = worker_of(store, fake)
    dispatcher = InProcessDispatcher(worker.handle, {"run": 1, "command": 1})
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(worker, dispatcher, Sweeper(store, dispatcher, 0.01), stop))
    await soon(fake.started.wait())
    stop.set()
    await soon(serving)
    assert fake.ended == ["CancelledError"]
    assert store.due() == (run_job(run_id, 1),)
    assert info(store, run_id).crashes == 0


async def test_what_the_callables_share_is_closed_once_no_job_is_left(store: Store, fake: Fake):
    async def close() -> None:
        fake.ended.append("closed")

    fake.run = forever
    queue_run(store)
    worker = Worker(store, Callbacks(fake.execute, fake.execute_command, fake.announce, close))
    dispatcher = InProcessDispatcher(worker.handle, {"run": 1, "command": 1})
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(worker, dispatcher, Sweeper(store, dispatcher, 60), stop))
    await soon(fake.started.wait())
    stop.set()
    await soon(serving)
    assert fake.ended == ["CancelledError", "closed"]


async def test_serving_ends_with_its_dispatcher(store: Store, fake: Fake):
    class Broken(InProcessDispatcher):
        async def run(self) -> None:
            raise RuntimeError("the dispatcher broke")

    worker = worker_of(store, fake)
    dispatcher = Broken(worker.handle, {"run": 1})
    sweeper = Sweeper(store, dispatcher, 60)
    with pytest.raises(RuntimeError, match="the dispatcher broke"):
        await soon(serve(worker, dispatcher, sweeper, asyncio.Event()))
