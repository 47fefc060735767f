"""Two pictures of the dashboard for the README: `make screenshots` writes docs/dashboard-*.png.

The runs are made up here; the pages and the browser are real.
"""

import asyncio
import json
import random
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from playwright.async_api import async_playwright
from pydantic import SecretStr

from bot.lifecycle import STAGES, RunState
from bot.records import (
    Ballot,
    Candidate,
    Choice,
    Context,
    Issue,
    Outcome,
    Report,
    Rule,
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
from bot.web.dashboard import create_pages
from tests.bot.queueing import start
from tests.bot.sample import fix

TOKEN = "the admin token of the pictures"
LARGEST = 200_000  # bytes of a picture
SIZE = (1100, 760)
ISSUES = (
    ("acme/mill", "clamp ignores its upper bound", RunState.SOLVED),
    ("acme/mill", "Dates before 1970 are read as today", RunState.ABSTAINED),
    ("acme/loom", "The parser drops the last line of a file", RunState.SOLVED),
    ("acme/loom", "Windows paths are split at the wrong place", RunState.FAILED),
    ("acme/spindle", "Retry twice when the server closes the connection", RunState.SOLVED),
    ("acme/mill", "median of an empty list raises IndexError", None),
)


def report() -> Report:
    """Twelve candidates of four behaviours by sixteen tests."""
    chance = random.Random(7)
    behaviours = [[True] * 16, [True] * 11 + [False] * 5, [t % 3 != 0 for t in range(16)], [False] * 13 + [True] * 3]
    kinds = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    bodies = ["return max(low, min(x, high))", "return min(max(x, low), high)", "return min(x, high)", "return x"]
    candidates = tuple(
        Candidate(patch=fix(f"{bodies[kind]}  # {n}"), trajectories=(n,)) for n, kind in enumerate(kinds)
    )
    tests = tuple(
        Test(path=f"test_clamp_{t}.py", text=f"assert clamp({t}, 2, 9) == {max(2, min(t, 9))}\n") for t in range(16)
    )
    cells = tuple(tuple(behaviours[kind]) for kind in kinds)
    base = tuple(chance.random() < 0.12 for _ in tests)
    ballot = Ballot(candidates=candidates, tests=tests, base=base, cells=cells, authors=tuple((t,) for t in range(16)))
    standings = tuple(
        Standing(candidate=n, votes=ballot.passed(n), own_votes=0, cluster=kinds.count(kind), size=40 + n)
        for n, kind in enumerate(kinds)
    )
    stage = Usage(calls=12, prompt_tokens=90_000, cached_tokens=61_000, completion_tokens=4_100, seconds=31.0)
    many = Usage(calls=148, prompt_tokens=1_900_000, cached_tokens=1_720_000, completion_tokens=61_000, seconds=412.0)
    return Report(
        issue=Issue(title=ISSUES[0][1], body=""),
        verdict=Verdict(
            outcome=Outcome.SOLVED,
            winner=0,
            choice=Choice(rule=Rule.CLEAR_LEAD, front_runner=0),
            standings=standings,
            ballot=ballot,
            numbered_by_rank=True,
        ),
        context=Context(files=(), tokens=0),
        trajectories=tuple(
            Trajectory(index=i, test=tests[i], patch=candidates[i].patch, end=TrajectoryEnd.DONE, calls=6)
            for i in range(12)
        ),
        usage=stage + many,
        usage_by_stage={"context": stage, "trajectories": many},
        wall_seconds=127.0,
    )


def fill(store: Store) -> None:
    text = report().model_dump_json()
    for number, (repository, title, end) in enumerate(ISSUES, start=1):
        decision = start(10 + number, repository)
        issue = decision.issue.model_copy(update={"title": title})
        store.accept(f"g{number}", "issues", "labeled", decision.model_copy(update={"issue": issue}))
        store.claim_run(number, "worker", 1000)
        stages = STAGES[1:4] if end in (None, RunState.FAILED) else STAGES[1:]
        for stage in stages:
            store.advance(number, 1, stage)
        reason = {
            RunState.SOLVED: "It passes all 14 tests that reproduce the bug. 5 of 12 attempts have the same results.",
            RunState.ABSTAINED: "No candidate is credible: none of the 9 tests reproduces the bug.",
            RunState.FAILED: "the model endpoint did not answer: see the endpoint's log",
        }
        if end is None:
            store.renew(number, 1, 1000, "sampling fixes (9 of 16), 7 with an edit")
        else:
            known = text if end is RunState.SOLVED else None
            store.finish(number, 1, end, reason=reason[end], report_json=known)


async def pictures(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data, socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(
            _env_file=None,
            admin_token=SecretStr(TOKEN),
            database_url=f"sqlite:///{data}/troop.sqlite3",
            pages=PagesSettings(port=listening.getsockname()[1]),
        )
        store = Store.from_settings(settings)
        fill(store)

        async def enqueue(job: str) -> None:
            """Nobody works here."""

        app = create_pages(settings, store, enqueue)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        app.state.site.ending = lambda: server.should_exit
        serving = asyncio.create_task(server.serve([listening]))
        async with async_playwright() as playwright:
            chromium = await playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            )
            page = await chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            await page.goto(settings.pages.address)
            await page.get_by_label("Admin token").fill(TOKEN)
            await page.get_by_role("button", name="Sign in", exact=True).click()
            await page.get_by_role("heading", name="Runs").wait_for()
            await page.screenshot(path=str(folder / "dashboard-runs.png"))
            await page.goto(f"{settings.pages.address}/runs/1")
            await page.get_by_role("heading", name="The vote matrix").scroll_into_view_if_needed()
            await page.evaluate(
                "document.querySelector('#matrix').previousElementSibling.previousElementSibling.scrollIntoView()"
            )
            await page.screenshot(path=str(folder / "dashboard-matrix.png"))
            await chromium.close()
        server.should_exit = True
        await serving
        store.close()
    for path in folder.glob("dashboard-*.png"):
        size = path.stat().st_size
        print(json.dumps({"picture": path.name, "bytes": size}))
        if size >= LARGEST:
            raise SystemExit(f"{path} has {size:,} bytes; a picture may have {LARGEST:,}")


if __name__ == "__main__":
    asyncio.run(pictures(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")))
