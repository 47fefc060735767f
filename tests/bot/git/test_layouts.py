"""The branch is the base and the patch, whatever kind of repository and work tree it is written in."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.forge.local import LocalCheckout
from bot.git.users_config import trusted_folders
from tests.bot.git.test_snapshot import BRANCH, branch_of, configured, git

__all__ = ["configured"]  # the fixture


def begun(path: Path, *options: str) -> Path:
    """A repository with two folders and a commit."""
    (path / "pkg").mkdir(parents=True)
    (path / "other").mkdir()
    git("init", "--quiet", *options, ".", cwd=path)
    (path / "pkg" / "a.py").write_text("x = 1\n")
    (path / "other" / "z.py").write_text("z = 1\n")
    return committed(path)


def committed(path: Path) -> Path:
    git("add", "--all", cwd=path)
    git("commit", "--quiet", "--message", "Go on", cwd=path)
    return path


def checked_out_again(path: Path) -> None:
    """The files as git writes them now."""
    for name in ("pkg", "other"):
        shutil.rmtree(path / name)
    git("checkout", "--quiet", "--", ".", cwd=path)


def sha256(folder: Path, user: Path) -> Path:
    return begun(folder / "sha", "--object-format=sha256")


def _far(folder: Path) -> Path:
    far = begun(folder / "far")
    git("config", "uploadpack.allowFilter", "true", cwd=far)
    (far / "other" / "z.py").write_text("z = 2\n")
    return committed(far)


def partial_and_sparse(folder: Path, user: Path) -> Path:
    far = _far(folder)
    git("clone", "--quiet", "--filter=blob:none", "--sparse", f"file://{far}", "near", cwd=folder)
    git("sparse-checkout", "set", "pkg", cwd=folder / "near")
    far.rename(folder / "out of reach")
    return folder / "near"


def without_older_trees(folder: Path, user: Path) -> Path:
    far = _far(folder)
    git("clone", "--quiet", "--filter=tree:0", f"file://{far}", "near", cwd=folder)
    far.rename(folder / "out of reach")
    return folder / "near"


def odd_folder(folder: Path, user: Path) -> Path:
    return begun(folder / os.fsdecode(b'caf\xe9 "q" \\ and\na line'))


def attributes_of_the_user(folder: Path, user: Path) -> Path:
    path = begun(folder / "attributes")
    (user.parent / "mine").write_text("*.py text eol=crlf\n")
    git("config", "--global", "core.attributesFile", "~/mine", cwd=path)
    checked_out_again(path)
    return path


def attributes_where_git_looks(folder: Path, user: Path) -> Path:
    path = begun(folder / "attributes")
    place = user.parent / ".config" / "git" / "attributes"
    place.parent.mkdir(parents=True)
    place.write_text("*.py text eol=crlf\n")
    checked_out_again(path)
    return path


LAYOUTS: list[Callable[[Path, Path], Path]] = [
    sha256,
    partial_and_sparse,
    without_older_trees,
    odd_folder,
    attributes_of_the_user,
    attributes_where_git_looks,
]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_clean_checkout(layout: Callable[[Path, Path], Path], configured: Path, tmp_path: Path) -> None:
    target, said = layout(tmp_path, configured), list[str]()
    for path in target.rglob("*.py"):  # what the index remembers of them is out of date: their contents are compared
        os.utime(path, (1, 1))
    assert await branch_of(target, tmp_path / "w", said) == ["M\tpkg/a.py"]
    assert not [words for words in said if "uncommitted" in words]
    assert [words for words in said if "partial clone lacks the content of other/z.py" in words] == (
        said[:1] if layout is partial_and_sparse else []
    )


async def test_configuration_by_the_environment(
    configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begun(tmp_path / "here")
    for name, value in (("COUNT", "1"), ("KEY_0", "core.autocrlf"), ("VALUE_0", "true")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    checked_out_again(path)
    for file in path.rglob("*.py"):
        os.utime(file, (1, 1))
    assert b"\r\n" in (path / "other" / "z.py").read_bytes()
    assert await branch_of(path, tmp_path / "w", []) == ["M\tpkg/a.py"]


def link_for_folder(path: Path) -> None:
    shutil.rmtree(path / "other")
    (path / "other").symlink_to("pkg")


def file_for_folder(path: Path) -> None:
    shutil.rmtree(path / "other")
    (path / "other").write_text("now a file\n")


def folder_for_file(path: Path) -> None:
    (path / "other" / "z.py").unlink()
    (path / "other" / "z.py").mkdir()
    (path / "other" / "z.py" / "in.py").write_text("")


def empty_folder_for_file(path: Path) -> None:
    (path / "other" / "z.py").unlink()
    (path / "other" / "z.py").mkdir()


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (link_for_folder, ["A\tother", "D\tother/z.py"]),
        (file_for_folder, ["A\tother", "D\tother/z.py"]),
        (folder_for_file, ["D\tother/z.py", "A\tother/z.py/in.py"]),
        (empty_folder_for_file, ["D\tother/z.py"]),
    ],
)
async def test_files_and_folders_that_took_each_others_place(
    change: Callable[[Path], None], seen: list[str], configured: Path, tmp_path: Path
) -> None:
    path = begun(tmp_path / "here")
    change(path)
    if change is link_for_folder:
        (path / "pkg" / "z.py").write_text("not the one that was there\n")
        seen = [*seen, "A\tpkg/z.py"]
    changed = await branch_of(path, tmp_path / "w", [])
    assert sorted(changed) == sorted([*seen, "M\tpkg/a.py"])


async def test_a_changed_file_is_committed_as_the_repositorys_own_configuration_says(
    configured: Path, tmp_path: Path
) -> None:
    path = begun(tmp_path / "here")
    (path / "data.bin").write_text("content of 7 bytes\n")
    (path / "link").symlink_to("pkg")
    (path / ".git" / "info" / "attributes").write_text("*.bin filter=kept\n")
    git("config", "filter.kept.clean", "sed s/content/pointer/", cwd=path)
    git("config", "core.symlinks", "false", cwd=path)
    committed(path)
    (path / "data.bin").write_text("content of 9 bytes\n")
    (path / "link").unlink()
    (path / "link").write_text("other")
    assert await branch_of(path, tmp_path / "w", []) == ["M\tdata.bin", "M\tlink", "M\tpkg/a.py"]
    assert git("show", f"{BRANCH}:data.bin", cwd=path) == "pointer of 9 bytes\n"
    assert git("ls-tree", BRANCH, "link", cwd=path).startswith("120000")


async def test_folders_that_the_user_trusts(configured: Path, tmp_path: Path) -> None:
    assert await trusted_folders() == ()
    for folder in ("/srv/a", "*"):
        git("config", "--global", "--add", "safe.directory", folder, cwd=tmp_path)
    assert await trusted_folders() == ("safe.directory=/srv/a", "safe.directory=*")
    checkout = LocalCheckout(begun(tmp_path / "here"))
    await checkout.clone("", tmp_path / "w")
