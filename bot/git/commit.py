"""A patch as a commit, built with git's plumbing: the work tree is not touched, and no filter or hook runs.

Deterministic: the same patch on the same commit, with the same message, author and moment, is the same commit, so that
a repeated step changes nothing.
"""

from datetime import datetime
from pathlib import Path

from bot.errors import CheckoutError, GitFailed
from bot.git.command import check_commit
from bot.git.workspace import Workspace
from bot.patch.paths import path_problem
from bot.records import Checkout, Patch, Record
from bot.scratch import scratch_folder

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LATEST = 1 << 40  # seconds since 1970, in the year 36812; git writes none that is much later


class Author(Record):
    """Who commits. By the e-mail address Troop also recognises its own commits."""

    name: str
    email: str


async def commit_patch(checkout: Checkout, patch: Patch, message: str, author: Author, moment: datetime | None) -> str:
    """Commit the patch on top of the checkout's commit; the new commit's full name.

    Files that the patch does not touch keep their modes and links; a touched file keeps its executable bit. `moment`
    dates it; None takes the base commit's date. Raises `CheckoutError` for a path that can't be or must not be changed.
    """
    workspace = Workspace(Path(checkout.workspace))
    base = check_commit(checkout.commit)
    for path in patch.paths:
        if problem := path_problem(path):
            raise CheckoutError(f"{path!r} {problem}; the patch is refused")
    modes = await _modes(workspace, base, patch)
    lines = []
    for change in patch.changes:
        mode = modes.get(change.path, "")
        if mode in ("120000", "160000"):
            kind = "a symbolic link" if mode == "120000" else "a submodule"
            raise CheckoutError(f"{change.path!r} is {kind} in the repository; the patch is refused")
        if why := checkout.elsewhere(change.path):
            raise CheckoutError(f"{change.path!r} {why}; the patch is refused")
        content = change.content
        if content is None:
            lines.append(f"0 {'0' * len(base)}\t{change.path}")
            continue
        blob = await _blob(workspace, base, change.path, content, exists=bool(mode))
        bits = "100755" if change.executable or mode == "100755" else "100644"
        lines.append(f"{bits} {blob}\t{change.path}")
    async with scratch_folder() as scratch:
        index = scratch / "index"
        await workspace.git("read-tree", base, index=index)
        await workspace.git("update-index", "-z", "--index-info", index=index, stdin=_terminated(lines))
        tree = (await workspace.git("write-tree", "--missing-ok", index=index)).decode().strip()
    return await _commit_tree(workspace, tree, base, message, author, moment)


async def _blob(workspace: Workspace, base: str, path: str, content: bytes, *, exists: bool) -> str:
    """The object of a file's new content: what `git add` makes of it by .gitattributes, where that changes no more than
    the patch does, and else the content as it is.

    A file that was committed with other line endings than .gitattributes asks for would change in every line. A new
    file is text in UTF-8, whatever .gitattributes says of the encoding in work trees.
    """

    async def stored(how: str, what: bytes) -> str:
        return (await workspace.git("hash-object", "-w", "--stdin", how, stdin=what)).decode().strip()

    plain = await stored("--no-filters", content)
    try:
        added = await stored(f"--path={path}", content)
        if added == plain:
            return plain
        if exists:
            was = await workspace.git("cat-file", "--filters", f"{base}:{path}")
            before = (await workspace.git("rev-parse", f"{base}:{path}")).decode().strip()
            # What is other in a work tree than in the commit can't be stored as it is.
            kept = await stored(f"--path={path}", was) == before or await stored("--no-filters", was) != before
        else:
            said = await workspace.git("check-attr", "-z", "working-tree-encoding", "--", path)
            kept = said.split(b"\0")[2] in (b"unspecified", b"unset")
    except GitFailed as error:
        # An encoding that git does not know was not applied to the work tree either.
        if exists and await workspace.git("cat-file", "--filters", f"{base}:{path}") != await workspace.git(
            "cat-file", "blob", f"{base}:{path}"
        ):
            raise CheckoutError(f"{path!r} is not in the encoding that .gitattributes names: {error.words}") from error
        return plain
    return added if kept else plain


async def commit_file(workspace: Workspace, name: str, content: bytes, author: Author) -> str:
    """A commit of that file alone, without a parent, dated 1970: the same file is the same commit."""
    blob = (await workspace.git("hash-object", "-w", "--stdin", stdin=content)).decode().strip()
    tree = (await workspace.git("mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())).decode().strip()
    commit = await workspace.git("commit-tree", tree, "-m", name, env=_identity(author, 0))
    return commit.decode().strip()


async def _commit_tree(
    workspace: Workspace, tree: str, base: str, message: str, author: Author, moment: datetime | None
) -> str:
    # `git show` would read the tree of the commit before, which a partial clone may lack.
    dated = (await workspace.git("log", "-1", "--format=%ct", base)).strip()
    # A commit may have no date, or one that git can read but not write.
    there = min(int(dated), _LATEST) if dated.isdigit() else 0
    seconds = there if moment is None else int(moment.timestamp())
    text = message.replace("\0", "").encode("utf-8", "replace")
    commit = await workspace.git("commit-tree", tree, "-p", base, "-F", "-", stdin=text, env=_identity(author, seconds))
    return commit.decode().strip()


def _identity(author: Author, seconds: int) -> dict[str, str]:
    """Git's variables for a commit by the author at that moment."""
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", author.name), ("EMAIL", author.email), ("DATE", f"@{seconds} +0000"))
    }


async def _modes(workspace: Workspace, base: str, patch: Patch) -> dict[str, str]:
    """Modes of the touched paths in the base commit. Raises `CheckoutError` where a parent of one is not a folder."""
    modes = {}
    parents = {str(parent) for path in patch.paths for parent in Path(path).parents if str(parent) != "."}
    wanted = sorted({*patch.paths, *parents})
    # Literal pathspecs, or a `*` in a path would match others.
    listing = await workspace.git("--literal-pathspecs", "ls-tree", "-z", base, "--", *wanted) if wanted else b""
    for entry in listing.split(b"\0"):
        if entry:
            head, _, name = entry.partition(b"\t")
            modes[name.decode("utf-8", "surrogateescape")] = head.split()[0].decode()
    for parent in parents:
        if modes.get(parent, "040000") != "040000":
            raise CheckoutError(f"{parent!r} is not a folder in the repository; the patch is refused")
    for path in patch.paths:
        if modes.get(path) == "040000":
            raise CheckoutError(f"{path!r} is a folder in the repository; the patch is refused")
    return modes


def _terminated(lines: list[str]) -> bytes:
    return "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")
