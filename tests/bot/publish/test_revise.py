"""A revision on the test GitHub: what is pushed and told, also where the worker dies before any of its acts."""

from pathlib import Path
from typing import Any

import pytest

from bot.errors import LeaseLost
from bot.forge.github import GitHubForge
from bot.forge.markers import ALTERNATIVES, STATUS
from bot.git.checkout import check_out
from bot.lifecycle import RunState
from bot.publish.followup import FollowUp
from bot.publish.messages.labels import Labels
from bot.publish.publish import publish
from bot.publish.revise import publish_revision
from bot.publish.status_comment import announce
from bot.records import (
    Again,
    Cause,
    Checkout,
    ClaimedCommand,
    ClaimedRun,
    Command,
    CommandName,
    Feedback,
    Remark,
    Report,
    Revision,
)
from tests.bot.publish.test_followup import MemoryRuns, Run
from tests.bot.sample import FILES, GOOD, LABELLED_AT, REPO, alive, claimed_run, patch, report
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

BRANCH = "troop/issue-1-clamp-ignores-its-lower-bound"
PULL = 2
FIXED = {**FILES, "tools/clamp.py": next(change.text or "" for change in GOOD.changes)}
BETTER = patch({"tools/clamp.py": FIXED["tools/clamp.py"] + "\n\nLIMIT = 5\n"}, FIXED)
WORSE = patch({"tools/other.py": "LIMIT = 6\n"}, FIXED)


class Killed(Exception):
    """Stands for a worker that died."""


class Scene:
    """A published run, reviewed on a line and as a whole."""

    def __init__(self, github: GitHubServer, folder: Path) -> None:
        self.github = github
        self.folder = folder
        self.forge: GitHubForge = forge_for(github, REPO)
        self.head = ""
        self.acts = 0

    async def begin(self) -> None:
        base = await check_out(self.forge, REPO, self.folder / "first")
        await publish(self.forge, claimed_run(REPO), report(base_commit=base.commit), base, alive, labels=Labels())
        self.head = self.github.branches(REPO)[BRANCH]
        comments = [{"body": "name the limit", "path": "tools/clamp.py", "line": 2}]
        self.github.review(REPO, PULL, body="Close.", comments=comments, user="wendy")
        (comment,) = self.github.review_comments(REPO, PULL)
        said = Feedback(author="wendy", body="Close.")
        on_line = Feedback(author="wendy", body="name the limit", path="tools/clamp.py", line=2)
        remarks = (Remark(thread=0, feedback=said), Remark(thread=comment["id"], feedback=on_line))
        self.revision = Revision(
            pull=PULL, branch=BRANCH, cause=Cause.REVIEW, sources=(1,), remarks=remarks, at=LABELLED_AT
        )
        again = Again(command_id=3, sender="wendy", revision=self.revision)
        self.run: ClaimedRun = claimed_run(REPO, id=9, again=again)
        self.checkout: Checkout = await check_out(self.forge, REPO, self.folder / "second", self.head)
        self.report: Report = report(
            (BETTER, WORSE),
            ((True, True), (True, False)),
            (False, False),
            base_commit=base.commit,
            reviewed_commit=self.head,
            revision=self.revision,
            answers=("", "`LIMIT` has the number now, @wendy."),
        )

    async def publish(self, die_before: int = 0) -> str:
        """As a worker that dies before its n-th act, counted from 1."""
        self.acts = 0

        async def fence() -> None:
            self.acts += 1
            if self.acts == die_before:
                raise Killed

        # Another process: it remembers no comment.
        return await publish_revision(forge_for(self.github, REPO), self.run, self.report, self.checkout, fence)

    def replies(self) -> list[str]:
        found = self.github.review_comments(REPO, PULL)
        return [one["body"] for one in found if one["user"]["login"] == "troop[bot]"]

    def told(self, mark: str) -> list[str]:
        return [body for body in self.github.comments(REPO, PULL) if mark in body]


@pytest.fixture
async def scene(github: GitHubServer, tmp_path: Path) -> Scene:
    github.create_repository(REPO, FILES)
    github.open_issue(REPO, "clamp ignores its lower bound")
    github.set_permission(REPO, "wendy", "write")
    made = Scene(github, tmp_path)
    await made.begin()
    return made


async def test_killed_before_each_act_it_leaves_one_of_each(github: GitHubServer, scene: Scene) -> None:
    for point in range(1, 20):
        try:
            await scene.publish(point)
        except Killed:
            continue
        break
    assert scene.acts == point - 1 == 8, "eight acts, and each was the first that was not done once"
    git = github.world.repository(REPO).git
    assert git.git("rev-list", "--count", f"{scene.head}..{BRANCH}").strip() == "1"
    assert git.read("tools/clamp.py", BRANCH).endswith("LIMIT = 5\n")
    (check,) = github.check_runs(REPO, github.branches(REPO)[BRANCH])
    assert check["output"]["title"].startswith("Candidate 1 of 2 passes 2 of 2 tests")
    (reply,) = scene.replies()
    assert "`LIMIT` has the number now, @\u200bwendy." in reply
    assert [len(scene.told(mark)) for mark in ("### Revised", STATUS, ALTERNATIVES, "troop:reply=9")] == [1, 1, 1, 1]


async def test_an_answer_that_was_lost_makes_no_second_reply(github: GitHubServer, scene: Scene) -> None:
    github.fault("POST", "/replies$", status=502, after=True)
    github.fault("POST", "/comments$", status=502, after=True)
    await scene.publish()
    assert len(scene.replies()) == 1
    assert len(scene.told("### Revised")) == 1


