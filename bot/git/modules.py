"""Submodules: other repositories' files at the commits that a repository records, put where they belong in its tree.

Git's own `submodule` is not used: it would run what `.gitmodules` and a configuration say. Each is fetched by the host
as a checkout of its own (`bot.contracts.RepositoryHost.module`), and its files are moved to where the recorded tree has
it. What can't be fetched stays an empty folder and is named: no run fails for it.
"""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bot.contracts import RepositoryHost
from bot.errors import CheckoutError, ForgeError, GitFailed, RateLimited
from bot.git.command import Limits, folder_size
from bot.git.workspace import LISTING, Workspace
from bot.patch.paths import path_problem
from bot.records import Bounds, Submodule

MOST = 64  # of a repository, with those of its submodules
DEEPEST = 5  # in each other
_DESCRIPTIONS = 1_000_000  # bytes of what .gitmodules says


@dataclass
class Modules:
    """What came of a repository's submodules."""

    paths: list[str] = field(default_factory=list)  # of its own, sorted, whether or not they were fetched
    empty: list[str] = field(default_factory=list)  # folders of those that were not, also within others
    notes: list[str] = field(default_factory=list)  # why, in words


async def fetch_modules(host: RepositoryHost, repository: str, workspace: Workspace, commit: str) -> Modules:
    """Fetch the submodules that the commit records, and put their files in the workspace's tree.

    All together may take as long and as much as the repository itself. Raises `RateLimited` alone.
    """
    return await _Fetching(host, workspace.folder).all_of(workspace, repository, commit)


class _Fetching:
    def __init__(self, host: RepositoryHost, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._until = time.monotonic() + host.bounds.seconds
        self._room = host.bounds.max_bytes
        self._count = 0

    async def all_of(self, workspace: Workspace, repository: str, commit: str) -> Modules:
        found = Modules()
        recorded = await _recorded(workspace, commit)
        found.paths = sorted(recorded)
        await self._fill(workspace, recorded, repository, commit, (), found)
        return found

    async def _fill(
        self,
        workspace: Workspace,
        recorded: Mapping[str, str],
        repository: str,
        commit: str,
        above: tuple[str, ...],
        found: Modules,
    ) -> None:
        """Fetch what the commit of the repository in `workspace` records. `above`: the submodules around it."""
        described = await _described(workspace, commit) if recorded else {}
        for path in sorted(recorded):
            whole = "/".join((*above, path))
            module = Submodule(
                path=whole, commit=recorded[path], within=repository, address=described.get(path, {}).get("url", "")
            )
            try:
                self._check(module, described.get(path, {}), len(above))
                await self._graft(module, workspace.tree / path, (*above, path), found)
            except RateLimited:
                raise
            except (CheckoutError, ForgeError) as error:
                why = error.words if isinstance(error, GitFailed) and error.words else str(error)
                found.empty.append(whole)
                found.notes.append(f"{whole} is a submodule, which is not fetched: {' '.join(why.split())[-300:]}")

    def _check(self, module: Submodule, said: Mapping[str, str], depth: int) -> None:
        """Raises `CheckoutError` where it is not even tried."""
        if not said:
            raise CheckoutError(".gitmodules says nothing of it")
        if said.get("update") == "none":
            raise CheckoutError(".gitmodules says that it is not (update = none)")
        if path_problem(module.path):
            raise CheckoutError(f"its path {path_problem(module.path)}")
        if depth >= DEEPEST:
            raise CheckoutError(f"it is in {DEEPEST} others")
        if self._count >= MOST:
            raise CheckoutError(f"no more than {MOST} are")
        if time.monotonic() >= self._until:
            raise CheckoutError("the time of a checkout is over (TROOP_CHECKOUT_TIMEOUT)")
        self._count += 1

    async def _graft(self, module: Submodule, place: Path, around: tuple[str, ...], found: Modules) -> None:
        """Fetch it beside the tree, then move its files, with its own submodules', to their `place`."""
        folder = self._folder / f"module-{len(around)}"
        bounds = Bounds(seconds=max(1.0, self._until - time.monotonic()), max_bytes=max(1, self._room))
        try:
            repository = await self._host.module(module, folder, bounds)
            inner = Workspace(folder)
            self._room -= await asyncio.to_thread(folder_size, inner.tree, self._room)
            recorded = await _recorded(inner, module.commit)
            await self._fill(inner, recorded, repository, module.commit, around, found)
            await asyncio.to_thread(_move, inner.tree, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _move(tree: Path, place: Path) -> None:
    """Git has made an empty folder of it, or nothing. Raises `CheckoutError` where something else is there."""
    try:
        if os.path.realpath(place.parent) != str(place.parent):
            raise CheckoutError("its path leads through a link")
        if os.path.lexists(place):
            place.rmdir()
        place.parent.mkdir(parents=True, exist_ok=True)
        tree.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise CheckoutError("other files are in its place") from error


async def _recorded(workspace: Workspace, commit: str) -> dict[str, str]:
    """The submodules' commits by their paths in that commit."""
    listing = await workspace.git("ls-tree", "-r", "-z", commit, limits=Limits(max_output=LISTING))
    entries = (entry.partition(b"\t") for entry in listing.split(b"\0") if entry.startswith(b"160000"))
    return {name.decode("utf-8", "replace"): head.split()[2].decode() for head, _, name in entries}


async def _described(workspace: Workspace, commit: str) -> dict[str, dict[str, str]]:
    """What `.gitmodules` says of each submodule, by its path. Of a blob git reads no includes."""
    arguments = ("config", "-z", f"--blob={commit}:.gitmodules", "--no-includes", "--get-regexp", r"^submodule\.")
    try:
        said = await workspace.git(*arguments, limits=Limits(max_output=_DESCRIPTIONS))
    except (GitFailed, CheckoutError):  # there is none, it is too long or can't be read
        return {}
    named: dict[str, dict[str, str]] = {}
    for entry in said.decode("utf-8", "replace").split("\0"):
        key, _, value = entry.partition("\n")
        name, _, word = key.removeprefix("submodule.").rpartition(".")
        named.setdefault(name, {})[word] = value
    return {one["path"]: one for one in named.values() if "path" in one}
