"""Publishing on the test GitHub: once, whatever happens; and never over what the policy forbids."""

import itertools
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.errors import ForgeError, LeaseLost, Refused
from bot.forge import signed_commits
from bot.forge.branches import branch_of, other_branch_of, pull_number
from bot.forge.github import GitHubForge
from bot.forge.markers import ALTERNATIVES, STATUS
from bot.patch.diff import file_diff
from bot.publish.messages.labels import Labels
from bot.publish.messages.reason import reason
from bot.publish.publish import Published, publish
from bot.records import Checkout, FileChange, Issue, Outcome, Patch, RegressionTest, Report
from bot.settings.pages import PagesSettings
from tests.bot.sample import GOOD, REPO, alive, claimed_run, fix, issue, patch, report
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

BRANCH = "troop/issue-1-clamp-ignores-its-lower-bound"
LABELS = Labels()


class Died(BaseException):
    """The worker was killed."""


async def run(forge: GitHubForge, checkout: Checkout, made: Report | None = None, **options: object) -> Published:
    fence = options.pop("fence", alive)
    made = made or report()
    return await publish(forge, claimed_run(REPO), made, checkout, fence, labels=LABELS, **options)  # type: ignore[arg-type]


def check_one_of_each(github: GitHubServer) -> None:
    (pull,) = github.pull_requests(REPO)
    assert (pull["draft"], pull["head"]["ref"], pull["base"]["ref"]) == (True, BRANCH, "main")
    assert pull["title"] == "Fix: clamp ignores its lower bound"
    assert pull["body"].startswith("<!-- troop:issue=1 -->\nFixes #1.")
    assert "+    return max(low, min(x, high))" in pull["diff"]
    (status,) = github.comments(REPO, 1)
    assert status.startswith(STATUS)
    assert f"**Draft ready**: #{pull['number']}, with candidate 1 of 3." in status
    (rest,) = github.comments(REPO, pull["number"])
    assert rest.startswith(ALTERNATIVES)
    assert github.issue(REPO, 1)["labels"] == ["troop: done"]
    assert set(github.branches(REPO)) == {"main", BRANCH}
    (check,) = github.check_runs(REPO, pull["head"]["sha"])
    assert (check["name"], check["status"]) == ("Troop", "completed")
    assert check["output"]["title"] == "Candidate 1 of 3 passes 3 of 3 tests, 1 its own"


