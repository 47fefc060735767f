"""`python -m tests.chaos [--runs N] [--kills N] [--database sqlite|postgresql|both] [--seed N]`.

Labels issues on the test GitHub while the processes of the service and what they need are killed with SIGKILL, one
after the other: web, workers, Redis, the database and a Docker daemon of the test's own. Counts at GitHub what came of
it: each issue has one run, one pull request, one status comment and its last label; and in Docker, what is left. Exits
with 1 where one is lost, doubled or stuck, or something is left. SIGINT and SIGTERM end it with the count so far.
"""

import argparse
import itertools
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bot.errors import StoreUnavailable
from bot.forge.markers import STATUS
from bot.lifecycle import RunState
from bot.settings import SandboxSettings
from bot.settings.pages import PagesSettings
from bot.store import RunInfo, Store
from tests.chaos.child import FILES
from tests.chaos.ledger import Ledger
from tests.chaos.servers import Docker, Part, Postgres, Redis, SqliteWriter, Target
from tests.github.fixtures import dumped, settings_for
from tests.github.server import GitHubServer
from tests.services import free_port

SECRET = "a webhook secret of the tests"
REPOSITORIES = 8
IN_FLIGHT = 12  # issues that are labelled and not done
STUCK = 180.0  # seconds in which nothing is done
STEPS_A_KILL = 12  # at most, between two kills; a run has as many
WORKERS = 2
_ENDING = (signal.SIGINT, signal.SIGTERM)
LOOK = 0.2  # seconds between two looks at the runs
TELL = 30.0  # seconds between two lines that say how far it is


@dataclass
class Count:
    """What came of the runs."""

    database: str
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0  # of processes that ended by themselves, since what they need was gone
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # in Docker
    under_way: int = 0  # runs, when it was interrupted
    without: str = ""  # what could not be among those that are killed
    steps: int = 0
    paid_again: int = 0  # steps whose process died between the work and its record
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not any(self._bad.values())

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        ends = ", ".join(f"{len(found)} {word}" for word, found in self._bad.items())
        said = (
            f"{self.database}: {self.runs} runs, {self.kills.total()} kills ({kills}) in {self.seconds:.0f} s: {ends}; "
            f"{self.restarts} more starts, {self.paid_again} of {self.steps} steps paid for again"
        )
        if self.under_way:
            said += f"; interrupted, {self.under_way} runs still under way"
        if self.without:
            said += f"; no Docker: {self.without}"
        return "\n".join([said, *(f"  {word}: {one}" for word, found in self._bad.items() for one in found)])

    @property
    def _bad(self) -> dict[str, list[str]]:
        return {"lost": self.lost, "doubled": self.doubled, "stuck": self.stuck, "left in Docker": self.left}


