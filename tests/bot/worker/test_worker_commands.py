"""Commands."""

import asyncio

import pytest

from bot.errors import (
    RateLimited,
)
from bot.records import ClaimedCommand
from bot.store import Store
from bot.worker.callbacks import Executed
from bot.worker.worker import Worker
from tests.bot.queueing import queue_command, store_now
from tests.bot.worker.working import Fake, failing


async def test_a_command_that_comes_twice_is_executed_once(store: Store, fake: Fake, worker: Worker):
    command_id = queue_command(store)
    await asyncio.gather(*(worker.handle(f"command:{command_id}") for _ in range(5)))
    await worker.handle(f"command:{command_id}")
    assert fake.executed == [(command_id, 1)]
    assert store.due() == ()


async def test_a_command_names_the_job_that_follows(store: Store, fake: Fake, worker: Worker):
    async def retry(_command: ClaimedCommand) -> Executed:
        return Executed(following="run:5:0")

    fake.command = retry
    assert await worker.handle(f"command:{queue_command(store)}") == "run:5:0"


async def test_a_command_that_fails_is_not_repeated_but_one_set_back_is(
    store: Store, fake: Fake, worker: Worker, caplog: pytest.LogCaptureFixture
):
    fake.command = failing(KeyError("x"))
    await worker.handle(f"command:{queue_command(store, comment=1)}")
    assert store.due(store_now(store) + 1e6) == ()
    assert "Traceback" in caplog.text
    fake.command = failing(RateLimited("wait", retry_after=50))
    second = queue_command(store, comment=2)
    await worker.handle(f"command:{second}")
    assert store.due(store_now(store) + 40) == ()
    assert store.due(store_now(store) + 51) == (f"command:{second}",)
