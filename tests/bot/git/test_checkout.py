"""Checkout and commit: what is unsafe is left out or refused (attack 17), and the same patch is the same commit."""

from pathlib import Path

import pytest

from bot.errors import CheckoutError
from bot.forge.github import GitHubForge
from bot.git.checkout import check_out
from bot.git.commit import Author, commit_patch
from bot.git.workspace import Workspace
from bot.records import Checkout, FileChange, Patch
from tests.bot.sample import LABELLED_AT
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

REPO = "olive/tools"
AUTHOR = Author(name="troop[bot]", email="troop[bot]@users.noreply.example")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
FILES = {
    "a.py": "x = 1\n",
    "run.sh": "!x #!/bin/sh\n",
    "sub/b.txt": "b\n",
    "sub/inside": "-> ../a.py",
    "outside": "-> /etc/passwd",
    "sub/above": "-> ../../../../etc/passwd",
    "sub/folder": "-> ../..",
    "sneaky": "-> ../tree/a.py",
    "chain": "-> sub/above",
    "nowhere": "-> sub/missing",
    "data.bin": "",
    "model.bin": POINTER,
}


@pytest.fixture
def forge(github: GitHubServer) -> GitHubForge:
    files: dict[str, str | bytes] = dict(FILES)
    files["data.bin"] = bytes(range(256)) * 10
    github.create_repository(REPO, files)
    return forge_for(github, REPO)


async def test_what_leads_out_is_left_out_and_named(forge: GitHubForge, tmp_path: Path) -> None:
    checkout = await check_out(forge, REPO, tmp_path / "w")
    assert checkout.files == ("a.py", "data.bin", "model.bin", "run.sh", "sub/b.txt")
    assert checkout.pointers == ("model.bin",)
    gone = {words.split()[0] for words in checkout.left_out if "symbolic link" in words}
    assert gone == {"outside", "sub/above", "sub/folder", "sneaky", "chain"}
    root = Path(checkout.root)
    links = {path for path in FILES if (root / path).is_symlink()}
    assert links == {"sub/inside", "nowhere"}
    assert not (root / ".git").exists()


async def test_twice_is_once_and_a_run_keeps_its_commit(
    github: GitHubServer, forge: GitHubForge, tmp_path: Path
) -> None:
    first = await check_out(forge, REPO, tmp_path / "w")
    github.commit(REPO, {"a.py": "x = 9\n"})
    assert await check_out(forge, REPO, tmp_path / "w", first.commit) == first


async def test_git_s_own_folder_in_the_tree_is_refused(
    github: GitHubServer, forge: GitHubForge, tmp_path: Path
) -> None:
    git = github.world.repository(REPO).git
    blob = git.git("hash-object", "-w", "--stdin", stdin=b"#!/bin/sh\ntouch /tmp/owned\n").strip()
    inner = git.git("mktree", stdin=f"100755 blob {blob}\tpost-checkout\n".encode()).strip()
    dotgit = git.git("mktree", stdin=f"040000 tree {inner}\thooks\n".encode()).strip()
    root = git.git("mktree", stdin=f"040000 tree {dotgit}\t.git\n".encode()).strip()
    git.commit_tree(root, "Evil", "main", None)
    with pytest.raises(CheckoutError, match="invalid path"):
        await check_out(forge, REPO, tmp_path / "w")
    assert not list((tmp_path / "w" / "tree").rglob("post-checkout"))


async def test_an_empty_repository(github: GitHubServer, tmp_path: Path) -> None:
    github.create_repository(REPO)
    with pytest.raises(CheckoutError, match="default branch has no commit"):
        await check_out(forge_for(github, REPO), REPO, tmp_path / "w")


@pytest.mark.slow
async def test_a_large_file_is_no_problem(github: GitHubServer, tmp_path: Path) -> None:
    github.create_repository(REPO, {"big.bin": b"\0" * 50_000_000, "a.py": "x = 1\n"})
    checkout = await check_out(forge_for(github, REPO), REPO, tmp_path / "w")
    assert (Path(checkout.root) / "big.bin").stat().st_size == 50_000_000


# -- the commit --------------------------------------------------------------------------------------------------


def patch(*changes: FileChange) -> Patch:
    return Patch(changes=changes, diff="")


async def shown(checkout: Checkout, *arguments: str) -> str:
    return (await Workspace(Path(checkout.workspace)).git(*arguments)).decode()


