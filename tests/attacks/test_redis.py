"""Faults of Redis: keys of a wrong type."""

import asyncio
import contextlib

import pytest
import redis

from bot.dispatch.arq import ArqDispatcher
from tests.bot.dispatch.test_contract import QUEUES, Jobs
from tests.services import RedisServer

pytestmark = pytest.mark.service

KEYS = ["troop:run", "troop:run:health-check", "arq:job:run:1:0", "arq:in-progress:run:1:0", "arq:retry:run:1:0"]


@pytest.mark.parametrize("key", [*KEYS, "arq:abort", "arq:result:run:1:0"])
@pytest.mark.parametrize("running", [False, True], ids=["before the start", "while running"])
async def test_a_key_of_a_wrong_type_does_not_stop_the_queue(redis_server: RedisServer, key: str, running: bool):
    jobs = Jobs()
    dispatcher = ArqDispatcher(jobs.handle, QUEUES, redis_server.url, poll_seconds=0.01)
    task = None
    if running:
        task = asyncio.create_task(dispatcher.run())
        await dispatcher.enqueue("run:9:0")
        await jobs.until(lambda: "run:9:0" in jobs.ended)
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(key)
        client.lpush(key, "something else")
    task = task or asyncio.create_task(dispatcher.run())
    # As the sweeper does, until it is done.
    while "run:1:0" not in jobs.ended:
        await dispatcher.enqueue("run:1:0")
        await asyncio.sleep(0.01)
    await dispatcher.close()
    await task


FAULTS = {  # and what ends them
    "out of memory": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    "a read-only replica": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    "without its replicas": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    "of other people's jobs": ("ZADD troop:run 1 evil", "ZREM troop:run evil"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_redis_that_takes_nothing_for_a_while_loses_no_job(redis_server: RedisServer, fault: str):
    jobs = Jobs()
    dispatcher = ArqDispatcher(jobs.handle, QUEUES, redis_server.url, poll_seconds=0.01)
    running = asyncio.create_task(dispatcher.run())
    with redis.Redis.from_url(redis_server.url) as admin:
        begins, ends = FAULTS[fault]
        admin.execute_command(*begins.split())
        with contextlib.suppress(ConnectionError):
            await dispatcher.enqueue("run:1:0")
        admin.execute_command(*ends.split())
    await dispatcher.enqueue("run:1:0")  # as the sweeper does
    await jobs.until(lambda: jobs.ended == ["run:1:0"])
    await dispatcher.close()
    await running
