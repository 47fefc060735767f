"""What can go wrong with a Redis in between."""

import asyncio
import json
import logging

import pytest
import redis

from bot.dispatch import open_dispatcher
from bot.dispatch.arq import ArqDispatcher
from bot.errors import SettingsError
from bot.settings import Settings
from tests.bot.dispatch.test_contract import QUEUES, Jobs
from tests.patience import PATIENCE, eventually, turns
from tests.services import RedisServer

pytestmark = pytest.mark.service


def dispatcher_on(server: RedisServer, jobs: Jobs, grace: float = PATIENCE) -> ArqDispatcher:
    return ArqDispatcher(jobs.handle, QUEUES, server.url, grace=grace, poll_seconds=0.01)


async def test_redis_down_is_told_at_once_and_without_its_password(redis_server: RedisServer):
    redis_server.stop()
    url = redis_server.url.replace("redis://", "redis://:hunter2@")
    dispatcher = ArqDispatcher(Jobs().handle, QUEUES, url)
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{redis_server.port} can't be reached") as caught:
        await dispatcher.enqueue("run:1:0")
    assert "timed out" not in str(caught.value), "it was not waited for"
    assert "hunter2" not in str(caught.value)
    await dispatcher.close()


async def test_a_redis_that_accepts_and_never_answers_is_told_quickly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bot.dispatch.arq.ENQUEUE_TIMEOUT", 0.1)
    ended = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    dispatcher = ArqDispatcher(Jobs().handle, QUEUES, f"redis://127.0.0.1:{port}")
    with pytest.raises(ConnectionError, match="timed out"):
        await dispatcher.enqueue("run:1:0")
    await dispatcher.close()
    ended.set()
    silent.close()
    await silent.wait_closed()


async def test_a_redis_restarted_empty_is_used_again(redis_server: RedisServer):
    jobs = Jobs()
    dispatcher = dispatcher_on(redis_server, jobs)
    running = asyncio.create_task(dispatcher.run())
    await dispatcher.enqueue("run:1:0")
    await jobs.until(lambda: jobs.ended == ["run:1:0"])
    redis_server.stop()
    with pytest.raises(ConnectionError):
        await dispatcher.enqueue("run:2:0")
    redis_server.start()
    await dispatcher.enqueue("run:2:0")
    await jobs.until(lambda: jobs.ended == ["run:1:0", "run:2:0"])
    await dispatcher.close()
    await running


async def test_a_job_goes_on_while_redis_restarts_and_the_queue_is_not_exceeded(redis_server: RedisServer):
    jobs = Jobs()
    jobs.gate.clear()
    dispatcher = dispatcher_on(redis_server, jobs)
    running = asyncio.create_task(dispatcher.run())
    await dispatcher.enqueue("run:1:0")  # a full queue would not look at Redis, and not notice
    await jobs.until(lambda: len(jobs.started) == 1)
    broken = dict(dispatcher._workers)
    redis_server.stop()
    await eventually(lambda: all(dispatcher._workers[name] is not broken[name] for name in QUEUES))
    redis_server.start()
    for n in (2, 3):  # arq's new worker knows nothing of the first job, and picks as many as the queue may run
        await dispatcher.enqueue(f"run:{n}:0")
    client = redis.Redis(port=redis_server.port)
    await eventually(lambda: client.exists("arq:in-progress:run:2:0", "arq:in-progress:run:3:0") == 2)
    client.close()
    await jobs.until(lambda: len(jobs.started) == 2)
    await turns()
    assert len(jobs.started) == QUEUES["run"]  # the third is picked, and waits for its slot
    jobs.gate.set()
    await jobs.until(lambda: len(jobs.ended) == 3)
    assert jobs.cancelled == []
    await dispatcher.close()
    await running


async def test_a_job_that_a_dead_worker_had_picked_is_picked_by_another(redis_server: RedisServer):
    """arq itself would hold it back until the job's time-out, a week."""
    dead = redis.Redis(port=redis_server.port)
    jobs = Jobs()
    web = dispatcher_on(redis_server, jobs)
    await web.enqueue("run:1:0")
    dead.set("arq:in-progress:run:1:0", b"1", px=1_000_000)  # and then it was killed
    worker = dispatcher_on(redis_server, jobs)
    running = asyncio.create_task(worker.run())
    await worker.enqueue("command:1")
    await jobs.until(lambda: jobs.ended == ["command:1"])
    assert jobs.started == ["command:1"]
    await web.enqueue("run:1:0")  # the sweeper
    await jobs.until(lambda: "run:1:0" in jobs.ended)
    dead.close()
    for dispatcher in (web, worker):
        await dispatcher.close()
    await running


