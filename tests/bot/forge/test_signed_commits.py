"""Commits that GitHub makes and signs for the App: to the byte, once, and nobody else's taken for ours."""

import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.errors import BranchTaken, Refused
from bot.forge import signed_commits
from bot.forge.github import GitHubForge
from bot.git.checkout import check_out
from bot.records import Checkout, FileChange, Patch
from tests.github import GitHubServer
from tests.github.fixtures import forge_for
from tests.github.git_data import WEB_FLOW

REPO = "olive/tools"
BRANCH = "troop/issue-1-x"
FILES = {
    "a.py": "x = 1\n",
    "gone.py": "y = 1\n",
    "old/name.py": "z = 1\n",
    "run.sh": "!x #!/bin/sh\n",
    "link": "-> a.py",
    "data.bin": b"\x00\xff\x00",
}
BOT_MAIL = "2+troop[bot]@users.noreply.github.com"


@pytest.fixture
def forge(github: GitHubServer) -> GitHubForge:
    github.create_repository(REPO, FILES)
    return forge_for(github, REPO)


@pytest.fixture
async def checkout(forge: GitHubForge, tmp_path: Path) -> Checkout:
    return await check_out(forge, REPO, tmp_path / "w")


async def committed(forge: GitHubForge, checkout: Checkout, *changes: FileChange) -> str:
    made = changes or (FileChange(path="a.py", text="x = 2\n"),)
    return await forge.commit(checkout, Patch(changes=made, diff=""), "Fix x\n\nAnd why.\n", None)


async def push(forge: GitHubForge, checkout: Checkout, commit: str) -> str:
    return await forge.push(REPO, Path(checkout.workspace), BRANCH, commit, force=True)


def shown(github: GitHubServer, commit: str, form: str) -> str:
    return github.world.repository(REPO).git.git("show", "-s", f"--format={form}", commit).strip()


def verified(github: GitHubServer, commit: str) -> bool:
    return commit in github.world.repository(REPO).git.signed()


def forged(github: GitHubServer, author: tuple[str, str], committer: tuple[str, str], parent: str) -> str:
    """A person's commit on the branch, with whatever they write into it."""
    git = github.world.repository(REPO).git
    env = {f"GIT_AUTHOR_{part}": value for part, value in zip(("NAME", "EMAIL"), author, strict=True)}
    env |= {f"GIT_COMMITTER_{part}": value for part, value in zip(("NAME", "EMAIL"), committer, strict=True)}
    tree = git.git("rev-parse", f"{parent}^{{tree}}").strip()
    commit = git.git("commit-tree", tree, "-p", parent, "-m", "Mine", **env).strip()
    git.git("update-ref", f"refs/heads/{BRANCH}", commit)
    return commit


