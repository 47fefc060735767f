"""A repository that is renamed while its run waits, and whose old name another one takes: attack 42."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.errors import ForgeError, Refused
from bot.records import ClaimedRun
from bot.store import Store
from bot.worker.renamed import by_its_name_now
from tests.bot.queueing import start
from tests.github.fixtures import forge_for, settings_for
from tests.github.server import GitHubServer

OLD, NEW = "octo/hello", "octo/renamed"


@pytest.fixture
def number(github: GitHubServer) -> int:
    """The repository's."""
    found: int = github.create_repository(OLD, {"a.py": "x = 1\n"})["id"]
    return found


def waiting(store: Store, number: int) -> ClaimedRun:
    store.accept("guid", "issues", "labeled", start(1, OLD).model_copy(update={"repository_id": number}))
    claimed = store.claim_run(1, "worker", 60.0)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("taken", [False, True], ids=["the old name is free", "another repository has the old name"])
async def test_attack_42_a_waiting_run_goes_on_in_the_renamed_repository(
    github: GitHubServer, store: Store, number: int, taken: bool
):
    run = waiting(store, number)
    github.rename(OLD, NEW)
    if taken:
        github.create_repository(OLD, {"a.py": "another's\n"})
    now = await by_its_name_now(run, forge_for(github, NEW), store, settings_for(github))
    assert now.repository == NEW
    assert [run.repository for run in store.runs()] == [NEW]


async def test_attack_42_a_name_that_the_operator_does_not_allow_is_refused(
    github: GitHubServer, store: Store, number: int
):
    run = waiting(store, number)
    github.rename(OLD, NEW)
    with pytest.raises(Refused, match="octo/hello is octo/renamed now, which is not in TROOP_REPOSITORIES"):
        await by_its_name_now(run, forge_for(github, NEW), store, settings_for(github, repositories=(OLD,)))


async def test_a_run_whose_repository_has_its_name_costs_no_request_more(
    github: GitHubServer, store: Store, number: int
):
    run, forge = waiting(store, number), forge_for(github, OLD)
    before = len(github.requests)
    assert await by_its_name_now(run, forge, store, settings_for(github)) == run
    assert await forge.permission(OLD, "octo") == "admin"
    assert [request.path.rpartition("/")[2] for request in github.requests[before:]] == ["access_tokens", "permission"]


async def test_attack_42_with_a_persons_token_another_repository_of_the_name_is_refused(
    github: GitHubServer, store: Store, number: int
):
    run = waiting(store, number)
    token = {"app_id": 0, "token": SecretStr(github.create_token("octo"))}
    forge = forge_for(github, OLD, **token)
    assert await by_its_name_now(run, forge, store, settings_for(github, **token)) == run
    github.rename(OLD, NEW)
    github.create_repository(OLD, {"a.py": "another's\n"})
    with pytest.raises(Refused, match="the name octo/hello belongs to another repository now"):
        await by_its_name_now(run, forge, store, settings_for(github, **token))


async def test_a_repository_that_is_gone_keeps_its_name(github: GitHubServer, store: Store, number: int):
    """What is asked for next tells what is wrong."""
    run, forge = waiting(store, number), forge_for(github, OLD)
    github.create_repository(NEW, {})
    github.rename(OLD, "elsewhere/hello")
    assert await by_its_name_now(run, forge, store, settings_for(github)) == run


async def test_attack_42_a_repository_that_went_to_another_owner_is_found_there(
    github: GitHubServer, store: Store, number: int
):
    """The old owner keeps the installation that the run knows; the new one's has the repository."""
    run, forge = waiting(store, number), forge_for(github, OLD)
    github.world.install("hubot")
    github.rename(OLD, "hubot/hello")
    now = await by_its_name_now(run, forge, store, settings_for(github))
    assert now.repository == "hubot/hello"
    assert await forge.permission("hubot/hello", "octo") == "admin"
    assert await forge.tip("hubot/hello", "main")


async def test_attack_42_git_that_is_redirected_is_tried_again_by_the_new_name(
    github: GitHubServer, number: int, tmp_path: Path
):
    forge = forge_for(github, OLD)
    await forge.clone(OLD, tmp_path / "first")
    github.rename(OLD, NEW)
    with pytest.raises(ForgeError, match="under another name now") as caught:
        await forge.clone(OLD, tmp_path / "second")
    assert not isinstance(caught.value, Refused)


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_attack_42_a_write_that_is_redirected_is_not_taken_for_done(
    github: GitHubServer, number: int, status: int
):
    """As GitHub answers where the repository is renamed during the run: the next attempt asks for the name."""
    issue = github.open_issue(OLD, "a title")
    forge = forge_for(github, OLD)
    elsewhere = {"location": f"{github.api_url}/repositories/{number}/issues"}
    github.fault("POST", "/repos/", status=status, headers=elsewhere, message="Moved", times=100)
    for write in (
        forge.comment(OLD, issue, "<!-- x -->", "words"),
        forge.set_label(OLD, issue, "troop: running", ("troop", "troop: running")),
        forge.pull_request(OLD, "troop/issue-1-x", "a title", "words"),
    ):
        with pytest.raises(ForgeError, match="under another name now") as caught:
            await write
        assert not isinstance(caught.value, Refused)
