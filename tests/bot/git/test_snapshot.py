"""The branch is the base and the patch: nothing that only differs on disk gets into it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.git.commit import Author, commit_patch
from bot.git.snapshot import changed_paths
from bot.records import FileChange, Patch
from tests.github.repository import run_git

BRANCH = "troop/x-1"


def git(*arguments: str, cwd: Path) -> str:
    """With the configuration of the test's own home folder, as its user would run it."""
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's `.gitconfig`."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    path = folder / ".gitconfig"
    path.write_text("[user]\n\tname = u\n\temail = u@example.org\n[init]\n\tdefaultBranch = main\n")
    return path


@pytest.fixture
def origin(configured: Path, tmp_path: Path) -> Path:
    """A repository with what a work tree shows otherwise."""
    path = tmp_path / "origin"
    (path / "pkg").mkdir(parents=True)
    (path / "other" / "deep").mkdir(parents=True)
    git("init", "--quiet", ".", cwd=path)
    for name, text in (
        ("pkg/a.py", "x = 1\n"),
        ("other/deep/z.py", "z = 1\n"),
        ("run.sh", "#!/bin/sh\n"),
        (".gitattributes", "*.bin filter=kept\n*.txt text\n"),
        ("data.bin", "pointer of 7 bytes\n"),
        ("notes.txt", "one\ntwo\n"),
    ):
        (path / name).write_text(text)
    git("add", "--all", cwd=path)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module", cwd=path)
    (path / ".gitmodules").write_text('[submodule "module"]\n\tpath = module\n\turl = https://example.org/m\n')
    git("add", ".gitmodules", cwd=path)
    git("commit", "--quiet", "--message", "Begin", cwd=path)
    return path


def sparse(origin: Path, target: Path, user: Path) -> None:
    git("clone", "--quiet", "--no-checkout", str(origin), str(target), cwd=origin)
    git("sparse-checkout", "set", "pkg", cwd=target)
    git("checkout", "--quiet", "main", cwd=target)
    assert not (target / "other").exists()


def line_endings(origin: Path, target: Path, user: Path) -> None:
    with user.open("a") as file:
        file.write("[core]\n\tautocrlf = true\n")
    git("clone", "--quiet", str(origin), str(target), cwd=origin)
    assert b"\r\n" in (target / "pkg" / "a.py").read_bytes()
    for path in target.rglob("*.*"):  # what the index remembers of them is out of date: their contents are compared
        if path.is_file() and ".git/" not in str(path):
            os.utime(path, (1, 1))


def modes(origin: Path, target: Path, user: Path) -> None:
    git("clone", "--quiet", str(origin), str(target), cwd=origin)
    git("config", "core.fileMode", "false", cwd=target)
    (target / "pkg" / "a.py").chmod(0o755)


def filtered(origin: Path, target: Path, user: Path) -> None:
    with user.open("a") as file:
        file.write('[filter "kept"]\n\tsmudge = sed s/pointer/content/\n\tclean = sed s/content/pointer/\n')
    git("clone", "--quiet", str(origin), str(target), cwd=origin)
    assert (target / "data.bin").read_text() == "content of 7 bytes\n"
    os.utime(target / "data.bin", (1, 1))


def with_module(origin: Path, target: Path, user: Path) -> None:
    git("clone", "--quiet", str(origin), str(target), cwd=origin)
    inner = target / "module"
    inner.mkdir(exist_ok=True)
    git("init", "--quiet", ".", cwd=inner)
    (inner / "m.py").write_text("m = 1\n")
    git("add", "--all", cwd=inner)
    git("commit", "--quiet", "--message", "Another commit", cwd=inner)


def worktree(origin: Path, target: Path, user: Path) -> None:
    git("worktree", "add", "--quiet", "-b", "side", str(target), cwd=origin)


KINDS: dict[str, Callable[[Path, Path, Path], None]] = {
    "sparse": sparse,
    "line endings": line_endings,
    "modes": modes,
    "filter": filtered,
    "submodule": with_module,
    "worktree": worktree,
}


async def branch_of(target: Path, folder: Path, said: list[str]) -> list[str]:
    """What the branch changes, as `git diff --name-status HEAD BRANCH` has it."""
    host = LocalCheckout(target, said.append)
    checkout = await check_out(host, "", folder)
    patch = Patch(changes=(FileChange(path="pkg/a.py", text="x = 2\n"),), diff="")
    commit = await commit_patch(checkout, patch, "Fix x", Author(name="t", email="t@x"), None)
    await host.push("", Path(checkout.workspace), BRANCH, commit, force=True)
    return run_git("diff", "--name-status", "HEAD", BRANCH, cwd=target).splitlines()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clean_checkout_gives_the_base_and_the_patch(
    kind: str, origin: Path, configured: Path, tmp_path: Path
) -> None:
    target, said = tmp_path / "clone", list[str]()
    KINDS[kind](origin, target, configured)
    before = git("status", "--porcelain", cwd=target), (target / ".git").is_file()
    assert await branch_of(target, tmp_path / "w", said) == ["M\tpkg/a.py"]
    assert not [words for words in said if "uncommitted" in words]
    assert (git("status", "--porcelain", cwd=target), (target / ".git").is_file()) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_user_changed_is_beneath_it_as_they_would_commit_it(
    kind: str, origin: Path, configured: Path, tmp_path: Path
) -> None:
    target, said = tmp_path / "clone", list[str]()
    KINDS[kind](origin, target, configured)
    (target / "pkg" / "new name.py").write_text("n = 1\n")
    (target / "pkg" / "a.py").write_bytes(b"x = 3\r\n" if kind == "line endings" else b"x = 3\n")
    gone = [] if kind == "sparse" else ["D\tnotes.txt"]
    if gone:
        (target / "notes.txt").unlink()
    else:
        gone = ["D\trun.sh"] if (target / "run.sh").exists() else []
        (target / "run.sh").unlink(missing_ok=True)
    changed = await branch_of(target, tmp_path / "w", said)
    assert changed == sorted([*gone, "M\tpkg/a.py", "A\tpkg/new name.py"], key=lambda line: line.split("\t")[1])
    assert run_git("show", f"{BRANCH}^:pkg/a.py", cwd=target) == "x = 3\n"
    assert [words for words in said if "uncommitted" in words]


async def test_a_filtered_file_that_was_changed_is_committed_through_the_filter(
    origin: Path, configured: Path, tmp_path: Path
) -> None:
    target = tmp_path / "clone"
    filtered(origin, target, configured)
    (target / "data.bin").write_text("content of 9 bytes\n")
    assert await branch_of(target, tmp_path / "w", []) == ["M\tdata.bin", "M\tpkg/a.py"]
    assert run_git("show", f"{BRANCH}:data.bin", cwd=target) == "pointer of 9 bytes\n"


def test_the_paths_of_a_status() -> None:
    zeros = "0" * 40
    entries = [
        "# branch.oid (initial)",
        f"1 .M N... 100644 100644 100644 {zeros} {zeros} a b.py",
        f"1 .M S.M. 160000 160000 160000 {zeros} {zeros} module",
        f"1 AD N... 000000 100644 000000 {zeros} {zeros} gone",
        f"u UU N... 100644 100644 100644 100644 {zeros} {zeros} {zeros} both ways",
        "? new\nname",
        "! ignored",
        "",
    ]
    found = changed_paths("\0".join(entries).encode())
    assert found == [b"a b.py", b"gone", b"both ways", b"new\nname"]
