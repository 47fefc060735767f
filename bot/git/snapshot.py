"""What is on disk as a tree: HEAD's, with what the user's own git calls changed.

A work tree is not the commit that it was checked out from: files outside a sparse cone are not there, line endings,
modes and what filters such as Git LFS keep elsewhere are other than in the commit, submodules are repositories of their
own. So only what `git status` lists is taken from disk, with the user's configuration and index, which say what is a
change; all else stays as HEAD has it.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from bot.errors import CheckoutError
from bot.git.command import Limits, git
from bot.git.users_config import config_home, users_configuration
from bot.git.workspace import Workspace

_SUBMODULE = b"160000"
_WHOLE_INDEX = ("core.sparseCheckout=false", "index.sparse=false", "core.splitIndex=false", "core.untrackedCache=false")
_STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")


async def snapshot(
    top: Path,
    head: str,
    workspace: Workspace,
    seconds: float,
    max_bytes: int,
    where: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The tree (its full name) of the repository at `top` as it is on disk. `head`: its commit, or "" without one.

    `where`: variables that say where git's own folder is; then untracked files stay out if the user never lists them.
    Written into `workspace`, which must be able to read the repository's objects. Nothing of the repository changes.
    Raises `CheckoutError` where the changed files take more than `max_bytes`, `GitFailed` where git fails.
    """
    if head:
        await workspace.git("read-tree", head)
    users = {**await asyncio.to_thread(users_configuration, workspace.folder), **where}
    config = await _users_choices(top, users)
    status = (*_STATUS, "--untracked-files=no") if where and await _lists_none(top, users) else _STATUS
    changed = changed_paths(await git(*status, cwd=top, env=users, config=config, limits=Limits(seconds)))
    there, gone = await asyncio.to_thread(_sort, top, changed, max_bytes)
    # The repository's own configuration and attributes say how a file becomes an object; index and objects are ours.
    here = users | {
        "GIT_INDEX_FILE": str(workspace.git_dir / "index"),
        "GIT_OBJECT_DIRECTORY": str(workspace.git_dir / "objects"),
    }
    limits = Limits(seconds, workspace.folder, 2 * max_bytes)
    for options, paths in (("--force-remove",), gone), (("--add", "--replace"), there):
        stdin = b"".join(path + b"\0" for path in paths)
        arguments = ("update-index", "-z", *options, "--stdin")
        await git(*arguments, cwd=top, env=here, config=(*config, *_WHOLE_INDEX), stdin=stdin, limits=limits)
    return (await workspace.git("write-tree", "--missing-ok")).decode().strip()


def changed_paths(status: bytes) -> list[bytes]:
    """The paths in `git status --porcelain=v2 -z` that differ from HEAD or are not tracked, submodules left out. Pure.

    Format: https://git-scm.com/docs/git-status#_porcelain_format_version_2
    """
    found = []
    for entry in status.split(b"\0"):
        kind, _, rest = entry.partition(b" ")
        if kind == b"?":
            found.append(rest)
        elif kind in (b"1", b"u"):
            *fields, path = rest.split(b" ", 7 if kind == b"1" else 9)
            modes = fields[2:5] if kind == b"1" else fields[2:6]
            if _SUBMODULE not in modes:
                found.append(path)
    return found


def _sort(top: Path, paths: Iterable[bytes], max_bytes: int) -> tuple[list[bytes], list[bytes]]:
    """Files and links that are there, and those that are gone. A folder that is another repository stays out."""
    there, gone, total = [], [], 0
    root = os.fsencode(top)
    for path in sorted(paths):
        full = os.path.join(root, path)
        if _behind_link(root, path):
            gone.append(path)
        elif os.path.islink(full) or os.path.isfile(full):
            there.append(path)
            total += os.lstat(full).st_size
        elif not path.endswith(b"/"):
            gone.append(path)
    if total > max_bytes:
        raise CheckoutError(
            f"the changed files take {total:,} bytes, {max_bytes:,} are allowed; ignore some in .gitignore"
        )
    return there, gone


def _behind_link(root: bytes, path: bytes) -> bool:
    """Whether a folder of the path has become a link, so that the path is not the repository's any more."""
    parts = path.split(b"/")[:-1]
    return any(os.path.islink(os.path.join(root, *parts[: i + 1])) for i in range(len(parts)))


async def _lists_none(top: Path, users: dict[str, str]) -> bool:
    """Whether `git status` shows no untracked file, as in a home folder of which a few files are kept."""
    return (
        await git("config", "--default", "", "--get", "status.showUntrackedFiles", cwd=top, env=users)
    ).strip() == b"no"


async def _users_choices(top: Path, users: dict[str, str]) -> tuple[str, ...]:
    """The user's line endings and file of attributes as arguments, since our own come behind all files."""
    choices = []
    attributes = str(config_home() / "git" / "attributes")  # where git looks if no other is set
    for name, default in (("core.autocrlf", ""), ("core.attributesFile", attributes)):
        said = await git("config", "-z", "--get-all", name, cwd=top, env=users)
        *theirs, _ours = [os.fsdecode(value) for value in said.split(b"\0")[:-1]]
        if theirs or default:
            choices.append(f"{name}={theirs[-1] if theirs else default}")
    return tuple(choices)