async def test_a_commit_on_top_of_the_pushed_one_does_not_hide_it(github: GitHubServer, scene: Scene) -> None:
    with pytest.raises(Killed):
        await scene.publish(2)
    theirs = github.commit(REPO, {"notes.md": "mine\n"}, branch=BRANCH)
    assert await scene.publish() == ""
    assert github.branches(REPO)[BRANCH] == theirs


async def test_where_the_branch_has_moved_nothing_is_pushed_and_the_thread_is_told(
    github: GitHubServer, scene: Scene
) -> None:
    theirs = github.commit(REPO, {"notes.md": "mine\n"}, branch=BRANCH)
    assert "no longer at" in await scene.publish()
    assert github.branches(REPO)[BRANCH] == theirs
    assert "Nothing was changed: the branch" in scene.replies()[0]
    assert "Nothing was pushed" in scene.told(STATUS)[0]


async def test_a_deleted_branch_stays_deleted(github: GitHubServer, scene: Scene) -> None:
    github.world.repository(REPO).git.git("update-ref", "-d", f"refs/heads/{BRANCH}")
    assert "is gone" in await scene.publish()
    assert BRANCH not in github.branches(REPO)


@pytest.mark.parametrize("merged", [False, True])
async def test_attack_44_a_pull_request_that_is_over_gets_no_commit(
    github: GitHubServer, scene: Scene, merged: bool
) -> None:
    if merged:
        github.merge(REPO, PULL)
    else:
        github.edit_issue(REPO, PULL, user="olive", state="closed")
    assert await scene.publish() == "the pull request is closed"
    assert github.branches(REPO)[BRANCH] == scene.head
    assert "Nothing was changed: the pull request is closed" in scene.replies()[0]
    assert "**Not revised**: the pull request is closed" in scene.told(STATUS)[0]


async def test_a_pull_request_that_is_closed_once_the_commit_is_there_is_told(
    github: GitHubServer, scene: Scene
) -> None:
    with pytest.raises(Killed):
        await scene.publish(2)
    github.edit_issue(REPO, PULL, user="olive", state="closed")
    assert await scene.publish() == ""
    assert "is on the branch" in scene.told(STATUS)[0]


async def test_an_abstention_answers_each_thread(github: GitHubServer, scene: Scene) -> None:
    verdict = report((BETTER, WORSE), ((True, True), (True, False)), (False, False), winner=None).verdict
    scene.report = scene.report.model_copy(update={"verdict": verdict})
    assert "no candidate is credible" in await scene.publish()
    assert github.branches(REPO)[BRANCH] == scene.head
    assert scene.replies() == ["<!-- troop:reply=9 -->\nNothing was changed: no candidate is credible."]
    assert "### Not revised" in scene.told("troop:revision=9")[0]


async def test_a_run_that_failed_answers_each_thread_and_leaves_the_label(github: GitHubServer, scene: Scene) -> None:
    before = github.issue(REPO, 1)["labels"]
    for _ in range(2):
        forge = forge_for(github, REPO)
        await announce(forge, scene.run, RunState.FAILED, "the model is gone @olive", Labels())
    (reply,) = scene.replies()
    assert "Nothing was changed: the run failed (the model is gone @\u200bolive)." in reply
    assert "**Failed**" in scene.told(STATUS)[0]
    assert github.issue(REPO, 1)["labels"] == before


async def test_use_after_a_revision_replaces_only_its_commit(github: GitHubServer, scene: Scene) -> None:
    await scene.publish()
    runs: Any = MemoryRuns(Run(), scene.report)

    async def at(commit: str) -> Checkout:
        return await check_out(scene.forge, REPO, scene.folder / "use", commit)

    command = ClaimedCommand(
        id=1,
        repository=REPO,
        installation_id=1,
        issue_number=PULL,
        comment_id=99,
        sender="wendy",
        command=Command(name=CommandName.USE, argument=2),
        run_id=None,
        run_state=None,
    )
    body = github.pull_requests(REPO)[0]["body"]

    async def propose(_: Checkout) -> Any:
        raise AssertionError("nobody asked for a config")

    follow_up = FollowUp(forge_for(github, REPO), runs, at, labels=Labels(), propose=propose, page=str, most_more=8)
    await follow_up.execute(command)
    git = github.world.repository(REPO).git
    assert git.git("rev-parse", f"{BRANCH}^").strip() == scene.head
    assert git.read("tools/other.py", BRANCH) == "LIMIT = 6\n"
    assert git.read("tools/clamp.py", BRANCH) == FIXED["tools/clamp.py"]
    (pull,) = github.pull_requests(REPO)
    assert pull["body"] == body
    (check,) = github.check_runs(REPO, pull["head"]["sha"])
    assert check["output"]["title"].startswith("Candidate 2 of 2 passes 1 of 2 tests")


async def test_a_fence_that_is_lost_ends_it(scene: Scene) -> None:
    async def lost() -> None:
        raise LeaseLost("another has it")

    with pytest.raises(LeaseLost):
        await publish_revision(scene.forge, scene.run, scene.report, scene.checkout, lost)
    assert scene.replies() == []


async def test_a_revision_is_pushed_although_its_pull_request_is_locked(scene: Scene):
    scene.github.fault("POST", r"/comments$|/replies$", status=403, message="the conversation is locked", times=1000)
    assert await scene.publish() == ""
    assert scene.github.branches(REPO)[BRANCH] != scene.head
