"""What owners and maintainers do to a repository and its issue while a run of it goes on: attack 44.

No run is lost or stuck, what was counted is kept, and nothing is spent where nobody could be told of the result.
"""

from collections.abc import Callable

import pytest

from bot.lifecycle import RunState
from bot.records import Command, CommandName, Report
from bot.store import Store, parse, run_job
from bot.webhook.decide import decide
from bot.webhook.decisions import ReceiveCommand
from bot.webhook.rules import Rules
from tests.attacks.changing import RENAMED, REPO, Scene
from tests.bot.queueing import make_available, start
from tests.bot.sample import FILES, report
from tests.bot.webhook.deliveries import delivery
from tests.bot.worker.working import info
from tests.github import GitHubServer
from tests.patience import eventually


@pytest.mark.parametrize(
    ("name", "changes", "stopped"),
    [
        ("installation.suspend", {"action": "deleted"}, {1, 2}),
        ("installation.suspend", {}, {1, 2}),
        ("installation.suspend", {"installation__suspended_at": "2026-01-01T00:00:00Z"}, set()),  # before the label
        ("installation_repositories.added", {"action": "removed", "repositories_removed": [{"id": 2}]}, {2}),
        ("installation_repositories.added", {"action": "removed", "repositories_removed": []}, set()),
        (  # late: it was added again before the label
            "installation_repositories.added",
            {"action": "removed", "repositories_removed": [{"id": 2}], "installation__updated_at": 1767225600},
            set(),
        ),
        ("installation.created", {}, set()),
    ],
)
def test_attack_11_runs_stop_where_the_app_is_taken_away(
    store: Store, name: str, changes: dict[str, object], stopped: set[int]
) -> None:
    rules = Rules(label="troop", app_id=12345, own_login="troop[bot]")
    changes = {"installation__id": 7, "installation__suspended_at": "2026-03-03T00:00:00Z"} | changes
    changes = {"installation__updated_at": "2026-03-03T00:00:00Z"} | changes
    for number, installation in ((1, 7), (2, 7), (3, 8)):
        run = {"repository_id": number, "installation_id": installation}
        store.accept(f"run-{number}", "issues", "labeled", start(number).model_copy(update=run))
    store.accept("gone", *name.split("."), decide(delivery(name, **changes), rules))
    assert {number for number in (1, 2, 3) if info(store, number).state is RunState.STOPPED} == stopped


GONE: dict[str, tuple[Callable[[GitHubServer], object], str]] = {
    "the App is uninstalled": (lambda github: github.uninstall(REPO), "the App can't reach olive/tools"),
    "the App is suspended": (lambda github: github.suspend(REPO), "the account's owner lifts that in its settings"),
    "the installation loses the repository": (
        lambda github: github.exclude(REPO),
        "the App can't reach olive/tools: it is not installed there any more",
    ),
    "the repository is deleted": (lambda github: github.delete_repository(REPO), "or the repository is gone"),
    "the repository is archived": (lambda github: github.set_repository(REPO, archived=True), "unarchive"),
    "issues are turned off": (lambda github: github.set_repository(REPO, has_issues=False), "Issues are disabled"),
    "the issue is deleted": (lambda github: github.delete_issue(REPO, 1), "This issue was deleted"),
    "the issue is locked": (lambda github: github.lock(REPO, 1), "unlock the conversation"),
}


@pytest.mark.parametrize("change", GONE)
async def test_attack_44_nothing_is_spent_where_nobody_could_be_told(scene: Scene, change: str) -> None:
    act, words = GONE[change]
    scene.meanwhile = {RunState.QUEUED: lambda: act(scene.github)}
    await scene.run()
    state, reason = scene.end
    assert (state, scene.solved) == (RunState.FAILED, 0)
    assert words in reason
    assert scene.store.due() == ()


