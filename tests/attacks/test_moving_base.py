"""The base branch moves, is force-pushed or deleted while a run goes on, or a ruleset refuses the push."""

from pathlib import Path

import pytest

from bot.errors import ForgeError, Unpublished
from bot.forge.github import GitHubForge
from bot.forge.markers import ALTERNATIVES
from bot.lifecycle import STAGES, RunState
from bot.publish.messages.labels import Labels
from bot.publish.publish import Published, publish
from bot.records import Checkout, Report
from bot.store import DbJournal, Store
from bot.worker.executor import Service, Watchers
from tests.bot.queueing import start
from tests.bot.sample import REPO, alive, claimed_run, report
from tests.github import GitHubServer
from tests.github.fixtures import settings_for


async def published(forge: GitHubForge, checkout: Checkout) -> Published:
    return await publish(forge, claimed_run(REPO), report(), checkout, alive, labels=Labels())


def git(github: GitHubServer, *arguments: str) -> str:
    return github.world.repository(REPO).git.git(*arguments).strip()


async def test_attack_44_a_base_that_moved_on_gets_the_pull_request(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    github.commit(REPO, {"other.py": "1\n"})
    done = await published(forge, checkout)
    (pull,) = github.pull_requests(REPO)
    assert "other.py" not in pull["diff"]
    assert git(github, "rev-parse", f"{done.commit}^") == checkout.commit


@pytest.mark.parametrize("deleted", [False, True], ids=["rewritten", "deleted"])
async def test_attack_44_a_base_that_was_force_pushed_or_deleted_is_said_and_the_work_kept(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, deleted: bool
) -> None:
    tree = git(github, "rev-parse", "main^{tree}")
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    anew = git(github, *identity, "commit-tree", tree, "-m", "rewritten")
    git(github, "update-ref", *(("-d", "refs/heads/main") if deleted else ("refs/heads/main", anew)))
    with pytest.raises(Unpublished, match="was force-pushed or deleted"):
        await published(forge, checkout)
    check_kept(github)


async def test_attack_44_a_base_that_was_renamed_is_said_and_the_work_kept(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    git(github, "branch", "-m", "main", "trunk")
    with pytest.raises(Unpublished, match=r"the branch main.* is not there any more"):
        await published(forge, checkout)
    check_kept(github)


async def test_attack_44_where_a_pull_request_is_refused_it_is_said_and_the_work_kept(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    said = "Pull request creation is limited to collaborators."
    github.fault("POST", "/pulls$", status=422, message=said)
    with pytest.raises(Unpublished, match=said):
        await published(forge, checkout)
    check_kept(github)


async def test_what_passes_by_itself_is_tried_again(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    github.fault("POST", "/pulls$", status=422, message="A pull request already exists for olive:troop/x.")
    with pytest.raises(ForgeError, match="already exists") as caught:
        await published(forge, checkout)
    assert type(caught.value) is ForgeError
    assert (await published(forge, checkout)).pull_request_url


def check_kept(github: GitHubServer) -> None:
    assert github.pull_requests(REPO) == []
    (told,) = [body for body in github.comments(REPO, 1) if ALTERNATIVES in body]
    assert "No pull request: GitHub refused it" in told
    assert told.count("```diff") == len(report().verdict.standings)


async def test_attack_44_where_a_ruleset_refuses_the_push_it_is_said(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    hook = Path(git(github, "rev-parse", "--absolute-git-dir")) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'GH013: Repository rule violations found for refs/heads/troop/x.'\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Unpublished, match="GH013"):
        await published(forge, checkout)
    check_kept(github)


async def test_attack_44_the_count_is_kept_where_the_repository_was_archived(
    github: GitHubServer, forge: GitHubForge, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the issue can't be told of it, either."""
    service = Service(settings_for(github, work_dir=tmp_path / "work"), store, local=True)

    async def solved(*_: object) -> Report:
        github.set_repository(REPO, archived=True)
        return report()

    monkeypatch.setattr(service, "_solve", solved)
    github.set_permission(REPO, "ann", "write")
    github.label(REPO, 1, user="ann")
    asked = start(1, REPO).model_copy(update={"installation_id": github.installation_id(REPO)})
    store.accept("g", "issues", "labeled", asked)
    run = store.claim_run(1, "w", 60)
    assert run is not None

    async def advance(state: RunState) -> None:
        store.advance(run.id, run.attempt, state)

    for state in STAGES[: STAGES.index(RunState.PUBLISHING)]:
        store.advance(run.id, run.attempt, state)
    end = await service.execute(run, DbJournal(store, run.id, run.attempt), Watchers([]), advance)
    await service.close()
    assert end.state is RunState.FAILED
    assert "archived" in end.note
    assert Report.model_validate_json(end.report_json or "").verdict == report().verdict
