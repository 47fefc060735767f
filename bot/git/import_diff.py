"""External candidates: a unified diff becomes a patch that takes part in the vote (arXiv 2501.14723)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bot.errors import CheckoutError, GitFailed
from bot.git.command import Limits
from bot.git.workspace import LISTING, Workspace
from bot.patch.encoding import decoded
from bot.patch.paths import path_problem
from bot.records import Checkout, FileChange, Patch, by_path
from bot.scratch import scratch_folder

_ABSENT = "0" * 40


async def read_patch(checkout: Checkout, diff: str, name: str) -> Patch:
    """The diff as a `Patch` on the checkout's commit; the work tree is not touched.

    Raises `CheckoutError`, which names the diff, where it does not apply or contains a link or a binary file.
    """
    workspace = Workspace(Path(checkout.workspace))
    async with scratch_folder() as scratch:
        index = scratch / "index"
        await workspace.git("read-tree", checkout.commit, index=index)
        text = diff if diff.endswith("\n") else f"{diff}\n"
        try:
            await workspace.git(
                "apply",
                "--cached",
                "--whitespace=nowarn",
                "-",
                index=index,
                stdin=text.encode("utf-8", "surrogateescape"),
            )
        except GitFailed as error:
            raise CheckoutError(f"{name} does not apply to {checkout.commit[:12]}: {error.words.strip()}") from error
        listing = await workspace.git("diff-index", "--cached", "-z", "--no-renames", checkout.commit, index=index)
        changes = [await _change(workspace, entry, path, name) for entry, path in _entries(listing)]
        own = await workspace.git("diff-index", "--cached", "-p", "--no-renames", checkout.commit, index=index)
    if not changes:
        raise CheckoutError(f"{name} changes nothing")
    return Patch(changes=by_path(changes), diff=own.decode("utf-8", "replace"))


async def changes_between(workspace: Workspace, old: str, new: str) -> tuple[FileChange, ...]:
    """What turns the files of one commit into those of another. Links, submodules and binary files are left out."""
    limits = Limits(max_output=LISTING)
    listing = await workspace.git("diff-tree", "-r", "-z", "--no-renames", old, new, limits=limits)
    changes = []
    for entry, path in _entries(listing):
        with contextlib.suppress(CheckoutError):
            changes.append(await _change(workspace, entry, path, new[:12]))
    return by_path(changes)


def _entries(listing: bytes) -> Iterator[tuple[list[str], str]]:
    """What `git diff-index -z` and `git diff-tree -z` list: of each file its modes, blobs and status, and its path."""
    fields = [field for field in listing.decode("utf-8", "surrogateescape").split("\0") if field]
    for entry, path in zip(fields[::2], fields[1::2], strict=True):
        yield entry.lstrip(":").split(" "), path


async def _change(workspace: Workspace, entry: list[str], path: str, name: str) -> FileChange:
    was, mode, _, blob, _ = entry
    if problem := path_problem(path):
        raise CheckoutError(f"{name}: {path!r} {problem}")
    if mode in ("120000", "160000") or was == "160000":
        raise CheckoutError(f"{name}: {path!r} is a link or a submodule; a candidate may only have plain files")
    if mode == "000000" or blob == _ABSENT:
        return FileChange(path=path, text=None)
    found = decoded(await workspace.git("cat-file", "blob", blob))
    if found is None:
        raise CheckoutError(f"{name}: {path!r} is binary; a candidate may only have text")
    return FileChange(path=path, text=found[0], executable=mode == "100755", encoding=found[1])
