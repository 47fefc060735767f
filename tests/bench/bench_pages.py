"""Pages over real HTTP on loopback, at 10,000 runs whose reports have matrices of 64 by 64: SQLite, a session.

Each page is asked for several times; the first time, when nothing is kept, is told apart. Baseline, in the same run:
the style sheet, which is only sent. Then 200 deliveries a second arrive on a schedule, as of `bench_arrivals`: alone,
which is the baseline, and while eight people look at a page each second and leave the list of runs open. Their first
column is how late the client itself was at p99.

    python -m tests.bench.bench_pages [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from sqlalchemy import insert

from bot.lifecycle import ACTIVE, RunState
from bot.records import (
    Ballot,
    Candidate,
    Context,
    Issue,
    Outcome,
    Report,
    Standing,
    Test,
    Trajectory,
    TrajectoryEnd,
    Usage,
    Verdict,
)
from bot.settings import Settings
from bot.settings.pages import PagesSettings
from bot.store import Store
from bot.store.models import REPORT, RUN
from bot.web.connections import BoundedServer
from bot.web.dashboard import create_pages
from bot.web.listeners import by_port
from bot.web.serve import build_app
from tests.bench.bench_arrivals import RATE, Arrivals, arrive
from tests.bench.bench_webhook import labels
from tests.bot.sample import fix
from tests.bot.webhook.deliveries import SECRET

SIZE = 64  # candidates and tests
TOKEN = "the admin token of the benchmark"
REPOSITORIES = 40
PEOPLE = 8  # an owner's session may watch twelve pages
PAUSE = 1.0  # seconds between two pages of one person
PAGES = {
    "runs": "/",
    "page 100": "/?before=5000",
    "failed of one repository": "/?state=failed&repository=octo-org/repo-3",
    "search": "/?q=number+77",
    "a run": "/runs/2",
}


def report() -> Report:
    """64 candidates of four behaviours by 64 tests."""
    candidates = tuple(Candidate(patch=fix(f"return {c}  # {'x' * 400}"), trajectories=(c,)) for c in range(SIZE))
    tests = tuple(Test(path=f"test_{t}.py", text=f"assert {t}\n" * 20) for t in range(SIZE))
    cells = tuple(tuple((c % 4 + t) % 3 > 0 for t in range(SIZE)) for c in range(SIZE))
    ballot = Ballot(candidates=candidates, tests=tests, base=(False,) * SIZE, cells=cells)
    standings = tuple(Standing(candidate=c, votes=sum(cells[c]), own_votes=0, cluster=16, size=9) for c in range(SIZE))
    return Report(
        issue=Issue(title="an issue", body="its body"),
        verdict=Verdict(outcome=Outcome.SOLVED, winner=0, standings=standings, ballot=ballot),
        context=Context(files=(), tokens=0),
        trajectories=tuple(
            Trajectory(index=i, test=tests[i], patch=candidates[i].patch, end=TrajectoryEnd.DONE) for i in range(SIZE)
        ),
        usage=Usage(calls=640, prompt_tokens=10**7, cached_tokens=9 * 10**6, completion_tokens=10**5),
        wall_seconds=300.0,
    )


def fill(store: Store, count: int) -> int:
    """The runs; how many bytes each report takes."""
    text = report().model_dump_json()
    ended = [state for state in RunState if state not in ACTIVE]
    now = time.time()
    shared = {"attempt": 1, "labelled_at": now, "available_at": now, "updated_at": now, "sender": "maintainer"}
    for start in range(0, count, 500):
        some = range(start + 1, min(start + 500, count) + 1)
        rows = [
            shared
            | {
                "id": n,
                "repository": f"octo-org/repo-{n % REPOSITORIES}",
                "issue_number": n,
                "issue": json.dumps({"title": f"issue number {n}", "body": "x" * 2000}),
                "title": f"issue number {n}",
                "state": ended[n % len(ended)].value,
                "reason": "it passes 43 of 64 tests " * 8,
                "tokens": 10**7,
                "created_at": now - 60.0 * (count - n),
                "finished_at": now,
            }
            for n in some
        ]
        with store.database.write() as tx:
            tx.execute(insert(RUN), rows)
            tx.execute(insert(REPORT), [{"run_id": n, "text": text} for n in some])
    return len(text)


def serve(database: str, webhook: int, pages: int) -> None:
    """The server's process; the handles are listening sockets that it inherits."""
    with socket.socket(fileno=webhook) as one, socket.socket(fileno=pages) as other:
        settings = Settings(
            _env_file=None,
            webhook_secret=SECRET,
            app_id=12345,
            admin_token=TOKEN,
            database_url=database,
            quota_runs_per_hour=10**6,
            port=one.getsockname()[1],
            pages=PagesSettings(port=other.getsockname()[1]),
        )
        store = Store.from_settings(settings)
        app = build_app(settings, store)
        both = by_port(settings, app, create_pages(settings, store, app.state.enqueue))
        asyncio.run(BoundedServer(both).serve([one, other]))


