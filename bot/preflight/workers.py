"""What the workers say of themselves, in Redis: without it a web would look ready while nobody works."""

import asyncio
import json
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.preflight.finding import Finding
from bot.preflight.readiness import Readiness
from bot.settings import Settings

BEAT = 10.0  # seconds between two reports of a worker
EXPIRES = 60  # seconds after which a worker that says nothing more is forgotten
_KEY = "troop:worker:"
_SECONDS = 5  # for an answer

log = logging.getLogger(__name__)


async def report(settings: Settings, name: str, readiness: Readiness) -> None:
    """Say every few seconds what this worker lacks, until cancelled."""
    while True:
        await report_once(settings, name, readiness)
        await asyncio.sleep(BEAT)


async def report_once(settings: Settings, name: str, readiness: Readiness) -> None:
    """Say it now. Outages of Redis are left to the dispatcher."""
    missing = [finding.words for finding in await readiness.findings() if finding.level == "missing"]
    try:
        async with _redis(settings) as client:
            await client.set(f"{_KEY}{name}", json.dumps(missing), ex=EXPIRES)
    except (RedisError, OSError) as error:
        log.debug("not reported: %s", error)


async def forget(settings: Settings, name: str) -> None:
    """The worker ends."""
    try:
        async with _redis(settings) as client:
            await client.delete(f"{_KEY}{name}")
    except (RedisError, OSError) as error:
        log.debug("not forgotten: %s", error)


async def workers(settings: Settings) -> list[Finding]:
    """Whether somebody works, and what those who work lack. Nothing where Redis is away, which is a finding itself."""
    try:
        async with _redis(settings) as client:
            keys = [key async for key in client.scan_iter(match=f"{_KEY}*", count=1000)]
            said = await client.mget(keys) if keys else []
    except (RedisError, OSError, ValueError):
        return []
    if not keys:
        return [
            Finding.missing("worker", "none reports, so nobody executes runs", "start `troop work`, and see its log")
        ]
    lacking = [(_name(key), words) for key, text in zip(keys, said, strict=True) if text for words in json.loads(text)]
    if lacking:
        return [Finding.missing("worker", "; ".join(f"{name}: {words}" for name, words in lacking))]
    return [Finding.ok("worker", ", ".join(map(_name, keys)))]


def _name(key: bytes) -> str:
    return key.decode(errors="replace").removeprefix(_KEY)


def _redis(settings: Settings) -> Redis:
    client: Redis = Redis.from_url(settings.redis_url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS)
    return client
