"""Safe git: names are checked, nobody's configuration runs, time and size are capped."""

import asyncio
import errno
import os
import re
from pathlib import Path

import pytest

from bot.errors import CheckoutError, ForgeError, GitFailed
from bot.git.command import Limits, Remote, check_branch, check_commit, folder_size, git
from bot.git.workspace import Workspace
from tests.patience import PATIENCE, eventually, growing, soon


def lives(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def below(folder: Path, name: str) -> list[Path]:
    return list(folder.rglob(name))


@pytest.mark.parametrize(
    "name",
    ["main", "troop/issue-1-x", "feature/a.b_c", "v1.0", "UPPER", "a+b", "x" * 199],
)
def test_branches(name: str) -> None:
    assert check_branch(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-x",
        "--upload-pack=touch x",
        "a..b",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        "a/.b",
        ".a",
        "a.lock",
        "a.lock/b",
        "a.",
        "a b",
        "a\nb",
        "a\x00b",
        "$(id)",
        "`id`",
        "a;b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "@{-1}",
        "HEAD",
        "x" * 300,
        "é",
        "a\n",
    ],
)
def test_no_branches(name: str) -> None:
    """Attack 18."""
    with pytest.raises(ForgeError):
        check_branch(name)


@pytest.mark.parametrize("name", ["HEAD", "main", "0" * 39, "0" * 41, "G" * 40, "--all", "0" * 40 + "\n"])
def test_no_commits(name: str) -> None:
    with pytest.raises(ForgeError):
        check_commit(name)


def test_commits() -> None:
    assert check_commit("0a" * 20) == "0a" * 20
    assert check_commit("0a" * 32) == "0a" * 32


def test_the_token_travels_by_the_environment_for_one_host() -> None:
    remote = Remote("https://github.example:8443/o/r.git", "ghs_secret")
    env = remote.environment()
    assert env["GIT_CONFIG_KEY_0"] == "http.https://github.example:8443/.extraHeader"
    assert "ghs_secret" not in env["GIT_CONFIG_VALUE_0"]  # in base64
    assert Remote("https://github.example/o/r.git").environment() == {}


async def test_a_command_that_is_an_option_alone(tmp_path: Path) -> None:
    assert (await git("--version", cwd=tmp_path)).startswith(b"git version")


async def test_nobodys_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[alias]\n\tpwn = !echo pwned\n[user]\n\tname = somebody\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch pwned")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    with pytest.raises(GitFailed, match="is not a git command"):
        await git("pwn", cwd=tmp_path)
    with pytest.raises(GitFailed):
        await git("config", "user.name", cwd=tmp_path)


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% pwned", "ssh://-oProxyCommand=touch pwned/x", "file:///etc", "/etc"]
)
async def test_only_http_is_spoken(tmp_path: Path, url: str) -> None:
    workspace = Workspace(tmp_path / "w")
    await workspace.create()
    with pytest.raises(GitFailed):
        await workspace.fetch(Remote(url), "", seconds=PATIENCE, max_bytes=1_000_000)
    assert not below(tmp_path, "pwned")


async def test_no_path_of_this_machine_is_fetched(tmp_path: Path) -> None:
    theirs = Workspace(tmp_path / "theirs")
    await theirs.create()
    tree = (await theirs.git("write-tree")).decode().strip()
    who = {f"GIT_{role}_{part}": "x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    commit = (await theirs.git("commit-tree", tree, "-m", "x", env=who)).decode().strip()
    await theirs.git("update-ref", "HEAD", commit)
    mine = Workspace(tmp_path / "mine")
    await mine.create()
    for url in (str(theirs.git_dir), f"file://{theirs.git_dir}"):
        with pytest.raises(GitFailed, match="not allowed"):
            await mine.fetch(Remote(url), "", seconds=PATIENCE, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("error: unable to write symref for HEAD: No space left on device", errno.ENOSPC),
        ("fatal: write error: Disk quota exceeded\nfatal: index-pack failed", errno.EDQUOT),
        ('error: open("x"): Too many open files', errno.EMFILE),
        ("fatal: could not create work tree dir 'tree': Read-only file system", errno.EROFS),
        ("fatal: write error: Input/output error\nfatal: index-pack failed", errno.EIO),
        ("remote: fatal: write error: No space left on device", None),
        ("fatal: invalid path 'No space left on device/x'", None),
        ("", None),
    ],
)
async def test_what_this_machine_has_run_out_of_is_no_fault_of_github(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, number: int | None
) -> None:
    """Then the run waits, and the issue is told."""
    (tmp_path / "git").write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(OSError if number else GitFailed) as caught:
        await git("init", cwd=tmp_path)
    assert getattr(caught.value, "errno", None) == number


async def test_what_git_says_is_redacted(tmp_path: Path) -> None:
    remote = Remote("http://127.0.0.1:9/o/r.git", "hunter2-hunter2")
    with pytest.raises(GitFailed) as caught:
        await git("ls-remote", "--", "http://x:hunter2-hunter2@127.0.0.1:9/o/r.git", cwd=tmp_path, remote=remote)
    assert "hunter2" not in str(caught.value)
    assert "exit code 128" in str(caught.value)


async def test_time_is_capped_and_children_die(tmp_path: Path) -> None:
    await git("init", "--quiet", ".", cwd=tmp_path)
    alias = ("alias.wait=!sleep 1000000 & echo $! > pid; wait",)
    for seconds in growing(0.5):
        with pytest.raises(CheckoutError, match=re.escape(f"more than {seconds:g} s")):
            await git("wait", cwd=tmp_path, config=alias, limits=Limits(seconds))
        if told := below(tmp_path, "pid"):
            break
    pid = int(told[0].read_text())
    await eventually(lambda: not lives(pid))  # the kernel needs a moment to bury it


async def test_attack_28_growth_is_capped(tmp_path: Path) -> None:
    """Attack 28."""
    await git("init", "--quiet", ".", cwd=tmp_path)
    grown = tmp_path / "grown"
    grown.mkdir()
    alias = (f"alias.grow=!head -c 3000000 /dev/zero > {grown}/x; sleep 1000000",)
    with pytest.raises(CheckoutError, match="TROOP_CHECKOUT_MAX_BYTES"):
        await git("grow", cwd=tmp_path, config=alias, limits=Limits(PATIENCE, grown, 1_000_000))


async def test_a_cancelled_git_is_killed(tmp_path: Path) -> None:
    await git("init", "--quiet", ".", cwd=tmp_path)
    alias = ("alias.wait=!echo $$ > pid; sleep 1000000",)
    task = asyncio.create_task(git("wait", cwd=tmp_path, config=alias, limits=Limits(2 * PATIENCE)))
    (pid,) = await eventually(lambda: [int(text) for path in below(tmp_path, "pid") if (text := path.read_text())])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    await eventually(lambda: not lives(pid))


def test_folder_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"x" * 500)
    os.symlink("/", tmp_path / "loop")
    assert 1500 <= folder_size(tmp_path, 10_000) < 1600
    assert folder_size(tmp_path / "missing", 10) == 0
