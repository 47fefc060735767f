"""A checkout as a `RepositoryHost`: `troop solve PATH` needs no GitHub.

People expect Troop to work on the files that they see. So a run starts from HEAD with what their git calls changed on
disk, and with untracked files that it does not ignore (`bot.git.snapshot`). If there are any, they become a commit on
top of HEAD: the branch has it below the fix, and a cherry-pick takes the fix alone. The user's work tree, index, HEAD
and configuration are never changed; only the branch `troop/...` and its objects are written. A folder without git is
copied as it is, and gets no branch.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from bot.errors import BranchTaken, CheckoutError, ForgeError, GitFailed, Refused
from bot.forge.branches import PREFIX
from bot.git.command import Limits, check_branch, check_commit, git
from bot.git.commit import Author, commit_patch
from bot.git.import_diff import changes_between
from bot.git.snapshot import snapshot
from bot.git.users_config import trusted_folders
from bot.git.workspace import Workspace
from bot.records import Bounds, Checkout, FileChange, Patch, StoredFile, Submodule

AUTHOR = Author(name="troop", email="troop@localhost")
MAX_BYTES = 2_000_000_000
SECONDS = 600.0
# In a folder without git nothing says what to ignore; these are never source.
_NEVER_SOURCE = ("__pycache__/", "*.pyc", ".venv/", "venv/", "node_modules/", ".tox/", ".mypy_cache/", ".pytest_cache/")
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    # Dated 1970: the same files are the same commit, so that an interrupted run finds its journal.
    for part, value in (("NAME", AUTHOR.name), ("EMAIL", AUTHOR.email), ("DATE", "@0 +0000"))
}
_ALLOW_FILE = ("protocol.file.allow=always",)

Say = Callable[[str], None]


class LocalCheckout:
    """One checkout at `path`. The calls' `repository` is ignored; `say` gets what the user should know."""

    def __init__(self, path: Path, say: Say = lambda _: None) -> None:
        self._path = path.resolve()
        self._say = say
        self._is_repository = False
        self._trusted: tuple[str, ...] | None = None
        self._where = elsewhere(self._path)

    @property
    def is_repository(self) -> bool:
        """Whether the folder is the top of a repository, and so can get a branch. Known once it was cloned."""
        return self._is_repository

    async def clone(self, repository: str, target: Path, commit: str = "") -> str:
        """Copy what is on disk. Where `commit` is given (a run that continues), it must still be what is on disk."""
        if not await asyncio.to_thread(self._path.is_dir):
            raise CheckoutError(f"{self._path} is not a folder; give the path of a checkout")
        self._is_repository = await self._top_level() == self._path
        workspace = Workspace(target)
        await workspace.create(await self._object_format() if self._is_repository else "sha1")
        head = ""
        if self._is_repository:
            head = await self._head()
            await self._borrow_objects(workspace)
        else:
            self._say(
                f"{self._path} is not the top of a git repository: it is copied as it is, and no branch is written"
            )
        tree = await self._snapshot(workspace, head)
        found = await self._commit(workspace, tree, head)
        if commit and found != check_commit(commit):
            raise CheckoutError(f"the files in {self._path} have changed since the run began; start again")
        if head and found != head:
            self._say("uncommitted changes are included, as a commit below the fix")
        self._say_absent(await workspace.materialise(found, seconds=SECONDS, max_bytes=MAX_BYTES))
        return found

    @property
    def bounds(self) -> Bounds:
        return Bounds(seconds=SECONDS, max_bytes=MAX_BYTES)

    async def module(self, module: Submodule, target: Path, bounds: Bounds) -> str:
        """Its recorded commit, from where it is checked out in this checkout."""
        place = self._path / module.path
        inner = LocalCommit(place)
        there = await asyncio.to_thread(os.path.realpath, place) == str(place) and await asyncio.to_thread(place.is_dir)
        if not there or await inner._top_level() != place:  # an empty folder is this repository's
            raise CheckoutError(f"it is not checked out here; `git submodule update --init {module.path}` does that")
        await inner.clone("", target, module.commit)
        return ""

    async def stored(self, repository: str, wanted: Sequence[StoredFile], folder: Path) -> str:
        """From the files on disk, and from where git-lfs keeps them."""
        place = await self.git_folder()
        common = (await self._git("rev-parse", "--git-common-dir")).strip() if place else b""
        kept = (self._path / os.fsdecode(common)).resolve() / "lfs" / "objects"

        def copy() -> str:
            room, missing = MAX_BYTES, 0
            for one in wanted:
                places = (self._path / one.path, kept / one.oid[:2] / one.oid[2:4] / one.oid)
                there = next((at for at in places if _is_plain(at, one.size)), None)
                room -= one.size
                if there is None or room < 0:
                    missing += 1
                else:
                    shutil.copyfile(there, folder / one.oid)
            return "they are not in this checkout; `git lfs pull` fetches them" if missing else ""

        return await asyncio.to_thread(copy)

    async def origin(self) -> str:
        """The address that the checkout was cloned from; "" where none is known."""
        with contextlib.suppress(CheckoutError, GitFailed):
            return os.fsdecode(await self._git("config", "--get", "remote.origin.url")).strip()
        return ""

    async def git_folder(self) -> Path | None:
        """Git's own folder of this checkout (of a worktree, its part of it); None outside a repository."""
        with contextlib.suppress(CheckoutError, GitFailed):
            return Path(os.fsdecode(await self._git("rev-parse", "--absolute-git-dir")).removesuffix("\n"))
        return None

    def _say_absent(self, paths: Sequence[str]) -> None:
        if paths:
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            self._say(f"this partial clone lacks the content of {paths[0]}{more}: models and tests do without")

    async def commit(self, checkout: Checkout, patch: Patch, message: str, moment: datetime | None) -> str:
        """By `AUTHOR`. Any patch is committed: the policy is for what Troop publishes."""
        return await commit_patch(checkout, patch, message, AUTHOR, moment)

    async def push(self, repository: str, checkout: Path, branch: str, commit: str, *, force: bool) -> str:
        """Write the branch into the user's repository.

        Raises `Refused` where it is checked out there, and `BranchTaken` where somebody else has committed to it.
        """
        reference = f"refs/heads/{check_branch(branch)}"
        check_commit(commit)
        if not branch.startswith(PREFIX):
            raise Refused(f"{branch!r} can't be written: Troop's branches begin with {PREFIX!r}")
        if not self._is_repository:
            self._say("no branch is written: this is not a git repository")
            return commit
        workspace = Workspace(checkout)
        await self._check_own(workspace, branch, commit)
        await workspace.git("update-ref", "--", "refs/heads/troop-result", commit)
        source = str(workspace.git_dir)
        refspec = f"{'+' if force else ''}refs/heads/troop-result:{reference}"
        arguments = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--", source, refspec)
        try:
            await self._git("fetch", *arguments, config=_ALLOW_FILE)
        except GitFailed as error:
            if "refusing to fetch into" in error.words:
                raise Refused(f"{branch} is checked out in {self._path}; switch to another branch first") from error
            raise Refused(f"the branch {branch} could not be written: {error.words[-500:]}") from error
        self._say(f"branch {branch} is written")
        return commit

    async def _require(self, commit: str) -> None:
        """Raises `CheckoutError` where the repository does not have the commit."""
        try:
            await self._git("cat-file", "-e", f"{check_commit(commit)}^{{commit}}")
        except GitFailed as error:
            raise CheckoutError(
                f"{self._path} does not have the commit {commit}: `git fetch` it from where it was published, or give "
                "the path of a clone that has it"
            ) from error

    async def diff_of(self, branch: str) -> str:
        """What the branch changes since it left HEAD, as a unified diff. Raises `CheckoutError`."""
        try:
            check_branch(branch)
            tip = (await self._git("rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}")).decode().strip()
            base = (await self._git("merge-base", "HEAD", tip)).decode().strip()
            plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--full-index", "--binary")
            return (await self._git("diff", *plain, base, tip)).decode("utf-8", "surrogateescape")
        except ForgeError as error:
            raise CheckoutError(f"{branch!r} is no branch of {self._path} that has left HEAD") from error

    async def _check_own(self, workspace: Workspace, branch: str, new: str) -> None:
        """Raise `BranchTaken` where the branch's newest commit was made by somebody else."""
        arguments = ("for-each-ref", "--format=%(committeremail)", "--", f"refs/heads/{branch}")
        theirs = (await self._git(*arguments)).decode(errors="replace").strip().strip("<>")
        ours = (await workspace.git("log", "-1", "--format=%ce", new)).decode(errors="replace").strip()
        if theirs and theirs != ours:
            raise BranchTaken(f"{branch} has a commit that is not Troop's; rename or delete the branch")

    async def _git(self, *arguments: str, config: Sequence[str] = (), stdin: bytes = b"") -> bytes:
        if self._trusted is None:
            self._trusted = await trusted_folders()
        config = (*self._trusted, *config)
        return await git(
            *arguments, cwd=self._path, config=config, stdin=stdin, env=self._where, limits=Limits(SECONDS)
        )

    async def _top_level(self) -> Path | None:
        try:
            return Path(os.fsdecode(await self._git("rev-parse", "--show-toplevel")).removesuffix("\n"))
        except GitFailed as error:
            if "dubious ownership" in error.words:
                raise CheckoutError(
                    f"{self._path} belongs to another user; copy it, run Troop as that user, or trust it: "
                    f"git config --global --add safe.directory {self._path}"
                ) from error
            return None

    async def _head(self) -> str:
        """HEAD's commit, or "" in a repository without one."""
        try:
            return (await self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")).decode().strip()
        except GitFailed:
            return ""

    async def _object_format(self) -> str:
        return (await self._git("rev-parse", "--show-object-format")).decode().strip()

    async def _borrow_objects(self, workspace: Workspace) -> None:
        """Read the user's objects in place; a shallow clone stays as shallow as it is."""
        found = [await self._git("rev-parse", "--git-path", name) for name in ("objects", "shallow")]
        objects, shallow = (self._path / os.fsdecode(path.removesuffix(b"\n")) for path in found)

        def borrow() -> None:
            alternates = workspace.git_dir / "objects" / "info" / "alternates"
            alternates.parent.mkdir(parents=True, exist_ok=True)
            alternates.write_bytes(_quoted(os.fsencode(objects.resolve())) + b"\n")
            if shallow.exists():
                (workspace.git_dir / "shallow").write_bytes(shallow.read_bytes())

        await asyncio.to_thread(borrow)

    async def _snapshot(self, workspace: Workspace, head: str) -> str:
        """The tree of what is on disk, built in a separate index."""
        if self._is_repository:
            return await snapshot(self._path, head, workspace, SECONDS, MAX_BYTES, self._where)
        listing = ("ls-files", "-z", "--others", "--exclude-standard")
        here = {"GIT_DIR": str(workspace.git_dir), "GIT_WORK_TREE": str(self._path)}
        excludes = [f"--exclude={pattern}" for pattern in _NEVER_SOURCE]
        names = await git(*listing, *excludes, cwd=self._path, env=here, limits=Limits(SECONDS))
        paths = sorted({name for name in names.split(b"\0") if name and self._is_source(name)})
        total = sum(os.lstat(os.path.join(os.fsencode(self._path), path)).st_size for path in paths)
        if total > MAX_BYTES:
            raise CheckoutError(f"the files take {total:,} bytes, {MAX_BYTES:,} are allowed; ignore some in .gitignore")
        stdin = b"".join(path + b"\0" for path in paths)
        await git(
            "update-index",
            "-z",
            "--add",
            "--stdin",
            cwd=self._path,
            env=here,
            stdin=stdin,
            limits=Limits(SECONDS, workspace.folder, 2 * MAX_BYTES),
        )
        return (await workspace.git("write-tree")).decode().strip()

    def _is_source(self, name: bytes) -> bool:
        """Regular files and links; a folder in the list is a nested repository."""
        path = os.path.join(os.fsencode(self._path), name)
        return os.path.islink(path) or os.path.isfile(path)

    async def _commit(self, workspace: Workspace, tree: str, head: str) -> str:
        if head:
            head_tree = (await workspace.git("rev-parse", f"{head}^{{tree}}")).decode().strip()
            if head_tree == tree:
                return head
        parent = ("-p", head) if head else ()
        message = b"Take the files as they are on disk\n"
        made = await workspace.git("commit-tree", tree, *parent, "-F", "-", stdin=message, env=_IDENTITY)
        return made.decode().strip()


def elsewhere(top: Path) -> dict[str, str]:
    """Where git's own folder of `top` is, as `GIT_DIR` and `GIT_WORK_TREE` of the environment say; {} without these.

    People keep files of a home folder so (`git --git-dir=~/.dotfiles --work-tree=~`). A repository's own `.git` is
    nearer, and variables of another work tree, such as a hook's, say nothing of this one.
    """
    folder = os.environ.get("GIT_DIR")
    tree = Path(os.environ.get("GIT_WORK_TREE") or ".").resolve()
    if not folder or tree != top or (top / ".git").exists():
        return {}
    return {"GIT_DIR": str(Path(folder).resolve()), "GIT_WORK_TREE": str(top)}


def _is_plain(path: Path, size: int) -> bool:
    """Whether it is a file of that size, and behind no link."""
    return os.path.realpath(path) == str(path) and path.is_file() and path.stat().st_size == size


def _quoted(path: bytes) -> bytes:
    """The path as a line of git's file of alternates, which may be quoted as in C."""
    if b"\n" not in path:
        return path
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


class LocalCommit(LocalCheckout):
    """A commit of a local repository, whatever its work tree holds."""

    async def clone(self, repository: str, target: Path, commit: str = "") -> str:
        if await self._top_level() is None:
            raise CheckoutError(f"{self._path} is not in a git repository; give the path of a clone")
        await self._require(commit)
        workspace = Workspace(target)
        await workspace.create(await self._object_format())
        await self._borrow_objects(workspace)
        self._say_absent(await workspace.materialise(commit, seconds=SECONDS, max_bytes=MAX_BYTES))
        return commit

    async def changes_to(self, checkout: Checkout, commit: str) -> tuple[FileChange, ...]:
        """What turns the checkout's files into those of another commit."""
        await self._require(commit)
        return await changes_between(Workspace(Path(checkout.workspace)), checkout.commit, commit)
