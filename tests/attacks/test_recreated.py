"""Another repository under the name of one that was deleted or renamed: attack 42."""

import pytest

from bot.lifecycle import RunState
from bot.records import CommandName
from bot.store import Store, parse
from bot.webhook.decisions import CancelRun
from tests.attacks.changing import REPO, Scene
from tests.bot.queueing import command, start
from tests.bot.sample import FILES


@pytest.mark.parametrize("stage", [RunState.QUEUED, RunState.CHECKOUT, RunState.MATRIX, RunState.PUBLISHING])
async def test_attack_42_a_run_of_a_deleted_repository_leaves_its_successor_alone(
    scene: Scene, stage: RunState
) -> None:
    github = scene.github

    def recreated() -> None:
        github.delete_repository(REPO)
        github.create_repository(REPO, FILES)
        github.open_issue(REPO, "another issue of the same number")

    scene.meanwhile = {stage: recreated}
    await scene.run()
    assert scene.end[0] in (RunState.FAILED, RunState.STOPPED)
    assert github.comments(REPO, 1) == []
    assert github.issue(REPO, 1)["labels"] == []
    assert github.pull_requests(REPO) == []
    assert list(github.branches(REPO)) == ["main"]


def test_attack_42_a_label_in_the_successor_starts_a_run_of_its_own(store: Store) -> None:
    first, second = (start(repository="octo/a").model_copy(update={"repository_id": number}) for number in (1, 2))
    store.accept("g1", "issues", "labeled", first)
    assert store.accept("g2", "issues", "labeled", second).note == "run 2 is queued"
    assert [run.id for run in store.runs(repository="octo/a")] == [2]
    closed = CancelRun(repository="octo/a", issue_number=1, reason="closed", repository_id=2)
    assert store.accept("g3", "issues", "closed", closed).note == "closed; run 2 is stopped"
    assert [run.id for run in store.runs(active=True)] == [1]


def test_attack_42_a_command_in_the_successor_finds_no_run(store: Store) -> None:
    store.accept("g1", "issues", "labeled", start(repository="octo/a").model_copy(update={"repository_id": 1}))
    asked = command(name=CommandName.STOP).model_copy(update={"repository": "octo/a", "repository_id": 2})
    job = parse(store.accept("g2", "issue_comment", "created", asked).job_id or "")
    claimed = store.claim_command(job.id, "w", 60)
    assert claimed is not None
    assert (claimed.repository, claimed.run_id) == ("octo/a", None)
    assert store.runs(repository="octo/a") == ()
