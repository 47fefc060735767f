"""The queue of several workers and machines: arq on Redis, behind `contracts.Dispatcher`.

Where arq's defaults are changed: it pickles (here: JSON); it refuses an id whose result it keeps (no result is kept);
after `kill -9` it holds a job back until its time-out (`enqueue` removes the dead worker's mark); SIGTERM cancels jobs
at once (arq gets no signals; `close` waits); an exception in its loop ends it (`run` starts it again).
"""

import asyncio
import functools
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss, health_check_key_suffix, in_progress_key_prefix, result_key_prefix
from arq.worker import Retry as TryAgain
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bot.dispatch.queues import Handler, Queues, queue_of
from bot.errors import SettingsError
from bot.settings.credentials import masked
from bot.store.jobs import parse

log = logging.getLogger(__name__)

JOB_TIMEOUT = 7 * 86_400.0  # seconds; leases tell whether a worker lives, not the queue
CONNECT_TIMEOUT = 1.0  # seconds
KEPT = 86_400.0  # seconds that Redis keeps a job's data; then the sweeper enqueues it again
ENQUEUE_TIMEOUT = 2.0  # seconds: GitHub waits for the web's answer
TELL_SECONDS = 60.0  # between two lines of the log about a Redis that is away
LONGEST_PAUSE = 2.0  # seconds between attempts to reach a Redis that is away


