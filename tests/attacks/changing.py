"""A whole run on the test GitHub whose solver is made up, and during which something happens to the repository."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.forge.markers import STATUS
from bot.lifecycle import STAGES, RunState
from bot.records import Report
from bot.store import Store, run_job
from bot.webhook.decide import decide
from bot.webhook.delivery import Delivery
from bot.webhook.rules import Rules
from bot.worker.executor import Service
from bot.worker.process import build_worker
from bot.worker.worker import Worker
from tests.bot.queueing import make_available, start
from tests.bot.sample import FILES, report
from tests.bot.worker.working import info
from tests.github import GitHubServer
from tests.github.fixtures import settings_for

REPO, RENAMED = "olive/tools", "olive/renamed"


async def _not_at_all(_stage: RunState) -> None: ...


class Scene:
    """A worker whose solver is made up, and which does something to the repository as the run enters a stage."""

    def __init__(self, github: GitHubServer, store: Store, worker: Worker) -> None:
        self.github = github
        self.store = store
        self.worker = worker
        self.solved = 0  # times that something was spent
        self.paid: list[RunState] = []  # the stages in which it was
        self.linger: Callable[[RunState], Awaitable[object]] = _not_at_all  # how long a stage takes
        self.meanwhile: dict[RunState, Callable[[], object]] = {}
        self._told = 0  # deliveries

    async def solve(self, *given: object) -> Report:
        *_, journal, _, advance = given
        if (done := await journal.get("report")) is not None:  # type: ignore[attr-defined]
            return Report.model_validate_json(done)
        self.solved += 1
        for stage in STAGES[STAGES.index(RunState.CONTEXT) : STAGES.index(RunState.PUBLISHING)]:
            await advance(stage)  # type: ignore[operator]
            self.paid.append(stage)
            await self.linger(stage)
        checkout = given[2]
        made = report(base_commit=checkout.commit)  # type: ignore[attr-defined]
        await journal.put("report", made.model_dump_json())  # type: ignore[attr-defined]
        return made

    def deliver(self) -> None:
        """What GitHub tells of all that happened since."""
        rules = Rules(label="troop", app_id=self.github.app_id, own_login="troop[bot]")
        new, self._told = self.github.webhooks.deliveries[self._told :], len(self.github.webhooks.deliveries)
        for sent in new:
            payload = json.loads(sent.body)
            received = Delivery(guid=sent.guid, event=sent.event, action=sent.action or None, payload=payload)
            self.store.accept(sent.guid, sent.event, sent.action, decide(received, rules))

    async def run(self) -> None:
        """Label the issue, and execute the run as often as it is given back."""
        asked = start(1, REPO).model_copy(
            update={
                "installation_id": self.github.installation_id(REPO),
                "repository_id": self.github.world.repository(REPO).id,
                "sender": "olive",
                "issue": report().issue,
            }
        )
        self.github.label(REPO, 1)
        self.store.accept("guid", "issues", "labeled", asked)
        self.happen(RunState.QUEUED)
        for _ in range(4):
            await self.worker.handle(run_job(1))
            make_available(self.store, 1)
            if not self.store.runs(active=True):
                break
        await self.worker.handle(run_job(1))

    def happen(self, stage: RunState) -> None:
        self.meanwhile.pop(stage, lambda: None)()

    @property
    def end(self) -> tuple[RunState, str]:
        return info(self.store, 1).state, info(self.store, 1).reason

    @property
    def told(self) -> str:
        return "\n".join(body for body in self.github.comments(REPO, 1) if STATUS in body)


def set_up(github: GitHubServer, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Close its worker in the end."""
    github.create_repository(REPO, FILES)
    github.open_issue(REPO, report().issue.title)
    worker = build_worker(settings_for(github, work_dir=folder / "work"), store, local=True)
    scene = Scene(github, store, worker)
    advance = store.advance

    def advanced(run_id: int, attempt: int, state: RunState) -> RunState:
        now = advance(run_id, attempt, state)
        scene.happen(state)
        return now

    monkeypatch.setattr(store, "advance", advanced)
    monkeypatch.setattr(Service, "_solve", scene.solve)
    return scene
