"""The local forge: solves what is on disk, writes one branch, changes nothing else."""

import subprocess
from pathlib import Path

import pytest

from bot.errors import BranchTaken, CheckoutError, ForgeError, Refused
from bot.forge.local import LocalCheckout, elsewhere
from bot.git.checkout import check_out
from bot.git.commit import Author, commit_patch
from bot.git.workspace import Workspace
from bot.records import Checkout, FileChange, Patch
from tests.github.repository import run_git

BRANCH = "troop/x-1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository as people have them: a commit, a changed file, a new one, an ignored one, something staged."""
    path = tmp_path / "home"
    path.mkdir()
    run_git("init", "--quiet", "--initial-branch=main", ".", cwd=path)
    for name, text in ((".gitignore", "*.log\n"), ("a.py", "x = 1\n"), ("gone.py", ""), ("run.sh", "#!/bin/sh\n")):
        (path / name).write_text(text)
    (path / "run.sh").chmod(0o755)
    (path / "link").symlink_to("a.py")
    run_git("add", "--all", cwd=path)
    run_git("commit", "--quiet", "--message", "Begin", cwd=path)
    return path


def state(path: Path) -> tuple[str, ...]:
    """All that must stay as it is."""
    commands = (
        ["status", "--porcelain=v2", "--branch"],
        ["diff"],
        ["diff", "--cached"],
        ["config", "--list", "--local"],
    )
    head = (path / ".git" / "HEAD").read_text()
    return (*(run_git(*command, cwd=path) for command in commands), head, str((path / ".git" / "FETCH_HEAD").exists()))


def fix(text: str = "x = 2\n") -> Patch:
    return Patch(changes=(FileChange(path="a.py", text=text),), diff="")


async def solve(forge: LocalCheckout, target: Path, text: str = "x = 2\n") -> tuple[Checkout, str]:
    checkout = await check_out(forge, "", target)
    commit = await commit_patch(checkout, fix(text), "Fix x", Author(name="t", email="t@x"), None)
    await forge.push("", Path(checkout.workspace), BRANCH, commit, force=True)
    return checkout, commit


async def test_a_clean_checkout_is_solved_on_head(home: Path, tmp_path: Path) -> None:
    before = state(home)
    said: list[str] = []
    checkout, commit = await solve(LocalCheckout(home, said.append), tmp_path / "w")
    assert checkout.commit == run_git("rev-parse", "HEAD", cwd=home).strip()
    assert checkout.files == (".gitignore", "a.py", "gone.py", "run.sh")
    assert run_git("rev-parse", BRANCH, f"{BRANCH}^", cwd=home).split() == [commit, checkout.commit]
    assert run_git("diff", "--name-only", "main", BRANCH, cwd=home).split() == ["a.py"]
    assert state(home) == before
    assert said == [f"branch {BRANCH} is written"]


async def test_what_is_on_disk_is_solved(home: Path, tmp_path: Path) -> None:
    (home / "a.py").write_text("x = 1  # as it is now\n")
    (home / "new.py").write_text("y = 1\n")
    (home / "noise.log").write_text("ignored")
    (home / "gone.py").unlink()
    (home / "run.sh").write_text("#!/bin/sh\nexit\n")
    run_git("add", "run.sh", cwd=home)
    before = state(home)
    said: list[str] = []
    checkout, _ = await solve(LocalCheckout(home, said.append), tmp_path / "w")
    assert checkout.files == (".gitignore", "a.py", "new.py", "run.sh")
    assert (Path(checkout.root) / "a.py").read_text() == "x = 1  # as it is now\n"
    assert (Path(checkout.root) / "run.sh").stat().st_mode & 0o111
    assert state(home) == before
    assert "uncommitted" in said[0]
    assert run_git("diff", "--name-only", f"{BRANCH}^", BRANCH, cwd=home).split() == ["a.py"]
    assert run_git("rev-parse", f"{BRANCH}^^", cwd=home) == run_git("rev-parse", "HEAD", cwd=home)