@asynccontextmanager
async def serving(database: str) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    """The webhook's port, and a browser at the pages that is signed in."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as one, socket.create_server(("127.0.0.1", 0)) as other:
        handles = [one.fileno(), other.fileno()]
        for each in (one, other):
            each.set_inheritable(True)
        argv = ["-m", "tests.bench.bench_pages", "--serve", database, *map(str, handles)]
        server = await asyncio.create_subprocess_exec(sys.executable, *argv, pass_fds=handles)
        try:
            base = f"http://127.0.0.1:{other.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=base, timeout=60) as client:
                answer = await client.post("/sign-in/token", data={"admin_token": TOKEN})
                answer.raise_for_status() if answer.status_code != 303 else None
                yield one.getsockname()[1], client
        finally:
            server.terminate()
            await server.wait()


async def timed(client: httpx.AsyncClient, path: str) -> tuple[float, int]:
    started = time.perf_counter()
    answer = await client.get(path)
    seconds = time.perf_counter() - started
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code}")
    return seconds, len(answer.content)


async def pages_of(client: httpx.AsyncClient, rounds: int) -> list[dict[str, float | int | str]]:
    rows: list[dict[str, float | int | str]] = []
    for name, path in {"style sheet": "/style.css", **PAGES}.items():
        first, size = await timed(client, path)
        seconds = sorted([(await timed(client, path))[0] for _ in range(rounds)])
        rows.append(
            {
                "kind": name,
                "first_ms": round(1000 * first, 1),
                "p50_ms": round(1000 * statistics.median(seconds), 1),
                "p99_ms": round(1000 * seconds[int(len(seconds) * 0.99)], 1),
                "bytes": size,
            }
        )
    return rows


@asynccontextmanager
async def people(client: httpx.AsyncClient, count: int) -> AsyncIterator[None]:
    """So many look at pages, one a second each, and leave the list of runs open, which changes by itself."""

    async def look(number: int) -> None:
        while True:
            for path in (*PAGES.values(), f"/runs/{number + 3}"):
                await timed(client, path)
                await asyncio.sleep(PAUSE)

    async def watch() -> None:
        async with client.stream("GET", "/events", timeout=None) as answer:
            answer.raise_for_status()
            opened.release()
            async for _ in answer.aiter_bytes():
                pass

    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(watch()) for _ in range(count)]
    try:
        for _ in tasks:
            await opened.acquire()
        tasks += [asyncio.create_task(look(n)) for n in range(count)]
        yield
        for task in tasks:
            if task.done():
                task.result()  # what they looked at failed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def acknowledged(kind: str, found: Arrivals) -> dict[str, float | int | str]:
    """Deliveries on a schedule, from the moment that each is due. Raises `RuntimeError` for a refused one."""
    if found.refused:
        raise RuntimeError(f"{len(found.refused)} deliveries were refused: {found.refused[0]}")
    figures = found.row(kind, "SQLite")
    late = figures["client_late_p99_ms"]
    return {
        "kind": f"deliveries {kind}",
        "first_ms": late,
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "bytes": 0,
    }


async def bench(quick: bool) -> list[dict[str, float | int | str]]:
    count, rounds = (1_000, 10) if quick else (10_000, 40)
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{Path(folder) / 'troop.sqlite3'}"
        store = Store.open(database)
        size = fill(store, count)
        store.close()
        print(f"{count:,} runs, a report has {size:,} bytes", flush=True)
        async with serving(database) as (port, client):
            rows = await pages_of(client, rounds)
            many = RATE * (3 if quick else 20)
            await arrive(port, labels(100, 20_000), RATE / 2)  # imports, caches, connections
            rows.append(acknowledged("alone", await arrive(port, labels(many, 30_000), RATE)))
            async with people(client, PEOPLE):
                rows.append(acknowledged("beside them", await arrive(port, labels(many, 40_000), RATE)))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_pages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--serve", nargs=3, metavar=("DATABASE", "WEBHOOK", "PAGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], *map(int, arguments.serve[1:]))
        return 0
    rows = asyncio.run(bench(arguments.quick))
    print(f"{'':45} {'first ms':>9} {'p50 ms':>8} {'p99 ms':>8} {'bytes':>10}")
    for row in rows:
        print(f"{row['kind']:45} {row['first_ms']:>9} {row['p50_ms']:>8} {row['p99_ms']:>8} {row['bytes']:>10}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