class ArqDispatcher:
    """`contracts.Dispatcher` on Redis. A process that only enqueues never calls `run`."""

    def __init__(
        self,
        handler: Handler,
        queues: Queues,
        redis_url: str,
        *,
        grace: float = 10.0,
        poll_seconds: float = 0.05,
        prefix: str = "troop",
    ) -> None:
        """Connects at the first use. `prefix` names the queues in Redis. Raises `SettingsError` for an unusable URL."""
        self._handler = handler
        self._sizes = queues
        self._grace = grace
        self._poll_seconds = poll_seconds
        self._prefix = prefix
        try:
            connections = ConnectionPool.from_url(
                redis_url,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_timeout=10 * CONNECT_TIMEOUT,
                # Connections from before a restart of Redis are dead; the first use notices.
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 3),
                retry_on_error=[RedisConnectionError, RedisTimeoutError],
            )
            connections.make_connection()  # type: ignore[no-untyped-call]  # connects to nothing, and knows all options
        except (ValueError, TypeError) as error:
            raise SettingsError(f"TROOP_REDIS_URL can't be used: {masked(str(error), (redis_url,))}") from None
        self._where = "{host}:{port}".format(**{"host": "?", "port": "?", **connections.connection_kwargs})
        self._redis = ArqRedis(connections, job_serializer=_to_json, job_deserializer=json.loads)
        self._slots = {name: asyncio.Semaphore(count) for name, count in queues.items()}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._workers: dict[str, Worker] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[Any]] = set()  # tasks of arq workers that were replaced
        self._closing = False
        self._told_away = float("-inf")  # when the log was told

    async def enqueue(self, job_id: str) -> None:
        """A job that is waiting or running is ignored. Raises `ConnectionError` within seconds.

        Call it only for what the database says is due: arq's mark of a job that was started is removed, since the
        worker that set it may be dead.
        """
        queue = self._key(queue_of(job_id))
        try:
            async with asyncio.timeout(ENQUEUE_TIMEOUT):
                try:
                    await self._put(job_id, queue)
                except ResponseError as error:
                    if not _is_wrong_type(error):
                        raise
                    await self._remove_wrong_types(queue)
                    await self._put(job_id, queue)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise ConnectionError(
                f"{job_id} is not queued: Redis at {self._where} can't be reached ({str(error) or 'timed out'}); "
                "the sweeper enqueues it later"
            ) from error

    async def _put(self, job_id: str, queue: str) -> None:
        # Due at once by every machine's clock, however far off, and in the order of the ids.
        due = parse(job_id).id + 1  # arq takes 0 for none
        put = functools.partial(
            self._redis.enqueue_job,
            *("perform", job_id),
            _job_id=job_id,
            _queue_name=queue,
            _defer_until=datetime.fromtimestamp(due / 1000, UTC),
            _expires=KEPT,
        )
        if await put() is None and job_id not in self._running:
            # No result is ever kept, so one that is there is not ours, and would hold the id back.
            await self._redis.delete(in_progress_key_prefix + job_id, result_key_prefix + job_id)
            if await put() is None:
                await self._redis.zadd(queue, {job_id: due})

    async def _remove_wrong_types(self, queue: str) -> None:
        """Remove keys of ours, and of arq, that hold what they never should: the sweeper enqueues what is due again.

        Somebody else may write to the same Redis; without this, one such key would stop the queue for good.
        """
        wanted = {queue.encode(): b"zset"}
        async for key in self._redis.scan_iter(match="arq:*", count=1000):
            wanted[key] = b"zset" if key == abort_jobs_ss.encode() else b"string"
        wanted[f"{queue}{health_check_key_suffix}".encode()] = b"string"
        for key, kind in wanted.items():
            found = await self._redis.type(key)
            if found not in (kind, b"none"):
                log.error("removing the key %r from Redis: it holds a %s, not a %s", key, found.decode(), kind.decode())
                await self._redis.delete(key)

    async def _mend(self, queue: str, error: BaseException) -> None:
        if _is_wrong_type(error):
            try:
                await self._remove_wrong_types(self._key(queue))
            except (RedisError, OSError) as again:
                log.warning("wrong types in Redis at %s can't be removed now: %s", self._where, again)

    async def run(self) -> None:
        loops = {asyncio.create_task(self._serve(queue), name=f"arq {queue}") for queue in self._sizes}
        self._loops |= loops
        try:
            await asyncio.wait(loops)
        finally:
            await self._stop(grace=0.0)

    async def close(self) -> None:
        await self._stop(self._grace)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _stop(self, grace: float) -> None:
        self._closing = True
        for worker in self._workers.values():
            worker.allow_pick_jobs = False
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=grace)
        for task in self._running.values():
            task.cancel()  # arq leaves a cancelled job in the queue, for other workers
        around = {task for worker in self._workers.values() for task in worker.tasks.values()} | self._finishing
        if around:
            await asyncio.wait(around, timeout=max(grace, CONNECT_TIMEOUT))
        ending = set(self._loops)
        while ending:  # once is not enough: the Redis client may swallow a cancellation
            for loop in ending:
                loop.cancel()
            _, ending = await asyncio.wait(ending, timeout=0.1)
        self._loops.clear()

    def _key(self, queue: str) -> str:
        """In Redis."""
        return f"{self._prefix}:{queue}"

    async def _serve(self, queue: str) -> None:
        """Run arq's worker, and a new one after Redis was away. Running jobs are not disturbed."""
        pause = 0.05
        while not self._closing:
            worker = self._workers[queue] = self._worker(queue)
            started = time.monotonic()
            try:
                await worker.main()
            except (RedisError, OSError) as error:
                if time.monotonic() - started > LONGEST_PAUSE:
                    pause = 0.05
                self._say_away(error)
                await self._mend(queue, error)
            except Exception:
                log.exception("arq's worker failed; starting a new one in %.2g s", pause)
            finally:
                for task in worker.tasks.values():
                    self._finishing.add(task)
                    task.add_done_callback(self._finished)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _say_away(self, error: Exception) -> None:
        """Once a minute, whichever queue notices: it is tried again every other second."""
        now = time.monotonic()
        level = logging.WARNING if now - self._told_away >= TELL_SECONDS else logging.DEBUG
        self._told_away = now if level == logging.WARNING else self._told_away
        log.log(level, "Redis at %s is away (%s); it is tried again until it answers", self._where, error)

    def _worker(self, queue: str) -> Worker:
        worker = Worker(
            [func(self._performer(queue), name="perform")],
            queue_name=self._key(queue),
            redis_pool=self._redis,
            handle_signals=False,
            max_jobs=self._sizes[queue],
            max_tries=1_000_000,  # the database counts
            job_timeout=JOB_TIMEOUT,
            keep_result=0,
            poll_delay=self._poll_seconds,
            job_serializer=_to_json,
            job_deserializer=json.loads,
            log_results=False,
        )
        worker.job_tasks = _Tasks()
        return worker

    def _performer(self, queue: str) -> Callable[..., Any]:
        async def perform(_context: dict[Any, Any], job_id: str) -> None:
            task = asyncio.current_task()
            assert task is not None
            if job_id in self._running:
                return  # this process runs it already
            self._running[job_id] = task
            following: str | None = None
            try:
                # Not more at once than the queue may run, also while jobs of a replaced arq worker still run.
                async with self._slots[queue]:
                    if self._closing:
                        raise TryAgain  # leaves it in the queue, for other workers
                    following = await self._handler(job_id)
            except (TryAgain, asyncio.CancelledError):
                raise
            except Exception:  # handlers should not raise; the run stays in the database for the sweeper
                log.exception("job %s failed in its handler", job_id)
            finally:
                del self._running[job_id]
            if following is not None:
                try:
                    await self.enqueue(following)
                except ConnectionError as error:
                    log.warning("%s", error)

        return perform

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._finishing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.info("Redis was away when a job ended (%s); the database has the result", task.exception())


class _Tasks(dict[str, asyncio.Task[Any]]):
    """arq's running jobs. A job that is put twice ends twice, of which the second is no failure."""

    def __delitem__(self, job_id: str) -> None:
        self.pop(job_id, None)


def _is_wrong_type(error: BaseException) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _to_json(value: object) -> bytes:
    return json.dumps(value).encode()