async def test_twice_is_once(home: Path, tmp_path: Path) -> None:
    (home / "a.py").write_text("x = 3\n")
    first = await solve(LocalCheckout(home), tmp_path / "w")
    second = await solve(LocalCheckout(home), tmp_path / "w")
    assert first == second
    _, other = await solve(LocalCheckout(home), tmp_path / "w", "x = 4\n")
    assert run_git("rev-parse", BRANCH, cwd=home).strip() == other


async def test_a_run_does_not_go_on_with_other_files(home: Path, tmp_path: Path) -> None:
    forge = LocalCheckout(home)
    commit = await forge.clone("", tmp_path / "w")
    assert await forge.clone("", tmp_path / "w", commit) == commit
    (home / "a.py").write_text("changed meanwhile\n")
    with pytest.raises(CheckoutError, match="have changed"):
        await forge.clone("", tmp_path / "w", commit)


async def test_a_plain_folder(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "__pycache__").mkdir(parents=True)
    (plain / "__pycache__" / "a.pyc").write_text("")
    (plain / "a.py").write_text("x = 1\n")
    said: list[str] = []
    checkout, _ = await solve(LocalCheckout(plain, said.append), tmp_path / "w")
    assert checkout.files == ("a.py",)
    assert not (plain / ".git").exists()
    assert "no branch is written" in said[0]
    assert said[-1].startswith("no branch is written")


async def test_a_folder_within_a_repository_is_solved_alone(home: Path, tmp_path: Path) -> None:
    (home / "part").mkdir()
    (home / "part" / "a.py").write_text("x = 1\n")
    before = state(home)
    checkout, _ = await solve(LocalCheckout(home / "part"), tmp_path / "w")
    assert checkout.files == ("a.py",)
    assert state(home) == before
    assert BRANCH not in run_git("branch", "--list", cwd=home)


async def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    run_git("init", "--quiet", "--initial-branch=main", "new", cwd=tmp_path)
    (tmp_path / "new" / "a.py").write_text("x = 1\n")
    _, commit = await solve(LocalCheckout(tmp_path / "new"), tmp_path / "w")
    assert run_git("rev-parse", BRANCH, cwd=tmp_path / "new").strip() == commit


