"""The walk over repositories that move: deleted, renamed, replaced under their names, given to other owners, and the
App taken away and installed again; of several issues, in whatever order deliveries arrive, doubled, late or lost."""

from typing import Any

from bot.forge.markers import STATUS
from bot.lifecycle import RunState
from bot.store.models import COMMAND, RUN
from tests.attacks.changing import REPO, Scene
from tests.attacks.walk import OWNER, READER, Walk
from tests.bot.sample import FILES, report

OTHERS = ("hubot", "loner")  # owners with the App, and without


class Moving(Walk):
    """`name` is that of the repository in which people act now; `repositories` are all that there ever were."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.here = scene.github.world.repository(REPO).id
        super().__init__(scene, seed)
        self.made = 0
        self.lost = False
        self.known: dict[int, Any] = {self.here: self.repository}  # deleted ones, too
        self.github.world.install(OTHERS[0])
        self.acts = [
            *[self.label] * 10,
            *[self.command] * 5,
            *[self.unlabel, self.review, self.close, self.reopen, self.lock, self.transfer, self.discuss, self.delete],
            *[self.rename_label, self.lose, self.private, self.suspend, self.exclude, self.archive],
            *[self.go_elsewhere] * 4,
            *[self.recreate] * 4,
            *[self.replace] * 4,
            *[self.rename, self.give_away, self.give_away, self.install_again, self.install_again],
        ]

    @property
    def name(self) -> str:
        return next(name for name, one in self.github.world.repositories.items() if one.id == self.here)

    def an_issue(self) -> Any:
        if not self.open_ones():
            self.github.open_issue(self.name, report().issue.title)
        return self.random.choice(self.open_ones())

    # -- acts

    def go_elsewhere(self) -> None:
        self.here = self.random.choice([one.id for one in self.github.world.repositories.values()])

    def make(self, name: str) -> None:
        self.github.create_repository(name, FILES)
        self.here = self.github.world.repository(name).id
        self.known[self.here] = self.repository
        self.github.set_permission(name, OWNER, "admin")
        self.github.set_permission(name, READER, "read")
        for _ in range(2):
            self.github.open_issue(name, "an issue of the same number")

    def recreate(self) -> None:
        name = self.name
        if name.startswith(OWNER):
            self.github.delete_repository(name)
            self.make(name)

    def rename(self) -> None:
        self.made += 1
        self.github.rename(self.name, f"{self.name.split('/')[0]}/renamed-{self.made}")

    def replace(self) -> None:
        name, old = self.name, self.here
        if name.startswith(OWNER):
            self.rename()
            self.make(name)
            self.here = self.random.choice([old, self.here])

    def give_away(self) -> None:
        self.made += 1
        self.github.rename(self.name, f"{self.random.choice([OWNER, *OTHERS])}/given-{self.made}")

    def install_again(self) -> None:
        if (installation := self.github.world.installation_of(self.name)) is not None:
            self.github.uninstall(self.name)
            installation.excluded.clear()
        if not self.name.startswith(OTHERS[1]):
            self.github.install(self.name)

    def transfer(self) -> None:
        other = self.random.choice([*self.github.world.repositories])
        if other != self.name and self.random.random() < 0.3 and len(self.open_ones()) > 1:
            self.github.transfer_issue(self.name, self.an_issue().number, other)

    def discuss(self) -> None:
        self.github.convert_to_discussion(self.name, self.an_issue().number)

    def rename_label(self) -> None:
        """Of the label that asks for runs, or one that tells of them; or it is deleted."""
        label = self.random.choice(["troop", "troop: running", "troop: done"])
        self.repository.labels.setdefault("other", "ededed")
        for issue in self.repository.issues.values():
            if label in issue.labels:
                issue.labels.remove(label)
                issue.labels += self.random.choice([[], ["other"]])

    def lose(self) -> None:
        if self.told:
            self.told.pop(self.random.randrange(len(self.told)))
            self.lost = True

    def suspend(self) -> None:
        if self.github.world.installation_of(self.name) is not None:
            super().suspend()

    def exclude(self) -> None:
        if self.github.world.installation_of(self.name) is not None:
            super().exclude()

    # -- what goes on

    async def end(self) -> None:
        for one in [*self.github.world.repositories.values()]:
            self.here = one.id
            one.archived = False
            installation = self.github.world.installation_of(self.name)
            if installation is None and not self.name.startswith(OTHERS[1]):
                self.github.install(self.name)
            elif installation is not None:
                installation.suspended = False
                installation.excluded.clear()
            for issue in self.open_ones():
                issue.locked = False
        await self.finish()

    # -- what must hold

    def at_all_times(self) -> None:
        super().at_all_times()
        with self.store.database.read() as tx:
            asked = {(row.repository_id, row.issue_number) for row in tx.execute(RUN.select())}
            asked |= {(row.repository_id, row.issue_number) for row in tx.execute(COMMAND.select())}
        for number, repository in self.known.items():
            for issue in repository.issues.values():
                ours = [one.body for one in issue.comments if one.body.startswith("<!-- troop:")]
                assert not ours or issue.pull or (number, issue.number) in asked, f"{ours[0]}\n{self.trace()}"
                by_us = issue.pull is not None and issue.user == "troop[bot]"
                assert not by_us or number in {of for of, _ in asked}, self.trace()

    def in_the_end(self) -> None:
        assert not self.store.runs(active=True), self.trace()
        ended = [run for run in self.store.runs(limit=1000) if run.state is not RunState.REFUSED]
        assert all(run.reason or run.pull_request_url for run in ended), self.trace()
        for one in [*self.github.world.repositories.values()]:
            self.here = one.id
            for issue in self.open_ones():
                assert sum(STATUS in comment.body for comment in issue.comments) <= 1, self.trace()
                answers = [c.body.split("-->")[0] for c in issue.comments if c.body.startswith("<!-- troop:answer=")]
                assert len(answers) == len(set(answers)), self.trace()