async def test_every_kind_of_change_arrives_to_the_byte(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    local = await committed(
        forge,
        checkout,
        FileChange(path="gone.py", text=None),
        FileChange(path="new/tool.sh", text="#!/bin/sh\r\nexit\r\n", executable=True),
        FileChange(path="new/name.py", text="z = 1\n"),
        FileChange(path="old/name.py", text=None),
        FileChange(path="run.sh", text="#!/bin/sh\necho \u00fc\n"),
        FileChange(path="utf16.txt", text="\ufeffgr\u00fc\u00df\n", encoding="utf-16-le"),
        FileChange(path="raw.txt", text="\udcff\udcfe\x00\n"),
        FileChange(path="w\u00e4hrung.py", text="n = 1\n"),
        FileChange(path="empty.py", text=""),
        FileChange(path="long.txt", text="0123456789" * 10_001),
    )
    pushed = await push(forge, checkout, local)
    git = github.world.repository(REPO).git
    assert git.git("rev-parse", f"{pushed}^{{tree}}") == git.git("rev-parse", f"{BRANCH}^{{tree}}")
    listing = {line.split("\t")[1]: line.split()[0] for line in git.git("ls-tree", "-r", pushed).splitlines()}
    assert {name: listing[name] for name in ("run.sh", "new/tool.sh", "link", "a.py", "data.bin")} == {
        "run.sh": "100755",
        "new/tool.sh": "100755",
        "link": "120000",
        "a.py": "100644",
        "data.bin": "100644",
    }
    assert "gone.py" not in listing
    assert "old/name.py" not in listing
    assert git.git("cat-file", "-s", f"{pushed}:long.txt").strip() == "100010"
    assert git.git("cat-file", "blob", f"{pushed}:new/tool.sh").count("\r\n") == 2
    uploaded = [r for r in github.requests if r.path.endswith("/git/blobs")]
    assert len(uploaded) == 3, "UTF-16, bytes that are no text, and a long file; the rest is in the tree's request"


async def test_the_commit_is_verified_and_by_the_app(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    local = await committed(forge, checkout)
    pushed = await push(forge, checkout, local)
    assert github.branches(REPO)[BRANCH] == pushed != local
    assert verified(github, pushed)
    assert shown(github, pushed, "%an|%cn|%P|%B") == f"troop[bot]|GitHub|{checkout.commit}|Fix x\n\nAnd why."
    (request,) = [r for r in github.requests if r.path.endswith("/git/commits")]
    assert set(request.json) == {"message", "tree", "parents"}, "GitHub signs only what has no author of our own"


async def test_another_worker_finds_what_was_pushed(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    local = await committed(forge, checkout)
    pushed = await push(forge, checkout, local)
    before = github.writes()
    assert await push(forge_for(github, REPO), checkout, local) == pushed
    assert github.writes() == before


async def test_our_own_commit_is_replaced(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    first = await push(forge, checkout, await committed(forge, checkout))
    second = await push(forge, checkout, await committed(forge, checkout, FileChange(path="a.py", text="x = 3\n")))
    assert github.branches(REPO)[BRANCH] == second != first
    assert shown(github, second, "%P") == checkout.commit


BOT = ("troop[bot]", BOT_MAIL)
GITHUB = (WEB_FLOW[0], WEB_FLOW[1])
WENDY = ("Wendy", "wendy@users.noreply.github.com")


@pytest.mark.parametrize(
    ("author", "committer", "signed"),
    [(BOT, BOT, False), (BOT, GITHUB, False), (BOT, WENDY, True), (WENDY, GITHUB, True), (WENDY, BOT, False)],
    ids=["all of it ours", "as GitHub makes ours", "signed by a person", "made on GitHub", "committed as ours"],
)
async def test_a_commit_with_forged_addresses_is_never_lost(
    github: GitHubServer,
    forge: GitHubForge,
    checkout: Checkout,
    author: tuple[str, str],
    committer: tuple[str, str],
    signed: bool,
) -> None:
    first = await push(forge, checkout, await committed(forge, checkout))
    theirs = forged(github, author, committer, first)
    if signed:
        github.world.repository(REPO).git.sign(theirs)
    other = await committed(forge, checkout, FileChange(path="a.py", text="x = 3\n"))
    with pytest.raises(BranchTaken, match=theirs[:10]):
        await push(forge, checkout, other)
    assert github.branches(REPO)[BRANCH] == theirs


async def test_a_file_too_large_for_the_api_is_pushed_by_git_and_said(
    github: GitHubServer,
    forge: GitHubForge,
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(signed_commits, "FILE_LIMIT", 5)
    local = await committed(forge, checkout)
    with caplog.at_level(logging.WARNING):
        assert await push(forge, checkout, local) == local
    assert "too large for GitHub's API" in caplog.text
    assert not verified(github, local)
    assert await push(forge_for(github, REPO), checkout, local) == local


async def test_an_api_that_makes_another_tree_is_not_used(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, caplog: pytest.LogCaptureFixture
) -> None:
    github.fault("POST", "/git/trees$", status=422, times=1)
    local = await committed(forge, checkout)
    assert await push(forge, checkout, local) == local
    assert "does not make the tree" in caplog.text


async def test_a_server_that_does_not_sign_gets_our_own_commit(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    github.world.signs = False
    one = await committed(forge, checkout)
    two = await committed(forge, checkout, FileChange(path="a.py", text="x = 3\n"))
    for commit in (one, one, two):
        assert await push(forge, checkout, commit) == commit


async def test_a_token_pushes_by_git(github: GitHubServer, forge: GitHubForge, checkout: Checkout) -> None:
    github.set_permission(REPO, "robin", "write")
    token = SecretStr(github.create_token("robin"))
    plain = forge_for(github, REPO, token=token, token_login="robin", app_id=0, private_key=SecretStr(""))
    local = await committed(plain, checkout)
    assert await push(plain, checkout, local) == local
    assert not [r for r in github.requests if "/git/commits" in r.path]


async def test_where_signatures_are_required_the_app_may_push_and_a_token_may_not(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    github.world.repository(REPO).git.require_signatures()
    github.set_permission(REPO, "robin", "write")
    token = SecretStr(github.create_token("robin"))
    plain = forge_for(github, REPO, token=token, token_login="robin", app_id=0, private_key=SecretStr(""))
    with pytest.raises(Refused, match="verified signatures"):
        await push(plain, checkout, await committed(plain, checkout))
    pushed = await push(forge, checkout, await committed(forge, checkout))
    assert github.branches(REPO)[BRANCH] == pushed


async def test_a_token_that_expires_within_the_push_is_renewed(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
) -> None:
    """After each call of the API in it, all tokens are void."""
    seen = []
    inner = github.traffic.app

    async def expiring(scope, receive, send):  # type: ignore[no-untyped-def]
        await inner(scope, receive, send)
        if scope["path"].startswith("/api/") and not scope["path"].endswith("/access_tokens"):
            seen.append(scope["path"])
            github.expire_tokens()

    local = await committed(forge, checkout)
    github.traffic.app = expiring
    try:
        await push(forge, checkout, local)
    finally:
        github.traffic.app = inner
    assert any(path.endswith("/git/commits") for path in seen)
    assert BRANCH in github.branches(REPO)
