"""Repositories that are hostile by their number of files, and git over HTTP that asks to wait: attacks 28 and 40."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from bot.errors import CheckoutError, RateLimited
from bot.git.checkout import check_out
from bot.git.command import asked_to_wait
from bot.git.workspace import Workspace
from bot.scratch import remove_tree
from tests.github.fixtures import Naps, forge_for
from tests.github.server import GitHubServer


def deep(workspace: Workspace, levels: int, wide: int) -> str:
    """A commit of `wide ** levels` files in a handful of objects."""

    def git(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", "--git-dir", str(workspace.git_dir), *words],
            input=stdin,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.strip()

    name = git("hash-object", "-w", "--stdin")
    kind = "100644 blob"
    for _ in range(levels):
        name = git("mktree", stdin="".join(f"{kind} {name}\tf{n:03}\n" for n in range(wide)))
        kind = "040000 tree"
    return git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", name, "-m", "x")


@pytest.mark.parametrize(("levels", "wide"), [(5, 100), (2, 40)], ids=["10^10 files", "1600 empty files"])
async def test_attack_40_a_repository_of_too_many_files_is_refused_before_it_is_unpacked(
    tmp_path: Path, levels: int, wide: int, monkeypatch
):
    monkeypatch.setattr("bot.git.workspace.LISTING", 1_000_000)
    workspace = Workspace(tmp_path / "w")
    await workspace.create()
    commit = await asyncio.to_thread(deep, workspace, levels, wide)
    with pytest.raises(CheckoutError, match=r"too many files|files take"):
        await workspace.materialise(commit, seconds=60, max_bytes=1_000_000)
    assert list(workspace.tree.iterdir()) == []


@pytest.mark.parametrize("name", ["n" * 256, "/".join(["d" * 200] * 25)], ids=["a long name", "a long path"])
async def test_attack_28_a_path_that_no_disk_takes_is_said_at_once(github: GitHubServer, tmp_path: Path, name: str):
    """It was taken for a fault of git's that may pass, and tried again for hours."""
    github.create_repository("o/r", {"a.py": "x = 1\n"})
    git = github.world.repository("o/r").git
    made, kind = git.git("hash-object", "-w", "--stdin", stdin=b"x").strip(), "100644 blob"
    for part in reversed(name.split("/")):
        made, kind = git.git("mktree", stdin=f"{kind} {made}\t{part}\n".encode()).strip(), "040000 tree"
    git.commit_tree(made, "Long", "main", None)
    with pytest.raises(CheckoutError, match=r"can't write a file of the repository; .{20,400}$"):
        await check_out(forge_for(github, "o/r"), "o/r", tmp_path / "w")


async def test_a_default_branch_that_is_not_there_is_said(github: GitHubServer, tmp_path: Path):
    github.create_repository("o/r", {"a.py": "x = 1\n"})
    github.world.repository("o/r").git.git("symbolic-ref", "HEAD", "refs/heads/nothing")
    with pytest.raises(CheckoutError, match="default branch has no commit; push one, or choose another"):
        await check_out(forge_for(github, "o/r"), "o/r", tmp_path / "w")


@pytest.mark.parametrize("levels", [201, 1200])
async def test_attack_40_folders_in_each_other_are_refused_before_they_are_unpacked(tmp_path: Path, levels: int):
    workspace = Workspace(tmp_path / "w")
    await workspace.create()
    commit = await asyncio.to_thread(nested, workspace, levels)
    with pytest.raises(CheckoutError, match="folders more than 200 deep"):
        await workspace.materialise(commit, seconds=60, max_bytes=1_000_000_000)
    assert list(workspace.tree.iterdir()) == []


def nested(workspace: Workspace, levels: int) -> str:
    """A commit of one file in so many folders."""
    stream = f"commit refs/heads/x\ncommitter a <a@b> 0 +0000\ndata 1\nx\nM 100644 inline {'a/' * levels}f\ndata 1\nx\n"
    git = ["git", "--git-dir", str(workspace.git_dir)]
    subprocess.run([*git, "fast-import", "--quiet"], input=stream, text=True, capture_output=True, check=True)
    return subprocess.run(
        [*git, "rev-parse", "refs/heads/x"], text=True, capture_output=True, check=True
    ).stdout.strip()


def test_attack_40_what_a_job_nested_is_removed(tmp_path: Path):
    """Beyond the length of a path, and beyond what Python's own functions walk through."""
    top = tmp_path / "top"
    script = "import os\nfor _ in range(3000):\n    os.mkdir('a'); os.chdir('a')\n"
    top.mkdir()
    subprocess.run([sys.executable, "-c", script], cwd=top, check=True)
    remove_tree(top)
    assert not top.exists()


def test_the_wait_is_read_from_the_trace():
    trace = "12:00 http.c:1  => Send header: retry-after: 9\n12:00 http.c:1  <= Recv header: Retry-After: 7\n"
    assert asked_to_wait(trace) == 7
    assert asked_to_wait("") is None


@pytest.mark.parametrize("status", [403, 429])
async def test_git_over_http_that_asks_to_wait_is_waited_for(github: GitHubServer, tmp_path: Path, status: int):
    github.create_repository("octo/hello", {"a.py": "x = 1\n"})
    naps = Naps()
    forge = forge_for(github, "octo/hello", naps)
    github.fault("GET", r"octo/hello\.git/info/refs", status=status, headers={"retry-after": "7"})
    assert await forge.clone("octo/hello", tmp_path / "to")
    assert naps.taken == [7.0]
    github.fault("GET", r"octo/hello\.git/info/refs", status=status, headers={"retry-after": "3000"})
    with pytest.raises(RateLimited) as caught:
        await forge.clone("octo/hello", tmp_path / "to")
    assert caught.value.retry_after == 3000