async def test_the_same_patch_is_the_same_commit(forge: GitHubForge, tmp_path: Path) -> None:
    change = patch(FileChange(path="a.py", text="x = 2\n"))
    commits = set()
    for folder in ("w", "v"):
        checkout = await check_out(forge, REPO, tmp_path / folder)
        commits.add(await commit_patch(checkout, change, "Fix\n\n@x", AUTHOR, LABELLED_AT))
        commits.add(await commit_patch(checkout, change, "Fix\n\n@x", AUTHOR, LABELLED_AT))
    (commit,) = commits
    said = await shown(checkout, "show", "-s", "--format=%an %ae %cn %ce %ct %P%n%B", commit)
    assert said.split("\n")[0] == f"{AUTHOR.name} {AUTHOR.email} " * 2 + f"{int(LABELLED_AT.timestamp())} " + (
        checkout.commit
    )
    assert "@x" in said


async def test_all_else_stays_as_it_was(forge: GitHubForge, tmp_path: Path) -> None:
    checkout = await check_out(forge, REPO, tmp_path / "w")
    change = patch(
        FileChange(path="a.py", text=None),
        FileChange(path="new/deep/c.sh", text="c\n", executable=True),
        FileChange(path="run.sh", text="#!/bin/sh\nexit\n"),
    )
    commit = await commit_patch(checkout, change, "Change", AUTHOR, None)
    changed = (await shown(checkout, "diff", "--raw", "--no-abbrev", checkout.commit, commit)).splitlines()
    modes = {line.split("\t")[1]: " ".join(line.split()[:2]) + line.split()[4][:1] for line in changed}
    assert modes == {
        "a.py": ":100644 000000D",
        "new/deep/c.sh": ":000000 100755A",
        "run.sh": ":100755 100755M",  # keeps its bit
    }
    assert "outside" in await shown(checkout, "ls-tree", "-r", "--name-only", commit)  # left out of the tree alone
    assert (Path(checkout.root) / "a.py").exists()


async def test_a_file_is_committed_in_its_own_encoding(forge: GitHubForge, tmp_path: Path) -> None:
    checkout = await check_out(forge, REPO, tmp_path / "w")
    change = patch(FileChange(path="a.py", text="x = 'é'\n", encoding="iso8859-1"))
    commit = await commit_patch(checkout, change, "Change", AUTHOR, None)
    assert await Workspace(Path(checkout.workspace)).git("cat-file", "blob", f"{commit}:a.py") == b"x = '\xe9'\n"


async def test_line_endings_follow_the_attributes(github: GitHubServer, tmp_path: Path) -> None:
    github.create_repository(REPO, {".gitattributes": "*.bat text eol=crlf\n", "a.bat": "one\n"})
    checkout = await check_out(forge_for(github, REPO), REPO, tmp_path / "w")
    assert (Path(checkout.root) / "a.bat").read_bytes() == b"one\r\n"
    change = patch(FileChange(path="a.bat", text="one\r\ntwo\r\n"))
    commit = await commit_patch(checkout, change, "Change", AUTHOR, None)
    assert await shown(checkout, "cat-file", "blob", f"{commit}:a.bat") == "one\ntwo\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../x", "not a plain path"),
        ("/etc/passwd", "not relative"),
        (".git/hooks/pre-commit", "git's own folder"),
        ("sub/.GIT/config", "git's own folder"),
        ("sub/git~1/config", "git's own folder"),
        ("a\nb", "can't be printed"),
        ("a\\b", "backslash"),
        ("", "not relative"),
        ("outside", "symbolic link"),
        ("sub/inside", "symbolic link"),
        ("sub/folder/x", "is not a folder"),
        ("a.py/x", "is not a folder"),
        ("sub", "is a folder"),
        ("model.bin", "Git LFS"),
    ],
)
async def test_unsafe_paths_are_refused(forge: GitHubForge, tmp_path: Path, path: str, words: str) -> None:
    checkout = await check_out(forge, REPO, tmp_path / "w")
    with pytest.raises(CheckoutError, match=words):
        await commit_patch(checkout, patch(FileChange(path=path, text="x")), "Change", AUTHOR, None)


async def test_a_path_is_taken_by_the_letter(forge: GitHubForge, tmp_path: Path) -> None:
    checkout = await check_out(forge, REPO, tmp_path / "w")
    odd = ("*.py", ":(top)a.py", "--help", "$(id)", "a b.py", "é.py", "sub/[x].py")
    changes = sorted((FileChange(path=path, text=f"{path}\n") for path in odd), key=lambda c: c.path)
    commit = await commit_patch(checkout, patch(*changes), "Change", AUTHOR, None)
    added = await shown(checkout, "diff", "-z", "--name-status", checkout.commit, commit)
    assert set(added.split("\0")) - {""} == {*odd, "A"}
