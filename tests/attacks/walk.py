"""A random walk over what people, GitHub and workers do to issues of one repository, and what must hold of it.

Deliveries come late, twice and in any order; acts also happen in the middle of a run.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from bot.forge.markers import STATUS
from bot.lifecycle import RunState
from bot.store.models import COMMAND, RUN
from bot.webhook.decide import decide
from bot.webhook.delivery import Delivery
from bot.webhook.rules import Rules
from tests.attacks.changing import RENAMED, REPO, Scene
from tests.bot.queueing import store_now
from tests.bot.sample import FILES, report

OWNER, READER = "olive", "reader"
BODIES = (
    "/troop stop",
    "/troop retry",
    "/troop retry keep zero",
    "/troop status",
    "/troop stop\n/troop retry",
    "/troop retry\n\n/troop stop",
    "/troop alternatives",
    "/troop use 1",
    "/troop more 2",
    "/troop nonsense",
    "@troop please",
    "@troop stop",
    "thanks, @troop!",
    "> /troop stop",
)
LABELS = ("troop", "troop", "troop", "Troop", "bug")


class Walk:
    """Each act is one method below; `step` takes one at random."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene, self.github, self.store = scene, scene.github, scene.store
        self.random = random.Random(seed)
        self.told: list[Any] = []  # deliveries that have not arrived
        self.all_told = 0
        self.log: list[str] = []
        self.acts: list[Callable[[], object]] = [
            *[self.label] * 6,
            *[self.unlabel] * 3,
            *[self.command] * 5,
            *[self.review] * 3,
            self.close,
            self.reopen,
            self.edit,
            self.edit_comment,
            self.delete_comment,
            self.lock,
            self.transfer,
            self.delete,
            self.rename,
            self.private,
            self.permission,
            self.pull_ends,
            self.branch_goes,
            self.branch_is_rewritten,
            self.default_branch,
            self.commit,
            self.check,
        ]
        self.outages = seed % 3 == 0
        if self.outages:
            self.acts += [self.archive, self.suspend, self.exclude]
        self.github.set_permission(REPO, READER, "read")
        for _ in range(2):
            self.github.open_issue(REPO, report().issue.title)

    @property
    def name(self) -> str:
        return RENAMED if RENAMED in self.github.world.repositories else REPO

    @property
    def repository(self) -> Any:
        return self.github.world.repository(self.name)

    def an_issue(self) -> Any:
        found = [one for one in self.repository.issues.values() if one.pull is None and not one.gone]
        return self.random.choice([one for one in found if not one.moved_to])

    def a_pull(self) -> Any:
        found = [one for one in self.repository.issues.values() if one.pull is not None]
        return self.random.choice(found) if found else None

    def who(self) -> str:
        return self.random.choice([OWNER, OWNER, OWNER, READER])

    # -- acts

    def label(self) -> None:
        issue, wanted = self.an_issue(), self.random.choice(LABELS)
        known = next((one for one in self.repository.labels if one.casefold() == wanted.casefold()), wanted)
        self.github.label(self.name, issue.number, known, user=self.who())

    def unlabel(self) -> None:
        issue = self.an_issue()
        if issue.labels:
            self.github.unlabel(self.name, issue.number, self.random.choice(issue.labels), user=OWNER)

    def command(self) -> None:
        on = self.random.choice([self.an_issue(), self.an_issue(), self.a_pull() or self.an_issue()])
        self.github.comment(self.name, on.number, self.random.choice(BODIES), user=self.who())

    def review(self) -> None:
        if (pull := self.a_pull()) is not None:
            state = self.random.choice(["CHANGES_REQUESTED", "COMMENTED", "APPROVED"])
            body = self.random.choice(["keep zero", "", "/troop stop", "@troop retry"])
            self.github.review(self.name, pull.number, state, body or "x", user=self.who())

    def close(self) -> None:
        self.github.edit_issue(self.name, self.an_issue().number, user=OWNER, state="closed")

    def reopen(self) -> None:
        self.github.edit_issue(self.name, self.an_issue().number, user=OWNER, state="open")

    def edit(self) -> None:
        self.github.edit_issue(self.name, self.an_issue().number, title=f"It breaks {self.random.random()}")

    def edit_comment(self) -> None:
        comments = self.an_issue().comments
        if comments:
            self.github.edit_comment(self.name, self.random.choice(comments).id, "/troop retry", user=OWNER)

    def delete_comment(self) -> None:
        comments = self.an_issue().comments
        if comments:
            self.github.delete_comment(self.name, self.random.choice(comments).id)

    def lock(self) -> None:
        issue = self.an_issue()
        self.github.lock(self.name, issue.number, not issue.locked)

    def transfer(self) -> None:
        if self.random.random() < 0.3 and len(self.open_ones()) > 1:
            if "olive/other" not in self.github.world.repositories:
                self.github.create_repository("olive/other", FILES)
            self.github.transfer_issue(self.name, self.an_issue().number, "olive/other")

    def delete(self) -> None:
        if self.random.random() < 0.3 and len(self.open_ones()) > 1:
            self.github.delete_issue(self.name, self.an_issue().number)

    def open_ones(self) -> list[Any]:
        return [one for one in self.repository.issues.values() if not (one.pull or one.gone or one.moved_to)]

    def rename(self) -> None:
        self.github.rename(self.name, REPO if self.name == RENAMED else RENAMED)

    def archive(self) -> None:
        self.github.set_repository(self.name, archived=not self.repository.archived)

    def private(self) -> None:
        self.github.set_repository(self.name, private=not self.repository.private)

    def suspend(self) -> None:
        installation = self.github.world.installation_of(self.name)
        self.github.suspend(self.name, not installation.suspended)

    def exclude(self) -> None:
        installation = self.github.world.installation_of(self.name)
        self.github.exclude(self.name, self.repository.id not in installation.excluded)

    def permission(self) -> None:
        self.github.set_permission(self.name, READER, self.random.choice(["read", "triage", "write"]))

    def pull_ends(self) -> None:
        if (pull := self.a_pull()) is not None:
            there = pull.pull.head in self.github.branches(self.name)
            if pull.state == "open" and there and self.random.random() < 0.3:
                self.github.merge(self.name, pull.number)
            elif not pull.pull.merged:
                state = "closed" if pull.state == "open" else "open"
                self.github.edit_issue(self.name, pull.number, user=OWNER, state=state)

    def branch_goes(self) -> None:
        if branches := [one for one in self.github.branches(self.name) if one != self.repository.git.branch]:
            self.github.delete_branch(self.name, self.random.choice(branches))

    def branch_is_rewritten(self) -> None:
        self.github.rewrite_branch(self.name, self.random.choice([*self.github.branches(self.name)]))

    def default_branch(self) -> None:
        old = self.repository.git.branch
        self.github.rename_branch(self.name, old, "trunk" if old == "main" else "main")

    def commit(self) -> None:
        branch = self.random.choice([*self.github.branches(self.name)])
        self.github.commit(self.name, {"notes.txt": str(self.random.random())}, branch=branch)

    def check(self) -> None:
        branches = [one for one in self.github.branches(self.name).items() if one[0].startswith("troop/")]
        if branches:
            name, commit = self.random.choice(branches)
            self.github.check(self.name, commit, "tests", branch=name, log="1 failed")

    # -- what goes on

    def act(self) -> None:
        act = self.random.choice(self.acts)
        self.log.append(act.__name__)
        act()
        self.github.advance(self.random.choice([0, 1, 5]))
        self.gather()

    def gather(self) -> None:
        """Deliveries that GitHub has begun; some of them twice."""
        sent = self.github.webhooks.deliveries
        new, self.all_told = sent[self.all_told :], len(sent)
        self.told += new + [one for one in new if self.random.random() < 0.1]

    def arrive(self, *, all_of_them: bool = False) -> None:
        rules = Rules(label="troop", app_id=self.github.app_id, own_login="troop[bot]")
        self.gather()
        while self.told:
            at = 0 if self.random.random() < 0.7 else self.random.randrange(len(self.told))
            sent = self.told.pop(at)
            received = Delivery(
                guid=sent.guid, event=sent.event, action=sent.action or None, payload=json.loads(sent.body)
            )
            decision = decide(received, rules)
            self.log.append(f"<- {sent.event}.{sent.action} {type(decision).__name__}")
            self.store.accept(sent.guid, sent.event, sent.action, decision)
            self.at_all_times()
            if not all_of_them and self.random.random() < 0.5:
                return

    async def work(self) -> bool:
        """Whether something was due."""
        with self.store.database.write() as tx:
            for table in (RUN, COMMAND):
                tx.execute(sa.update(table).values(available_at=store_now(self.store) - 1))
        due = self.store.due()
        if due:
            job = self.random.choice(due)
            self.log.append(f"work {job}")
            self.scene.meanwhile = {stage: self.meanwhile for stage in RunState if self.random.random() < 0.15}
            await self.scene.worker.handle(job)
            self.at_all_times()
        return bool(due)

    def meanwhile(self) -> None:
        self.act()
        self.arrive()

    async def step(self) -> None:
        kind = self.random.random()
        if kind < 0.45:
            self.act()
        elif kind < 0.75:
            self.arrive()
        else:
            await self.work()

    async def end(self) -> None:
        """The App can reach everything again, and all is done."""
        installation = self.github.world.installation_of(self.name)
        if installation.suspended:
            self.github.suspend(self.name, False)
        if self.repository.id in installation.excluded:
            self.github.exclude(self.name, False)
        self.github.set_repository(self.name, archived=False)
        for issue in self.open_ones():
            if issue.locked:
                self.github.lock(self.name, issue.number, False)
        await self.finish()

    async def finish(self) -> None:
        """All deliveries arrive, all work is done."""
        self.acts = [lambda: None]
        self.arrive(all_of_them=True)
        for _ in range(200):
            if not await self.work():
                self.arrive(all_of_them=True)
                if not await self.work():
                    return
        raise AssertionError(f"never done: {self.store.due()}")

    # -- what must hold

    def at_all_times(self) -> None:
        active = [(run.repository_id or run.repository, run.issue_number) for run in self.store.runs(active=True)]
        assert len(active) == len(set(active)), self.trace()

    def in_the_end(self) -> None:
        assert not self.store.runs(active=True), self.trace()
        for issue in self.open_ones():
            states = [name for name in issue.labels if name.lower().startswith("troop:")]
            assert len(states) <= 1, self.trace()
            assert "troop: running" not in issue.labels, self.trace()
            assert sum(STATUS in one.body for one in issue.comments) <= 1, self.trace()
            if not self.outages and self.name == REPO and issue.state == "open":
                assert not any(name.casefold() == "troop" for name in issue.labels), self.trace()
            answers = [one.body.split("-->")[0] for one in issue.comments if one.body.startswith("<!-- troop:answer=")]
            assert len(answers) == len(set(answers)), self.trace()

    def trace(self) -> str:
        runs = [(run.id, run.issue_number, run.state.value, run.reason) for run in self.store.runs()]
        issues = [(one.number, one.state, one.labels, [c.body[:150] for c in one.comments]) for one in self.open_ones()]
        return "\n".join([*self.log[-60:], str(runs), str(issues)])

    async def take(self, steps: int) -> None:
        for _ in range(steps):
            await self.step()
        await self.end()
        self.in_the_end()
