"""What happens to a repository, its issue and the App in the middle of a run: attack 44.

Every run ends, once, and says why; none goes on spending where nothing can come of it.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bot.errors import Refused
from bot.forge.markers import ALTERNATIVES
from bot.lifecycle import RunState
from bot.store import Store, run_job
from tests.attacks.changing import REPO, Scene, set_up
from tests.bot.conftest import store  # SQLite's alone
from tests.bot.sample import FILES
from tests.bot.worker.working import info
from tests.github import GitHubServer
from tests.github.fixtures import forge_for
from tests.patience import eventually

__all__ = ["store"]

Act = Callable[[GitHubServer], object]
SENDER = "olive"


@pytest.fixture
async def scene(
    github: GitHubServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    granted = dict(github.world.app.permissions)
    scene = set_up(github, store, tmp_path, monkeypatch)
    yield scene
    await scene.worker.close()
    github.world.app.permissions = granted


async def happens(scene: Scene, act: Act, stage: RunState) -> None:
    """Run, and let that happen as the stage begins. What the run pays for until then counts no more."""

    def now() -> None:
        scene.paid.clear()
        act(scene.github)

    scene.meanwhile = {stage: now}
    await scene.run()


def unlabel(github: GitHubServer) -> None:
    (label,) = github.issue(REPO, 1)["labels"]
    github.unlabel(REPO, 1, label)


def transfer_issue(github: GitHubServer) -> None:
    github.create_repository("olive/other", FILES)
    github.transfer_issue(REPO, 1, "olive/other")


TOLD_OF: dict[str, tuple[Act, str]] = {  # by a webhook
    "the issue is closed": (lambda github: github.edit_issue(REPO, 1, state="closed"), "the issue was closed"),
    "the issue is transferred": (transfer_issue, "the issue was transferred"),
    "the issue is deleted": (lambda github: github.delete_issue(REPO, 1), "the issue was deleted"),
    "the issue becomes a discussion": (lambda github: github.convert_to_discussion(REPO, 1), "the issue was closed"),
    "the label is removed": (unlabel, "the label was removed"),
    "the App is uninstalled": (lambda github: github.uninstall(REPO), "the App was uninstalled"),
    "the App is suspended": (lambda github: github.suspend(REPO), "the App was suspended"),
}
UNTOLD: dict[str, tuple[Act, str]] = {  # or before it arrives
    **{
        change: (TOLD_OF[change][0], words)
        for change, words in {
            "the issue is transferred": "finds nothing that we may see",
            "the issue is deleted": "This issue was deleted",
            "the issue becomes a discussion": "the issue is closed",
            "the App is uninstalled": "the App can't reach",
            "the App is suspended": "is suspended",
        }.items()
    },
    "the repository is archived": (lambda github: github.set_repository(REPO, archived=True), "is archived; unarchive"),
    "the repository is deleted": (lambda github: github.delete_repository(REPO), "or the repository is gone"),
    "it goes to an owner without the App": (lambda github: github.rename(REPO, "nobody/tools"), "the App can't reach"),
    "issues are turned off": (lambda github: github.set_repository(REPO, has_issues=False), "Issues are disabled"),
    "the installation loses it": (lambda github: github.exclude(REPO), "the App can't reach olive/tools"),
}


@pytest.mark.parametrize("stage", [RunState.CHECKOUT, RunState.TRAJECTORIES])
@pytest.mark.parametrize("change", TOLD_OF)
async def test_attack_44_a_run_stops_at_once_where_github_tells(scene: Scene, change: str, stage: RunState) -> None:
    act, words = TOLD_OF[change]

    def act_and_tell(github: GitHubServer) -> None:
        act(github)
        scene.deliver()

    await happens(scene, act_and_tell, stage)
    state, why = scene.end
    assert state is RunState.STOPPED
    _, noticed = UNTOLD.get(change, (act, "the issue is closed"))
    assert why == words or noticed in why, "the worker may look before the webhook is read"
    assert len(scene.paid) <= 1, "what was under way"
    await ended_once(scene)


@pytest.mark.parametrize("change", UNTOLD)
async def test_attack_44_a_run_stops_where_its_status_can_not_be_written_any_more(scene: Scene, change: str) -> None:
    act, words = UNTOLD[change]

    async def until_noticed(stage: RunState) -> None:
        if stage is RunState.TRAJECTORIES:
            await eventually(lambda: info(scene.store, 1).stop_requested)

    scene.linger = until_noticed
    await happens(scene, act, RunState.TRAJECTORIES)
    assert scene.end[0] is RunState.STOPPED
    assert words in scene.end[1]
    assert scene.paid == [RunState.TRAJECTORIES]
    await ended_once(scene)


async def ended_once(scene: Scene) -> None:
    """Nothing is due, and whoever takes the run again changes nothing."""
    before = scene.end, scene.github.writes()
    await scene.worker.handle(run_job(1))
    assert (scene.end, scene.github.writes()) == before
    assert not scene.store.runs(active=True)
    pulls = [issue for one in scene.github.world.repositories.values() for issue in one.issues.values() if issue.pull]
    assert pulls == []


async def test_attack_44_a_locked_issue_gets_its_pull_request(scene: Scene) -> None:
    """Nothing can be said on it, but the work can be published: the run goes on after that was asked."""

    def looks() -> int:
        return sum(each.path.endswith("/tools") for each in scene.github.requests)

    async def until_asked(stage: RunState) -> None:
        if stage is RunState.TRAJECTORIES:
            before = looks()
            await eventually(lambda: looks() > before)

    scene.linger = until_asked
    await happens(scene, lambda github: github.lock(REPO, 1), RunState.TRAJECTORIES)
    assert scene.end[0] is RunState.SOLVED
    assert len(scene.github.pull_requests(REPO)) == 1
    assert scene.github.issue(REPO, 1)["labels"] == ["troop: done"]


GOES_ON: dict[str, Act] = {
    "the repository is made private": lambda github: github.set_repository(REPO, private=True),
    "who asked may only read now": lambda github: github.set_permission(REPO, SENDER, "read"),
}


@pytest.mark.parametrize("change", GOES_ON)
async def test_attack_44_what_was_asked_for_rightly_is_published(scene: Scene, change: str) -> None:
    await happens(scene, GOES_ON[change], RunState.TRAJECTORIES)
    assert scene.end[0] is RunState.SOLVED
    assert scene.github.issue(REPO, 1)["labels"] == ["troop: done"]


REFUSED_LATER: dict[str, tuple[Act, str]] = {
    "the base branch is deleted": (lambda github: github.delete_branch(REPO, "main"), "force-pushed or deleted"),
    "the base branch is force-pushed": (lambda github: github.rewrite_branch(REPO, "main"), "force-pushed or deleted"),
    "the App may push no longer": (
        lambda github: github.world.app.permissions.update(contents="read"),
        "the App lacks contents: write on olive/tools; grant it in the App's settings",
    ),
    "the App may open no pull requests": (
        lambda github: github.world.app.permissions.update(pull_requests="read"),
        "the App lacks pull_requests: write on olive/tools",
    ),
}


@pytest.mark.parametrize("change", REFUSED_LATER)
async def test_attack_44_what_can_not_be_published_any_more_is_told_on_the_issue(scene: Scene, change: str) -> None:
    act, words = REFUSED_LATER[change]
    await happens(scene, act, RunState.TRAJECTORIES)
    assert scene.end[0] is RunState.FAILED
    assert words in scene.end[1]
    assert scene.store.report(1) is not None
    (kept,) = [body for body in scene.github.comments(REPO, 1) if ALTERNATIVES in body]
    assert words in kept
    assert scene.told.count("**Failed**") == 1
    await ended_once(scene)


@pytest.mark.parametrize("permission", ["contents", "pull_requests", "issues"])
async def test_attack_44_nothing_is_spent_where_the_app_may_not_publish(scene: Scene, permission: str) -> None:
    await happens(scene, lambda github: github.world.app.permissions.update({permission: "read"}), RunState.QUEUED)
    assert (scene.end[0], scene.paid) == (RunState.FAILED, [])
    assert f"the App lacks {permission}: write on olive/tools" in scene.end[1]
    await ended_once(scene)


async def test_attack_44_a_repository_that_is_gone_is_no_lack_of_permission(github: GitHubServer) -> None:
    github.create_repository(REPO, FILES)
    forge = forge_for(github, REPO)
    assert [await forge.permission(REPO, login) for login in (SENDER, "nobody-of-that-name")] == ["admin", "none"]
    github.delete_repository(REPO)
    with pytest.raises(Refused, match="finds nothing that we may see"):
        await forge.permission(REPO, SENDER)
