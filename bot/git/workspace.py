"""A checkout on our disk, with git's own folder beside its files."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.errors import CheckoutError, GitFailed
from bot.git.command import DEFAULT_LIMITS, Limits, Remote, check_commit, git

DEEPEST = 200  # folders in each other; what walks through a tree calls itself once a level
LISTING = 64 * 1024 * 1024  # bytes of a commit's list of files: about half a million
_BLOCK = 4096  # bytes that even an empty file or folder takes, with its inode


def _on_disk(size: int) -> int:
    """Bytes on disk of a file or folder."""
    return _BLOCK * max(1, -(-size // _BLOCK))


def _ends(words: str) -> str:
    """Git's first line, whose end says why, without the middle of a long path."""
    line = words.strip().partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:100]} ... {line[-100:]}"


class Workspace:
    """A checkout on our disk: `tree/` has the files and nothing else, `git/` the objects and our own configuration.

    They are apart so that git takes nothing in the tree for its own, and a sandbox gets the tree as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = folder.resolve()
        self.tree = folder / "tree"
        self.git_dir = folder / "git"

    async def git(
        self,
        *arguments: str,
        index: Path | None = None,
        env: Mapping[str, str] | None = None,
        remote: Remote | None = None,
        stdin: bytes = b"",
        config: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> bytes:
        """`bot.git.command.git` on this workspace. `index` is used instead of the workspace's own index."""
        here = {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.tree)}
        if index is not None:
            here["GIT_INDEX_FILE"] = str(index)
        return await git(
            *arguments,
            cwd=self.tree,
            remote=remote,
            stdin=stdin,
            env=here | dict(env or {}),
            config=config,
            limits=limits,
        )

    async def create(self, object_format: str = "sha1") -> None:
        """Create it empty; what was there is removed. `object_format`: of the repository whose objects it will have."""
        if self.folder.exists():
            await asyncio.to_thread(shutil.rmtree, self.folder)
        self.tree.mkdir(parents=True)
        await git(
            "init", "--quiet", "--bare", f"--object-format={object_format}", "--", str(self.git_dir), cwd=self.folder
        )

    async def fetch(
        self, remote: Remote, commit: str, *, seconds: float, max_bytes: int, config: Sequence[str] = ()
    ) -> str:
        """One commit without its history: `commit`, or (empty) the remote's HEAD; its full name."""
        wanted = check_commit(commit) if commit else "HEAD"
        limits = Limits(seconds, self.folder, max_bytes)
        arguments = ("--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules", "--", remote.url, wanted)
        await self.git("fetch", *arguments, remote=remote, limits=limits, config=config)
        try:
            found = await self.git("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}")
        except GitFailed as error:
            raise CheckoutError(f"what the repository's {wanted} leads to is no commit") from error
        return found.decode().strip()

    async def has(self, commit: str) -> bool:
        """Whether the commit is here."""
        try:
            await self.git("cat-file", "-e", f"{check_commit(commit)}^{{commit}}")
        except GitFailed:
            return False
        return True

    async def materialise(self, commit: str, *, seconds: float, max_bytes: int) -> tuple[str, ...]:
        """Write the commit's files to `tree`, after checking their total size.

        Returns the paths of those whose content is not here, as in a partial clone: they are left out.
        """
        check_commit(commit)
        bounds = Limits(seconds, max_output=LISTING)
        listing = await self.git("ls-tree", "-r", "-t", "-l", "-z", "--end-of-options", commit, limits=bounds)
        entries = [entry.partition(b"\t") for entry in listing.split(b"\0") if entry]
        sizes = [(head.split()[-1], path) for head, _, path in entries]
        total = sum(_on_disk(int(size) if size.isdigit() else 0) for size, _ in sizes)
        if total > max_bytes:
            raise CheckoutError(
                f"the files take {total:,} bytes, {max_bytes:,} are allowed; raise TROOP_CHECKOUT_MAX_BYTES to allow it"
            )
        if any(path.count(b"/") >= DEEPEST for _, path in sizes):
            raise CheckoutError(f"the repository has folders more than {DEEPEST} deep, which are not unpacked")
        absent = [path for size, path in sizes if size == b"BAD"]
        limits = Limits(seconds, self.folder, 3 * max_bytes)
        try:
            await self.git("read-tree", commit)
            if absent:
                stdin = b"".join(path + b"\0" for path in absent)
                await self.git("update-index", "-z", "--skip-worktree", "--stdin", stdin=stdin)
            await self.git("checkout-index", "--all", "--force", "--quiet", limits=limits)
        except GitFailed as error:  # the same tree fails again: a name that is too long or not allowed
            why = f"its name may be too long, or not allowed: {_ends(error.words)}"
            raise CheckoutError(f"git can't write a file of the repository; {why}") from error
        return tuple(path.decode("utf-8", "replace") for path in absent)