class Chaos:
    def __init__(self, kind: str, folder: Path, github: GitHubServer, seed: int, docker: bool) -> None:
        self._random = random.Random(seed)
        self._github = github
        self.count = Count(kind)
        self._redis = Redis(folder)
        self._database = SqliteWriter(folder / "troop.sqlite3") if kind == "sqlite" else Postgres()
        self.count.without = Docker.missing() if docker else "not asked for"
        self._docker = None if self.count.without else Docker(folder)
        port = free_port()
        values: dict[str, Any] = {
            "webhook_secret": SecretStr(SECRET),
            "database_url": self._database.url,
            "redis_url": self._redis.url,
            "work_dir": folder / "work",
            "host": "127.0.0.1",
            "port": port,
            "pages": PagesSettings(port=0),
            "sandbox": SandboxSettings(kind="docker", image=Docker.image, concurrency=1)
            if self._docker
            else SandboxSettings(),
            "sweep_seconds": 0.5,
            "lease_seconds": 5.0,
            "max_crashes": 10**6,
            "quota_runs_per_hour": 10**6,
        }
        settings = settings_for(github, **values)
        settings.work_dir.mkdir()
        self._ledger = Ledger(settings.work_dir)
        self._store = Store.from_settings(settings)  # makes the tables before anything is killed
        self._names = [f"octo/mill-{kind}-{number}" for number in range(REPOSITORIES)]
        for name in self._names:
            github.create_repository(name, FILES)
            github.set_permission(name, "maintainer", "write")
        github.set_hook(f"http://127.0.0.1:{port}/webhook", SECRET)
        text = dumped(settings)
        address = self._docker.address if self._docker else ""
        kinds = ("serve", *["work"] * WORKERS)
        self._parts = [Part(kind, text, folder, address) for kind in kinds]
        self._interrupted = threading.Event()
        self._down = threading.Event()
        self._told = 0.0
        self._issues: list[tuple[str, int]] = []
        self._ended: set[int] = set()
        self._done = 0  # steps

    def close(self) -> None:
        self._github.set_hook("")
        for part in self._parts:
            part.close()
        self._store.close()
        self._redis.close()
        self._database.close()
        if self._docker:
            self._docker.close()

    def interrupt(self) -> None:
        """End soon, with the count so far."""
        self._interrupted.set()

    def run(self, runs: int, kills: int, in_flight: int) -> Count:
        started = time.monotonic()
        killing = threading.Thread(target=self._kill, args=(kills,), name="killing")
        killing.start()
        names = itertools.cycle(self._names)
        newest = time.monotonic()
        while True:
            for part in self._parts:
                if not killing.is_alive():
                    part.tend()
            if self._look() or self._down.is_set():
                newest = time.monotonic()
            open_issues = len(self._issues) - len(self._ended)
            if (len(self._issues) < runs or killing.is_alive()) and open_issues < in_flight:
                self._label(next(names))
                newest = max(newest, time.monotonic() if not open_issues else newest)
                continue
            if (not open_issues and not killing.is_alive()) or time.monotonic() - newest > STUCK:
                break
            if self._interrupted.is_set():
                self.count.under_way = open_issues
                break
            self._tell(started, runs, kills)
            time.sleep(LOOK)
        self._interrupted.set()
        killing.join()
        self._judge()
        if self._docker:
            for part in self._parts:
                part.close()
            self.count.left = self._docker.left()
        self.count.seconds = time.monotonic() - started
        return self.count

    def _tell(self, started: float, runs: int, kills: int) -> None:
        if (now := time.monotonic()) - self._told > TELL:
            self._told = now
            so_far = f"{len(self._ended)} of {runs} runs ended, {self.count.kills.total()} of {kills} kills"
            print(f"{self.count.database}: {so_far}, {now - started:.0f} s", file=sys.stderr, flush=True)

    def _label(self, name: str) -> None:
        number = self._github.open_issue(name, "clamp ignores its lower bound", "`clamp(-1, 0, 5)` gives -1.")
        self._issues.append((name, number))
        self._github.label(name, number, user="maintainer")

    def _kill(self, kills: int) -> None:
        targets: list[Target] = [*self._parts, *self._parts[1:], self._redis, self._database]
        if self._docker:
            targets.append(self._docker)
        for _ in range(kills):
            self._wait_for_work(self._random.randint(1, STEPS_A_KILL))
            if self._interrupted.is_set():
                return
            target = self._random.choice(targets)
            self._down.set()  # until it runs again, what waits for it is not stuck
            target.kill()
            self._down.clear()
            self.count.kills[target.name] += 1

    def _wait_for_work(self, steps: int) -> None:
        """Until that much was done, so that the kills are spread over the runs however fast the machine is."""
        before = self._ledger.size
        deadline = time.monotonic() + STUCK
        while self._ledger.size < before + steps and time.monotonic() < deadline and not self._interrupted.is_set():
            for part in self._parts:
                part.tend()
            time.sleep(0.02)
        time.sleep(self._random.uniform(0.0, 0.3))  # runs are also killed in between: at a checkout, a comment, a push

    def _look(self) -> bool:
        """Whether more was done, or more runs have ended."""
        done = self._ledger.size
        try:
            ended = {run.id for run in self._all() if run.state is RunState.SOLVED}
        except StoreUnavailable:  # it was just killed
            return False
        more = len(ended) > len(self._ended) or done > self._done
        self._ended, self._done = ended, done
        return more

    def _all(self) -> list[RunInfo]:
        found: list[RunInfo] = []
        before: int | None = None
        while page := self._store.runs(limit=200, before=before):
            found += page
            before = page[-1].id
        return found

    def _judge(self) -> None:
        """By what GitHub has, and what the database says."""
        count = self.count
        runs: dict[tuple[str, int], list[RunInfo]] = {}
        for run in self._all():
            runs.setdefault((run.repository, run.issue_number), []).append(run)
        count.runs = len(self._issues)
        count.restarts = sum(part.starts - 1 for part in self._parts) - count.kills["web"] - count.kills["worker"]
        pulls = {name: self._github.pull_requests(name) for name in self._names}
        for name, number in self._issues:
            of, where = runs.get((name, number), []), f"{name}#{number}"
            urls = [run.pull_request_url for run in of if run.state is RunState.SOLVED]
            made = [pull for pull in pulls[name] if f"#{number}" in f"{pull['title']} {pull['body']}".split("\n")[0]
                    or pull["html_url"] in urls]  # fmt: skip
            comments = sum(STATUS in body for body in self._github.comments(name, number))
            labels = self._github.issue(name, number)["labels"]
            if count.under_way and not urls:
                continue
            if not of:
                count.lost.append(f"{where} has no run")
            elif not urls or labels != ["troop: done"]:
                count.stuck.append(f"{where}: {[str(run.state) for run in of]}, labels {labels}")
            elif len(made) < 1 or comments < 1:
                count.lost.append(f"{where}: {len(made)} pull requests, {comments} status comments")
            if len(of) > 1 or len(made) > 1 or comments > 1:
                count.doubled.append(f"{where}: {len(of)} runs, {len(made)} pull requests, {comments} status comments")
        branches = [branch for name in self._names for branch in self._github.branches(name) if "troop/" in branch]
        if len(branches) > len(self._issues):
            count.doubled.append(f"{len(branches)} branches for {len(self._issues)} issues")
        paid = self._ledger.paid()
        count.steps, count.paid_again = len(paid), paid.total() - len(paid)


def chaos(kind: str, runs: int, kills: int, seed: int, in_flight: int = IN_FLIGHT, *, docker: bool = True) -> Count:
    """On one kind of database. Logs are in a folder that stays where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="troop-chaos-"))
    with GitHubServer.running(folder / "github") as github:
        one = Chaos(kind, folder, github, seed, docker)
        before = [signal.signal(number, lambda *_: one.interrupt()) for number in _ENDING]
        try:
            count = one.run(runs, kills, in_flight)
        finally:
            for number, handler in zip(_ENDING, before, strict=True):
                signal.signal(number, handler)
            one.close()
    if count.good:
        shutil.rmtree(folder)
    else:
        print(f"the logs are in {folder}", file=sys.stderr)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = ("sqlite", "postgresql") if options.database == "both" else (options.database,)
    good = True
    for kind in kinds:
        count = chaos(kind, options.runs, options.kills, options.seed)
        print(count, flush=True)
        good = good and count.good
        if count.under_way:
            break
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