async def test_the_branch_that_is_checked_out_is_left_alone(home: Path, tmp_path: Path) -> None:
    await solve(LocalCheckout(home), tmp_path / "v")
    run_git("switch", "--quiet", BRANCH, cwd=home)
    with pytest.raises(Refused, match="switch to another branch"):
        await solve(LocalCheckout(home), tmp_path / "w")
    run_git("commit", "--quiet", "--allow-empty", "--message", "Of a person", cwd=home)
    run_git("switch", "--quiet", "main", cwd=home)
    with pytest.raises(BranchTaken, match="rename or delete the branch"):
        await solve(LocalCheckout(home), tmp_path / "x")
    with pytest.raises(Refused, match="begin with"):
        await LocalCheckout(home).push("", tmp_path, "main", "0" * 40, force=True)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_shallow_clone(home: Path, tmp_path: Path, changed: bool) -> None:
    for i in range(3):
        (home / "b.py").write_text(f"{i}\n")
        run_git("add", "--all", cwd=home)
        run_git("commit", "--quiet", "--message", str(i), cwd=home)
    run_git("clone", "--quiet", "--depth", "1", f"file://{home}", "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    if changed:
        (clone / "a.py").write_text("x = 7\n")
    before = state(clone)
    _, commit = await solve(LocalCheckout(clone), tmp_path / "w")
    assert run_git("rev-parse", BRANCH, cwd=clone).strip() == commit
    assert run_git("rev-list", "--count", BRANCH, cwd=clone).strip() == ("3" if changed else "2")
    assert state(clone) == before
    run_git("fsck", "--connectivity-only", cwd=clone)


async def test_a_linked_work_tree(home: Path, tmp_path: Path) -> None:
    run_git("worktree", "add", "--quiet", str(tmp_path / "linked"), "-b", "other", cwd=home)
    _, commit = await solve(LocalCheckout(tmp_path / "linked"), tmp_path / "w")
    assert run_git("rev-parse", BRANCH, cwd=home).strip() == commit


async def test_a_repository_whose_folder_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As people keep the files of a home folder: most of what is there is not theirs to take."""
    tree, bare = tmp_path / "home", tmp_path / "dotfiles.git"
    tree.mkdir()
    (tree / "a.py").write_text("x = 1\n")
    run_git("init", "--quiet", "--bare", str(bare), cwd=tmp_path)
    there = (f"--git-dir={bare}", f"--work-tree={tree}")
    run_git(*there, "config", "status.showUntrackedFiles", "no", cwd=tree)
    run_git(*there, "add", "a.py", cwd=tree)
    run_git(*there, "commit", "--quiet", "--message", "Begin", cwd=tree)
    (tree / "photo.txt").write_text("not tracked\n")
    monkeypatch.setenv("GIT_DIR", str(bare))
    monkeypatch.setenv("GIT_WORK_TREE", str(tree))
    said: list[str] = []
    forge = LocalCheckout(tree, said.append)
    checkout, _ = await solve(forge, tmp_path / "target")
    assert forge.is_repository
    assert checkout.files == ("a.py",)
    assert await forge.git_folder() == bare
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    assert run_git("show", f"{BRANCH}:a.py", cwd=bare) == "x = 2\n"
    assert "uncommitted changes are included, as a commit below the fix" not in said
    assert not (tree / ".git").exists()


def test_variables_of_another_work_tree_say_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    for tree, top in ((tmp_path, tmp_path / "sub"), (home, home)):
        monkeypatch.setenv("GIT_WORK_TREE", str(tree))
        assert elsewhere(top) == {}


async def test_submodules_are_as_recorded_and_repositories_within_are_left_out(home: Path, tmp_path: Path) -> None:
    for name in ("inner", "module"):
        run_git("init", "--quiet", name, cwd=home)
        (home / name / "b.py").write_text("y = 1\n")
    run_git("add", "b.py", cwd=home / "module")
    run_git("commit", "--quiet", "--message", "Begin", cwd=home / "module")
    recorded = {"module": run_git("rev-parse", "HEAD", cwd=home / "module").strip(), "absent": "1" * 40}
    (home / "module" / "b.py").write_text("y = 2\n")
    (home / "absent").mkdir()
    for name, commit in recorded.items():
        run_git("update-index", "--add", "--cacheinfo", f"160000,{commit},{name}", cwd=home)
        run_git("config", "--file", ".gitmodules", f"submodule.{name}.path", name, cwd=home)
    run_git("add", ".gitmodules", cwd=home)
    run_git("commit", "--quiet", "--message", "Record", cwd=home)
    before = state(home)
    checkout = await check_out(LocalCheckout(home), "", tmp_path / "w")
    assert checkout.files == (".gitignore", ".gitmodules", "a.py", "gone.py", "run.sh")
    assert (Path(checkout.root) / "module" / "b.py").read_text() == "y = 1\n"
    assert (checkout.modules, checkout.empty) == (("absent", "module"), ("absent",))
    assert checkout.left_out == (
        "absent is a submodule, which is not fetched: it is not checked out here; "
        "`git submodule update --init absent` does that",
    )
    assert state(home) == before


async def test_a_repository_that_would_run_a_program(home: Path, tmp_path: Path) -> None:
    """Its own configuration names programs; none of them runs."""
    mark = tmp_path / "ran"
    hook = home / ".git" / "hooks" / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    run_git("config", "core.fsmonitor", f"touch {mark}; false", cwd=home)
    (home / "a.py").write_text("x = 3\n")
    await solve(LocalCheckout(home), tmp_path / "w")
    assert not mark.exists()


async def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckoutError, match="not a folder"):
        await check_out(LocalCheckout(tmp_path / "nothing"), "", tmp_path / "w")
    with pytest.raises(ForgeError):
        await LocalCheckout(tmp_path).push("", tmp_path, "troop/..", "0" * 40, force=True)


def test_git_is_there() -> None:
    assert subprocess.run(["git", "--version"], capture_output=True, check=True).stdout
    assert Workspace(Path("/x")).tree == Path("/x/tree")