async def test_published(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    done = await run(forge, checkout)
    check_one_of_each(github)
    assert done.pull_request_url == github.pull_requests(REPO)[0]["html_url"]
    assert (done.branch, done.commit) == (BRANCH, github.branches(REPO)[BRANCH])
    assert (
        github.read_file(REPO, "tools/clamp.py", BRANCH)
        == "def clamp(x, low, high):\n    return max(low, min(x, high))\n"
    )


async def test_the_runs_page_is_linked_where_people_reach_it(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    assert PagesSettings().of_run(7) == ""
    page = PagesSettings(url="https://troop.example.com/").of_run(7)
    await run(forge, checkout, page=page)
    assert "(https://troop.example.com/runs/7)" in github.pull_requests(REPO)[0]["body"]


@pytest.mark.parametrize("who", ["an App of before", "a person's token", "an App whose check runs are refused"])
async def test_without_the_permission_there_is_no_check_run(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    if who == "an App of before":
        monkeypatch.delitem(github.world.app.permissions, "checks")
    elif who == "an App whose check runs are refused":
        github.fault("POST", "/check-runs$", status=403, times=9)
    else:
        forge = forge_for(github, REPO, token=SecretStr(github.create_token("olive")), token_login="olive")
    done = await run(forge, checkout)
    assert github.check_runs(REPO, done.commit) == []
    (pull,) = github.pull_requests(REPO)
    assert pull["html_url"] == done.pull_request_url
    assert github.issue(REPO, 1)["labels"] == ["troop: done"]


async def test_a_regression_test_is_published_with_the_winner(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    path, text = "tests/test_clamp.py", "from tools.clamp import clamp\n"
    brought = RegressionTest(change=FileChange(path=path, text=text), diff=file_diff(path, None, text))
    await run(forge, checkout, report().model_copy(update={"regression_test": brought}))
    check_one_of_each(github)
    assert github.read_file(REPO, path, BRANCH) == text
    assert path in github.pull_requests(REPO)[0]["diff"]


async def test_twice_is_once(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    first = await run(forge, checkout)
    assert await run(forge_for(github, REPO), checkout) == first
    check_one_of_each(github)


@pytest.mark.parametrize("acts", range(8))
async def test_killed_between_any_two_acts(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, acts: int
) -> None:
    """The call to GitHub succeeded, and the process died before it could say so to the database."""
    count = itertools.count()

    async def until() -> None:
        if next(count) == acts:
            raise Died

    if acts < 7:
        with pytest.raises(Died):
            await run(forge, checkout, fence=until)
    else:
        await run(forge, checkout, fence=until)
    await run(forge_for(github, REPO), checkout)
    check_one_of_each(github)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pulls$"),
        ("POST", "/comments$"),
        ("POST", "/labels$"),
        ("POST", "git-receive-pack$"),
        ("POST", "/git/trees$"),
        ("POST", "/git/commits$"),
        ("POST", "/check-runs$"),
    ],
)
async def test_every_answer_is_lost_once(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, method: str, path: str
) -> None:
    github.fault(method, path, status=502, after=True)
    await run(forge, checkout)
    check_one_of_each(github)


async def test_a_worker_without_the_lease_writes_nothing(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    async def lost() -> None:
        raise LeaseLost("another worker has it")

    writes = github.writes()
    with pytest.raises(LeaseLost):
        await run(forge, checkout, fence=lost)
    assert github.writes() == writes
    assert set(github.branches(REPO)) == {"main"}


async def test_an_abstaining_run_shows_its_evidence_on_the_issue(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    made = report(winner=None)
    for _ in range(2):
        assert await run(forge, checkout, made) == Published()
    assert github.pull_requests(REPO) == []
    assert set(github.branches(REPO)) == {"main"}
    evidence, status = github.comments(REPO, 1)
    assert evidence.startswith(ALTERNATIVES)
    assert f"> {reason(made)}" in evidence
    assert status.startswith(STATUS)
    assert github.issue(REPO, 1)["labels"] == ["troop: no fix"]
    assert github.world.repository(REPO).labels["troop: no fix"] not in ("0e8a16", "ededed")  # not green


async def test_a_failed_run_is_not_published(forge: GitHubForge, checkout: Checkout) -> None:
    made = report()
    verdict = made.verdict.model_copy(update={"outcome": Outcome.FAILED})
    with pytest.raises(ValueError, match="is not published"):
        await run(forge, checkout, made.model_copy(update={"verdict": verdict}))


async def test_peoples_commits_are_not_pushed_over(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    theirs = github.commit(REPO, {"mine.py": "1"}, branch=BRANCH)
    made = report()
    done = await run(forge, checkout, made)
    assert github.branches(REPO)[BRANCH] == theirs
    assert done.branch == other_branch_of(made)
    assert github.branches(REPO)[done.branch] == done.commit


async def test_a_new_run_moves_the_branch(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    await run(forge, checkout)
    await run(forge, checkout, report(winner=1))
    check_one = github.pull_requests(REPO)
    assert len(check_one) == 1
    assert "min(max(x, low), high)" in check_one[0]["diff"]


@pytest.mark.parametrize(
    "path",
    [".github/workflows/ci.yml", "CODEOWNERS", "docs/CODEOWNERS", "poetry.lock", "AGENTS.md", ".gitmodules", "../x"],
)
async def test_the_policy_stops_it(github: GitHubServer, forge: GitHubForge, checkout: Checkout, path: str) -> None:
    """Attacks 16 and 17."""
    bad: Patch = patch({path: "evil\n"})
    made = report(patches=(bad,), cells=((True,),), base=(False,))
    with pytest.raises(Refused, match="may not be published"):
        await run(forge, checkout, made)
    assert set(github.branches(REPO)) == {"main"}
    assert github.pull_requests(REPO) == []


async def test_what_is_flagged_is_shown(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    made = report(patches=(patch({"setup.py": "x\n"}),), cells=((True,),), base=(False,))
    await run(forge, checkout, made)
    assert "Look closely: `setup.py" in github.pull_requests(REPO)[0]["body"]


async def test_a_commit_that_is_too_large_to_be_signed_is_said(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_commits, "FILE_LIMIT", 5)
    await run(forge, checkout)
    assert "is not verified, since" in github.pull_requests(REPO)[0]["body"]


async def test_where_the_repository_refuses_the_bundle_the_pull_request_says_what_to_do(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    hook = Path(github.world.repository(REPO).git.path) / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n! grep -q refs/troop/ || { echo 'GH013: Repository rule violations' >&2; exit 1; }\n")
    hook.chmod(0o755)
    await run(forge, checkout)
    body = github.pull_requests(REPO)[0]["body"]
    assert "push ruleset" in body
    assert "GH013" in body
    assert "troop verify" not in body


async def test_a_secret_is_never_published(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    """Attack 20."""
    forge = forge_for(github, REPO, webhook_secret=SecretStr("hunter2-hunter2"))
    leaky = fix("return 'hunter2-hunter2'")
    made = report(patches=(leaky,), cells=((True,),), base=(False,))
    with pytest.raises(Refused, match="holds a secret"):
        await run(forge, checkout, made)
    assert github.pull_requests(REPO) == []
    made = report(patches=(GOOD, leaky), cells=((True,), (True,)), base=(False,), said="hunter2-hunter2")
    await run(forge, checkout, made)
    sent = "".join(r.body.decode(errors="replace") for r in github.requests if "git-" not in r.path)
    assert "hunter2" not in sent


async def test_github_stays_broken(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    github.fault("POST", "/pulls$", status=500, times=100)
    with pytest.raises(ForgeError, match="answered with an error"):
        await run(forge, checkout)
    github.clear_faults()
    await run(forge, checkout)
    check_one_of_each(github)


# -- branches (attack 18) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "branch"),
    [
        ("clamp ignores its lower bound", BRANCH),
        ("$(id); rm -rf /", "troop/issue-1-id-rm-rf"),
        ("--upload-pack=evil", "troop/issue-1-upload-pack-evil"),
        ("../../main\n..lock", "troop/issue-1-main-lock"),
        ("Überlauf: größer", "troop/issue-1-uberlauf-groer"),
        ("日本語", "troop/issue-1"),
        ("x" * 300, f"troop/issue-1-{'x' * 40}"),
    ],
)
def test_branch_of(title: str, branch: str) -> None:
    assert branch_of(Issue(title=title, body="", number=1)) == branch


def test_pull_number() -> None:
    assert pull_number("https://github.example/olive/tools/pull/12") == 12
    assert pull_number("") is None
    assert issue().number == 1
