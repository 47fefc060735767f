"""What is on disk as a tree: HEAD's, with what the user's own git calls changed.

A work tree is not the commit that it was checked out from: files outside a sparse cone are not there, line endings,
modes and what filters such as Git LFS keep elsewhere are other than in the commit, submodules are repositories of their
own. So only what `git status` lists is taken from disk, with the user's configuration and index, which say what is a
change; all else stays as HEAD has it.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from bot.errors import CheckoutError
from bot.git.command import Limits, git
from bot.git.workspace import Workspace

_SUBMODULE = b"160000"
_STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")


async def snapshot(top: Path, head: str, workspace: Workspace, seconds: float, max_bytes: int) -> str:
    """The tree (its full name) of the repository at `top` as it is on disk. `head`: its commit, or "" without one.

    Written into `workspace`, which must be able to read the repository's objects. Nothing of the repository changes.
    Raises `CheckoutError` where the changed files take more than `max_bytes`, `GitFailed` where git fails.
    """
    if head:
        await workspace.git("read-tree", head)
    users = await asyncio.to_thread(_users_configuration, workspace.folder)
    config = await _line_endings(top, users)
    changed = changed_paths(await git(*_STATUS, cwd=top, env=users, config=config, limits=Limits(seconds)))
    there, gone = await asyncio.to_thread(_sort, top, changed, max_bytes)
    here = users | {"GIT_DIR": str(workspace.git_dir), "GIT_WORK_TREE": str(top)}
    limits = Limits(seconds, workspace.folder, 2 * max_bytes)
    modes = await _file_mode(top)
    for option, paths in (("--add", there), ("--force-remove", gone)):
        stdin = b"".join(path + b"\0" for path in paths)
        await git(
            *("update-index", "-z", option, "--stdin"), cwd=top, env=here, config=(*config, *modes), stdin=stdin,
            limits=limits,
        )  # fmt: skip
    return (await workspace.git("write-tree")).decode().strip()


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
    """Files and links that are there, and those that are gone. A folder is another repository: it stays out."""
    there, gone, total = [], [], 0
    for path in sorted(paths):
        full = os.path.join(os.fsencode(top), path)
        if os.path.islink(full) or os.path.isfile(full):
            there.append(path)
            total += os.lstat(full).st_size
        elif not os.path.lexists(full):
            gone.append(path)
    if total > max_bytes:
        raise CheckoutError(
            f"the changed files take {total:,} bytes, {max_bytes:,} are allowed; ignore some in .gitignore"
        )
    return there, gone


def _users_configuration(folder: Path) -> dict[str, str]:
    """The environment by which git reads what the user has set for all repositories: filters, line endings."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    own = os.environ.get("GIT_CONFIG_GLOBAL")
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = [Path(own)] if own else [config_home / "git" / "config", home / ".gitconfig"]
    merged = folder / "users.gitconfig"
    text = "".join(f"[include]\n\tpath = {_quoted(str(place))}\n" for place in places if place.is_file())
    merged.write_text(text)
    return {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(merged), "GIT_CONFIG_NOSYSTEM": "0"}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _line_endings(top: Path, users: dict[str, str]) -> tuple[str, ...]:
    """The user's `core.autocrlf` as an argument, since our own comes behind all files."""
    said = await git("config", "--get-all", "core.autocrlf", cwd=top, env=users)
    *theirs, _ours = said.decode().split()
    return (f"core.autocrlf={theirs[-1]}",) if theirs else ()


async def _file_mode(top: Path) -> tuple[str, ...]:
    """The repository's `core.fileMode`: on some disks every file is executable."""
    said = (await git("config", "--default", "true", "--get", "core.fileMode", cwd=top)).decode().strip()
    return (f"core.fileMode={said}",)