async def test_attack_44_the_label_tells_of_a_run_where_the_issue_is_locked(scene: Scene) -> None:
    scene.meanwhile = {RunState.QUEUED: lambda: scene.github.lock(REPO, 1)}
    await scene.run()
    assert scene.github.issue(REPO, 1)["labels"] == ["troop: failed"]
    scene.github.lock(REPO, 1, False)
    make_available(scene.store, 1)
    await scene.worker.handle(run_job(1))
    assert "nobody could be told what comes of it" in scene.told


@pytest.mark.parametrize("change", ["the App is uninstalled", "the installation loses the repository"])
async def test_attack_44_what_was_counted_is_kept_where_nothing_can_be_published(scene: Scene, change: str) -> None:
    act, words = GONE[change]
    scene.meanwhile = {RunState.PUBLISHING: lambda: act(scene.github)}
    await scene.run()
    state, reason = scene.end
    assert (state, scene.solved) == (RunState.FAILED, 1)
    assert words in reason
    kept = Report.model_validate_json(scene.store.report(1) or "")
    assert kept.verdict == report().verdict
    assert info(scene.store, 1).tokens == kept.usage.prompt_tokens + kept.usage.completion_tokens


@pytest.mark.parametrize("stage", [RunState.QUEUED, RunState.MATRIX, RunState.PUBLISHING])
async def test_attack_42_a_renamed_repository_gets_the_run_once(scene: Scene, stage: RunState) -> None:
    scene.meanwhile = {stage: lambda: scene.github.rename(REPO, RENAMED)}
    await scene.run()
    assert (scene.end[0], scene.solved) == (RunState.SOLVED, 1)
    assert len(scene.github.pull_requests(RENAMED)) == 1
    assert scene.github.issue(RENAMED, 1)["labels"] == ["troop: done"]


async def test_attack_42_a_run_goes_on_where_another_repository_took_the_old_name(scene: Scene) -> None:
    """Its status is refused, and whether anything can come of it is asked under the new name."""

    def renamed() -> None:
        scene.github.rename(REPO, RENAMED)
        scene.github.create_repository(REPO, FILES)

    async def until_noticed(stage: RunState) -> None:
        if stage is RunState.MATRIX:
            await eventually(lambda: info(scene.store, 1).repository == RENAMED)

    scene.linger = until_noticed
    scene.meanwhile = {RunState.MATRIX: renamed}
    await scene.run()
    assert (scene.end[0], scene.solved) == (RunState.SOLVED, 1)
    assert len(scene.github.pull_requests(RENAMED)) == 1


async def test_attack_42_an_end_is_told_under_the_new_name(scene: Scene) -> None:
    def renamed() -> None:
        scene.github.rename(REPO, RENAMED)
        scene.github.create_repository(REPO, FILES)  # another of the old name, with an issue of the same number
        scene.github.open_issue(REPO, "another")
        scene.store.request_stop(1, "somebody asked for it")

    scene.meanwhile = {RunState.MATRIX: renamed}
    await scene.run()
    assert scene.end == (RunState.STOPPED, "somebody asked for it")
    assert scene.github.comments(REPO, 1) == []
    (told,) = scene.github.comments(RENAMED, 1)
    assert "**Stopped**: somebody asked for it" in told


async def test_attack_42_a_command_is_answered_under_the_new_name(scene: Scene) -> None:
    repository = scene.github.world.repository(REPO)
    asked = ReceiveCommand(
        repository=REPO,
        installation_id=scene.github.installation_id(REPO),
        issue_number=1,
        comment_id=scene.github.comment(REPO, 1, "/troop status", user="olive"),
        sender="olive",
        command=Command(name=CommandName.STATUS),
        repository_id=repository.id,
    )
    job = scene.store.accept("guid", "issue_comment", "created", asked).job_id or ""
    scene.github.rename(REPO, RENAMED)
    scene.github.create_repository(REPO, FILES)
    scene.github.open_issue(REPO, "another")
    await scene.worker.handle(job)
    assert parse(job).kind == "command"
    assert scene.github.comments(REPO, 1) == []
    assert len(scene.github.comments(RENAMED, 1)) == 2