async def test_a_job_that_is_put_again_while_it_runs_is_no_failure(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    """As a sweeper in another process does, if it looks before the worker has claimed the job."""
    goes_on, seen = asyncio.Event(), []

    async def handle(job_id: str) -> str | None:
        seen.append(job_id)
        await goes_on.wait()
        return None

    worker = ArqDispatcher(handle, QUEUES, redis_server.url, grace=PATIENCE, poll_seconds=0.01)
    web = dispatcher_on(redis_server, Jobs())
    running = asyncio.create_task(worker.run())
    await worker.enqueue("run:1:0")
    await eventually(lambda: seen == ["run:1:0"])
    await web.enqueue("run:1:0")
    found = redis.Redis(port=redis_server.port)
    await eventually(lambda: not found.exists("arq:job:run:1:0"))
    goes_on.set()
    for dispatcher in (web, worker):
        await dispatcher.close()
    await running
    found.close()
    assert seen == ["run:1:0"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_two_workers_share_the_jobs_and_do_each_once(redis_server: RedisServer):
    jobs = Jobs()
    workers = [dispatcher_on(redis_server, jobs) for _ in range(2)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    for n in range(20):
        await workers[0].enqueue(f"run:{n}:0")
    await jobs.until(lambda: len(jobs.ended) >= 20)
    assert sorted(jobs.ended) == sorted(f"run:{n}:0" for n in range(20))
    for worker in workers:
        await worker.close()
    await asyncio.gather(*running)


async def test_what_outlasts_the_grace_is_left_to_other_workers(redis_server: RedisServer):
    jobs = Jobs()
    jobs.gate.clear()
    first = dispatcher_on(redis_server, jobs, grace=0.05)
    running = asyncio.create_task(first.run())
    await first.enqueue("run:1:0")
    await jobs.until(lambda: len(jobs.started) == 1)
    await first.close()
    await running
    jobs.gate.set()
    second = dispatcher_on(redis_server, jobs)
    running = asyncio.create_task(second.run())
    await jobs.until(lambda: jobs.ended == ["run:1:0"])
    await second.close()
    await running


async def test_redis_holds_json_and_nothing_after_the_end(redis_server: RedisServer):
    jobs = Jobs()
    dispatcher = dispatcher_on(redis_server, jobs)
    await dispatcher.enqueue("run:1:0")
    connection = redis.Redis(port=redis_server.port)
    stored = connection.get("arq:job:run:1:0")
    assert json.loads(stored)["a"] == ["run:1:0"]
    running = asyncio.create_task(dispatcher.run())
    await jobs.until(lambda: jobs.ended == ["run:1:0"])
    await dispatcher.close()
    await running
    assert [key for key in connection.keys("*") if b"health" not in key] == []
    connection.close()


async def test_the_settings_choose_it(redis_server: RedisServer):
    dispatcher = open_dispatcher(Settings(_env_file=None, redis_url=redis_server.url), Jobs().handle)
    assert isinstance(dispatcher, ArqDispatcher)
    await dispatcher.enqueue("run:1:0")
    await dispatcher.close()
    with pytest.raises(SettingsError, match="TROOP_REDIS_URL"):
        open_dispatcher(Settings(_env_file=None, redis_url="http://x"), Jobs().handle)


async def test_a_redis_that_is_away_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Two queues look for it every other second."""
    dispatcher = ArqDispatcher(Jobs().handle, QUEUES, "redis://127.0.0.1:1", poll_seconds=0.01)
    with caplog.at_level(logging.DEBUG, "bot.dispatch.arq"):
        serving = asyncio.create_task(dispatcher.run())
        await eventually(lambda: sum("is away" in record.message for record in caplog.records) >= 4)
        await dispatcher.close()
        await serving
    levels = [record.levelno for record in caplog.records if "is away" in record.message]
    assert levels[0] == logging.WARNING
    assert set(levels[1:]) == {logging.DEBUG}
