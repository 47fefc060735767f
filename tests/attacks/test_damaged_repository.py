"""Repositories that are damaged where they are kept, or of a kind that GitHub's are not, are said to be so at once."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.errors import CheckoutError, Refused
from bot.git.checkout import check_out
from tests.github.fixtures import forge_for
from tests.github.repository import GitRepository
from tests.github.server import GitHubServer


def object_of(git: GitRepository, name: str) -> Path:
    found = git.git("rev-parse", name).strip()
    return Path(git.path, "objects", found[:2], found[2:])


def lacks_a_file(git: GitRepository) -> None:
    object_of(git, "HEAD:b/c.py").unlink()


def lacks_a_folder(git: GitRepository) -> None:
    object_of(git, "HEAD:b").unlink()


def has_garbage(git: GitRepository) -> None:
    path = object_of(git, "HEAD:b/c.py")
    os.chmod(path, 0o644)
    path.write_bytes(b"garbage")


def has_another_hash(git: GitRepository) -> None:
    shutil.rmtree(git.path)
    Path(git.path).mkdir()
    argv = ["git", "init", "-q", "--bare", "--object-format=sha256", "--initial-branch=main", "."]
    subprocess.run(argv, cwd=git.path, check=True)
    git.commit_tree(git.git("mktree", stdin="").strip(), "x", "main", None)


def has_a_file_without_a_name(git: GitRepository) -> None:
    raw = b"100644 \0" + bytes.fromhex(git.git("rev-parse", "HEAD:a.py"))
    tree = git.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw).strip()
    git.commit_tree(tree, "x", "main", None)


def has_no_commit_at_its_head(git: GitRepository) -> None:
    Path(git.path, "HEAD").write_text(git.git("rev-parse", "HEAD:a.py"))


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lacks_a_file, "is damaged where it is kept .*unable to read"),
        (lacks_a_folder, "is damaged where it is kept .*bad tree object"),
        (has_garbage, "is damaged where it is kept .*unable to unpack"),
        (has_a_file_without_a_name, "is damaged where it is kept .*empty filename"),
        (has_another_hash, "names its objects by SHA-256"),
        (has_no_commit_at_its_head, "HEAD leads to is no commit"),
    ],
)
async def test_attack_28_a_repository_that_no_try_can_fetch_is_said_at_once(
    github: GitHubServer, tmp_path: Path, prepare: Callable[[GitRepository], None], words: str
) -> None:
    github.create_repository("o/r", {"a.py": "x = 1\n", "b/c.py": "y = 2\n" * 400})
    prepare(github.world.repository("o/r").git)
    with pytest.raises(CheckoutError, match=words):
        await check_out(forge_for(github, "o/r"), "o/r", tmp_path / "w")


async def test_attack_44_a_commit_that_its_server_has_dropped_is_said_at_once(
    github: GitHubServer, tmp_path: Path
) -> None:
    github.create_repository("o/r", {"a.py": "x = 1\n"})
    with pytest.raises(Refused, match="no longer in o/r: its branch was force-pushed or deleted meanwhile"):
        await check_out(forge_for(github, "o/r"), "o/r", tmp_path / "w", "1" * 40)


async def test_names_of_branches_that_are_options_or_commands_disturb_nothing(
    github: GitHubServer, tmp_path: Path
) -> None:
    github.create_repository("o/r", {"a.py": "x = 1\n"})
    git = github.world.repository("o/r").git
    tip = git.git("rev-parse", "HEAD")
    for name in (
        "-x",
        "--upload-pack=touch ran",
        "@{",
        "$(id)",
        "a'b\"c",
        "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 100,
    ):
        Path(git.path, "refs", "heads", name).write_text(tip)
    assert (await check_out(forge_for(github, "o/r"), "o/r", tmp_path / "w")).files == ("a.py",)
