"""Checkout: the repository on our disk, without links that lead out of it.

An unsafe link is left out of the tree and named, so that it does not fail the run. Commits that are made later keep
it, since they are built on the commit's own tree.
"""

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bot.contracts import RepositoryHost
from bot.errors import CheckoutError, GitFailed
from bot.git.commit import LFS_POINTER
from bot.git.large_files import fill_pointers
from bot.git.link_loops import endless
from bot.git.modules import Modules, fetch_modules
from bot.git.workspace import Workspace
from bot.patch.paths import link_stays_within
from bot.records import Checkout

_POINTER_SIZE = 1024  # bytes; a Git LFS pointer is smaller


async def check_out(
    host: RepositoryHost, repository: str, target: Path, commit: str = "", *, whole: bool = True
) -> Checkout:
    """Clone the default branch's newest commit, or the given one, into `target`, and look for what is unsafe.

    Changes only `target`, which is emptied first. `whole`: with its submodules. Raises `CheckoutError` where the
    repository is empty, too large, or can't be written to disk, and `ForgeError` where the host refuses.
    """
    try:
        found = await host.clone(repository, target, commit)
    except GitFailed as error:
        if "couldn't find remote ref HEAD" in error.words:
            raise CheckoutError(
                "the repository's default branch has no commit; push one, or choose another branch in its settings"
            ) from error
        raise
    workspace = Workspace(target)
    modules = await fetch_modules(host, repository, workspace, found) if whole else Modules()
    links, files, pointers = await asyncio.to_thread(_look_through, workspace.tree, modules.paths)
    stored, why = await _content(host, repository, workspace, files, pointers) if whole else ((), "")
    pointers = [path for path in pointers if path not in stored]
    loops = await asyncio.to_thread(_cut_loops, workspace.tree)
    left_out = list(modules.notes)
    if pointers:
        more = f" and {len(pointers) - 1:,} more files are pointers" if len(pointers) > 1 else " is a pointer"
        left_out.append(f"{pointers[0]}{more} of Git LFS without their content: {why}")
    left_out += [f"{path} is a symbolic link that leads out of the repository" for path in links]
    left_out += [f"{path} is a symbolic link to a folder, which leads round in a circle" for path in loops]
    return Checkout(
        root=str(workspace.tree),
        workspace=str(workspace.folder),
        commit=found,
        repository=repository,
        files=tuple(files),
        left_out=tuple(left_out),
        pointers=tuple(pointers),
        stored=stored,
        modules=tuple(modules.paths),
        empty=tuple(sorted(modules.empty)),
    )


async def _content(
    host: RepositoryHost, repository: str, workspace: Workspace, files: Sequence[str], pointers: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """The pointers whose content is in their place now, and why not that of others. Submodules' are left alone."""
    own = set(files).intersection(pointers)
    filled, why = await fill_pointers(host, repository, workspace.tree, sorted(own), workspace.folder / "stored")
    return filled, why or "those of submodules are not fetched"


def _cut_loops(root: Path) -> list[str]:
    """Remove the links by which walking through the files never ends; their paths."""
    folders, links, files = [], {}, {}
    for folder, inner, names in os.walk(root):
        here = "" if folder == str(root) else os.path.relpath(folder, root).replace(os.sep, "/")
        folders.append(here)
        files[here] = len(names)
        for name in inner:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                to = os.path.relpath(os.path.realpath(path), os.path.realpath(root)).replace(os.sep, "/")
                links[f"{here}/{name}" if here else name] = "" if to == "." else to
    cut = sorted(endless(folders, links, files))
    for path in cut:
        os.unlink(root / path)
    return cut


def _look_through(root: Path, modules: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Links that led out (they are removed), regular files, and those that are Git LFS pointers.

    Submodules' files are not among these files.
    """
    links, files, pointers = [], [], []
    within = tuple(f"{module}/" for module in modules)
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not link_stays_within(path, str(root)):
                    os.unlink(path)
                    links.append(relative)
            elif stat.S_ISREG(status.st_mode) and relative.isprintable():
                if not relative.startswith(within):
                    files.append(relative)
                if status.st_size < _POINTER_SIZE and Path(path).read_bytes().startswith(LFS_POINTER):
                    pointers.append(relative)
    return sorted(links), sorted(files), sorted(pointers)
