"""Workers say in Redis what they lack, so that the web's `/ready` knows whether somebody works."""

from pathlib import Path

import pytest

from bot.preflight import Finding, Readiness
from bot.preflight.workers import forget, report_once, workers
from bot.settings import Settings
from tests.services import RedisServer


@pytest.mark.service
async def test_who_works_and_what_is_lacking(redis_server: RedisServer) -> None:
    settings = Settings(_env_file=None, redis_url=redis_server.url)
    [none] = await workers(settings)
    assert (none.name, none.level) == ("worker", "missing")
    assert "troop work" in none.hint
    level = "ok"

    async def check() -> list[Finding]:
        return [Finding(name="docker", level=level, detail="no socket", hint="mount it")]  # type: ignore[arg-type]

    await report_once(settings, "good", Readiness({"docker": check}))
    [found] = await workers(settings)
    assert (found.level, found.detail) == ("ok", "good")
    level = "missing"
    await report_once(settings, "bad", Readiness({"docker": check}))
    [found] = await workers(settings)
    assert (found.level, found.detail) == ("missing", "bad: docker: no socket; mount it")
    await forget(settings, "bad")
    assert [one.level for one in await workers(settings)] == ["ok"]


async def test_a_redis_that_is_away_is_a_finding_of_its_own(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, redis_url="redis://127.0.0.1:9/0")
    assert await workers(settings) == []
    await forget(settings, "any")
