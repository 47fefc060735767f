"""What a rate limit asks for, and a clock that is off: nothing waits for ever, and nothing gives up early."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from bot.dispatch.arq import ArqDispatcher
from bot.errors import ForgeError, RateLimited, Refused
from bot.forge.hook_deliveries import HookDeliveries
from bot.git import waiting
from bot.git.command import asked_to_wait
from bot.git.waiting import LONGEST, seconds_of
from bot.store import Store
from bot.store.models import COMMAND, RUN
from bot.worker.missed import MissedDeliveries
from tests.attacks import test_clock
from tests.bot.dispatch.test_contract import QUEUES, Jobs
from tests.bot.queueing import command, queue_command, queue_run, start
from tests.github.fixtures import Naps, forge_for, settings_for
from tests.github.server import GitHubServer
from tests.services import RedisServer

HOUR = 3600.0
YEAR = 365 * 24 * HOUR


def http(seconds: float) -> str:
    return format_datetime(datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds), usegmt=True)


def set_clock(monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    wrong = SimpleNamespace(time=lambda: time.time() + off)
    monkeypatch.setattr(waiting, "time", wrong)
    test_clock.set_clock(monkeypatch, int(off))


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-5", 0.0),
        ("999999999", LONGEST),
        (http(90), 90.0),
        (http(-90), 0.0),
        (http(YEAR), LONGEST),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("soon", None),
        ("", None),
        ("Sun, 99 Feb 2026 99:00:00 GMT", None),
    ],
)
def test_what_a_server_asks_to_wait(asked: str, seconds: float | None):
    assert seconds_of(asked, http(0)) == seconds
    trace = f"12:00 http.c:1  <= Recv header: date: {http(0)}\n12:00 http.c:1  <= Recv header: Retry-After: {asked}\n"
    assert asked_to_wait(trace) == seconds


@pytest.mark.parametrize("off", [-2 * HOUR, 2 * HOUR, -YEAR, YEAR])
async def test_a_limit_is_waited_for_by_githubs_clock(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, off: float
):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    now = int(time.time())
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(now + 60), "date": formatdate(now, usegmt=True)}
    github.fault("GET", r"/collaborators/", status=403, headers=headers, times=1)
    naps = Naps()
    forge = forge_for(github, "octo/hello", naps)
    set_clock(monkeypatch, off)
    await forge.permission("octo/hello", "octo")
    assert naps.taken == [61]


@pytest.mark.parametrize("asked", ["inf", "1e300", "999999999999", "99999999999999999999999999"])
async def test_no_limit_puts_a_run_off_for_more_than_an_hour(github: GitHubServer, asked: str):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    for name in ("retry-after", "x-ratelimit-reset"):
        headers = {name: asked, "x-ratelimit-remaining": "0"}
        github.fault("GET", r"/collaborators/", status=429, headers=headers, times=6)
        with pytest.raises(ForgeError) as refused:
            await forge_for(github, "octo/hello").permission("octo/hello", "octo")
        assert not isinstance(refused.value, Refused), "it may pass"
        assert not isinstance(refused.value, RateLimited) or 0 <= refused.value.retry_after <= LONGEST
        github.traffic.faults.clear()


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (403, {"retry-after": http(9)}, "x"),
        (403, {"content-type": "text/plain"}, "You have exceeded a secondary rate limit. Please wait a few minutes."),
        (429, {}, "x"),
        (429, {"retry-after": "soon"}, "x"),
        (503, {"retry-after": "99999999"}, "x"),
    ],
)
async def test_git_that_is_limited_is_tried_again(
    github: GitHubServer, tmp_path, status: int, headers: dict[str, str], message: str
):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    github.fault("GET", r"octo/hello\.git/info/refs", status=status, headers=headers, message=message)
    too_long = contextlib.nullcontext() if status != 503 else pytest.raises(RateLimited)
    with too_long as limited:
        assert await forge_for(github, "octo/hello").clone("octo/hello", tmp_path / "clone")
    assert limited is None or limited.value.retry_after == LONGEST


# -- the App


@pytest.mark.parametrize("cached", [True, False], ids=["with a token", "without one"])
@pytest.mark.parametrize("how", ["installed again", "transferred"])
async def test_attack_42_a_run_goes_on_with_the_installation_that_has_the_repository_now(
    github: GitHubServer, how: str, cached: bool
):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    forge = forge_for(github, "octo/hello")
    if cached:
        await forge.permission("octo/hello", "octo")
    world = github.world
    before = world.installation_of("octo/hello")
    assert before is not None
    if how == "installed again":
        del world.installations[before.id]
        world.tokens.clear()
        world.install("octo")
        assert await forge.permission("octo/hello", "octo") == "admin"
    else:  # the old owner keeps its installation
        world.repositories["hubot/hello"] = world.repositories.pop("octo/hello")
        world.repositories["hubot/hello"].full_name = "hubot/hello"
        world.install("hubot")
        assert await forge.permission("hubot/hello", "octo") == "admin"


async def test_an_app_that_was_taken_off_is_said_to_be(github: GitHubServer):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    forge = forge_for(github, "octo/hello")
    github.world.installations.clear()
    with pytest.raises(Refused, match="is not installed there any more"):
        await forge.permission("octo/hello", "octo")


# -- clocks of this machine and of others


def set_back(store: Store, seconds: float) -> None:
    """Everything that is stored was written while the clock was so far ahead."""
    with store.database.write() as tx:
        for table in (RUN, COMMAND):
            columns = [table.c[name] for name in ("created_at", "available_at", "lease_until")]
            tx.execute(sa.update(table).values({column: column + seconds for column in columns}))


def test_a_run_of_a_dead_worker_is_found_although_the_clock_was_set_back(store: Store):
    first, second = queue_run(store), queue_command(store)
    assert store.claim_run(first, "dead", 60) is not None
    assert store.claim_command(second, "dead", 60) is not None
    set_back(store, YEAR)
    assert store.due() == (f"command:{second}", f"run:{first}:1")
    assert store.claim_run(first, "w", 60) is not None
    assert store.claim_command(second, "w", 60) is not None


def test_what_waits_is_found_although_the_clock_was_set_back(store: Store):
    first = queue_run(store)
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    assert store.postpone(first, claimed.attempt, "GitHub is away", (600.0,)) == 600.0
    assert store.due() == ()
    set_back(store, YEAR)
    assert store.due() == (f"run:{first}:1",)
    assert store.claim_run(first, "w", 60) is not None


def test_a_quota_is_not_used_up_by_what_a_clock_that_was_ahead_wrote(store: Store):
    for issue in range(1, 4):
        queue_run(store, issue)
    for comment in range(1, 61):
        store.accept(f"c{comment}", "issue_comment", "created", command(comment))
    assert store.accept("more", "issues", "labeled", start(5)).note.startswith("this repository has used its quota")
    set_back(store, YEAR)
    assert store.accept("m", "issues", "labeled", start(6)).note.endswith("is queued")
    assert "is queued" in store.accept("n", "issue_comment", "created", command(99)).note


@pytest.mark.service
@pytest.mark.parametrize("ahead", [2 * HOUR, YEAR, -YEAR])
async def test_a_job_is_due_by_the_clock_of_every_machine(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, ahead: float
):
    """`ahead`: of the machine that enqueues."""
    jobs = Jobs()
    web = ArqDispatcher(jobs.handle, QUEUES, redis_server.url)
    worker = ArqDispatcher(jobs.handle, QUEUES, redis_server.url, poll_seconds=0.01)
    with monkeypatch.context() as patched:
        patched.setattr("arq.connections.timestamp_ms", lambda: int((time.time() + ahead) * 1000))
        await web.enqueue("run:1:0")
    working = asyncio.create_task(worker.run())
    await jobs.until(lambda: len(jobs.ended) == 1)
    await worker.close()
    await web.close()
    await working


@pytest.mark.service
async def test_a_job_that_somebody_put_off_for_ever_is_due_when_it_is_enqueued_again(redis_server: RedisServer):
    jobs = Jobs()
    dispatcher = ArqDispatcher(jobs.handle, QUEUES, redis_server.url, poll_seconds=0.01)
    await dispatcher.enqueue("run:1:0")
    await dispatcher._redis.zadd("troop:run", {"run:1:0": float("inf")})
    await dispatcher.enqueue("run:1:0")  # by the sweeper
    working = asyncio.create_task(dispatcher.run())
    await jobs.until(lambda: len(jobs.ended) == 1)
    await dispatcher.close()
    await working


@pytest.mark.parametrize("off", [-HOUR, -2 * YEAR, 4 * 24 * HOUR, YEAR])
async def test_missed_deliveries_are_found_with_a_clock_that_is_off(
    store: Store, github: GitHubServer, monkeypatch: pytest.MonkeyPatch, off: float
):
    """`off`: how far this machine's is ahead of GitHub's."""
    github.webhooks.send("ping", "", {"zen": "x"})
    set_clock(monkeypatch, off)
    look = MissedDeliveries(store, HookDeliveries(settings_for(github), sleep=Naps()), under_way=-60)
    assert len(await look.look()) == 1
