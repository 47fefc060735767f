"""Commits that GitHub makes for the App and signs, so that it shows them as verified.

Git's plumbing makes the commit first (`bot.git.commit`). What it changes is uploaded, and GitHub's tree has to be the
same to the byte: names of trees are hashes of all that is in them. Author, committer and date are GitHub's.
https://docs.github.com/rest/git
"""

import base64
import logging
from collections.abc import Mapping
from typing import Any

from github import Github

from bot.forge.api import GitHubApi
from bot.forge.request import ask, path_of
from bot.git.workspace import Workspace
from bot.records import Record

FILE_LIMIT = 20_000_000  # bytes of a file; GitHub refuses requests of more than twice as much
_INLINE = 100_000  # bytes of a text that is part of the request for the tree; others are blobs of their own
_WRITE = {"contents": "write"}
_COMMITTER = "web-flow"  # who commits what GitHub itself makes and signs

log = logging.getLogger(__name__)


class Content(Record):
    """A commit apart from who made it and when: the same content is published once."""

    tree: str
    parent: str
    message: str

    def is_of(self, listed: Mapping[str, Any]) -> bool:
        """Whether it is that of a commit as GitHub lists it."""
        made = listed["commit"]
        parents = [parent["sha"] for parent in listed["parents"]]
        return (made["tree"]["sha"], parents, made["message"].strip()) == (self.tree, [self.parent], self.message)


class SignedCommit(Record):
    """A commit on GitHub that no branch holds yet."""

    sha: str
    verified: bool  # False on a GitHub Enterprise that does not sign


class Upload(Record):
    """One file as the commit leaves it. `content`: None where it is deleted."""

    path: str
    mode: str
    content: bytes | None


def signed_by_us(listed: Mapping[str, Any], own_login: str) -> bool:
    """Whether GitHub itself made and signed the commit, as it lists it, for our App.

    Author and committer of a pushed commit may be anybody's; but nobody else can sign as GitHub, and what it signs has
    the author who asked for it.
    """
    author, committer = (listed.get(role) or {} for role in ("author", "committer"))
    verified = listed["commit"]["verification"]["verified"] is True
    return verified and author.get("login") == own_login and committer.get("login") == _COMMITTER


async def content_of(workspace: Workspace, commit: str) -> Content:
    """Of a commit with one parent, in the workspace."""
    raw = (await workspace.git("cat-file", "commit", commit)).decode(errors="replace")
    header, _, message = raw.partition("\n\n")
    fields = dict(line.split(" ", 1) for line in header.splitlines())
    return Content(tree=fields["tree"], parent=fields["parent"], message=message.strip())


async def signed_commit(
    api: GitHubApi, repository: str, workspace: Workspace, commit: str, content: Content
) -> SignedCommit | None:
    """Have GitHub make the commit of that content. Every call makes another, which is on no branch.

    None where its API does not take what the commit changes; the log says why. Raises `ForgeError`.
    """
    uploads = await _uploads(workspace, commit)
    if uploads is None:
        log.warning("%s: a file of %s is too large for GitHub's API, or its name is no text: the commit is pushed by "
                    "git, and not verified", repository, commit[:10])  # fmt: skip
        return None
    base = (await workspace.git("rev-parse", f"{content.parent}^{{tree}}")).decode().strip()
    entries = [await _entry(api, repository, each) for each in uploads]
    tree = await _create(api, "tree", repository, "trees", {"base_tree": base, "tree": entries}, refusable=True)
    if tree is None or tree["sha"] != content.tree:
        log.warning("%s: GitHub's API does not make the tree of %s: the commit is pushed by git, and not verified",
                    repository, commit[:10])  # fmt: skip
        return None
    # Without `author` and `committer`, or GitHub would not sign it.
    wanted = {"message": content.message, "tree": content.tree, "parents": [content.parent]}
    made = await _create(api, "commit", repository, "commits", wanted)
    assert made is not None, "a refusal is an error"
    return SignedCommit(sha=made["sha"], verified=made["verification"]["verified"] is True)


async def unsignable(workspace: Workspace, commit: str) -> str:
    """Why GitHub's API does not take what the commit changes, for people; "" where it does."""
    return await _too_much(workspace, await _changes(workspace, commit))


async def _too_much(workspace: Workspace, changes: list[tuple[str, str, str]]) -> str:
    for mode, blob, path in changes:
        if "\N{REPLACEMENT CHARACTER}" in path:
            return f"the name of {path} is no text"
        if mode and int(await workspace.git("cat-file", "-s", blob)) > FILE_LIMIT:
            return f"{path} has more than {FILE_LIMIT:,} bytes, more than GitHub's API takes"
    return ""


async def _changes(workspace: Workspace, commit: str) -> list[tuple[str, str, str]]:
    """Mode, blob and path of each file that the commit changes; no mode where it is deleted."""
    listing = await workspace.git("diff-tree", "-r", "-z", "--no-renames", "--no-commit-id", f"{commit}^", commit)
    fields = [field for field in listing.decode(errors="replace").split("\0") if field]
    found = []
    for entry, path in zip(fields[::2], fields[1::2], strict=True):
        _, mode, _, blob, kind = entry.lstrip(":").split(" ")
        found.append(("" if kind == "D" else mode, blob, path))
    return found


async def _uploads(workspace: Workspace, commit: str) -> list[Upload] | None:
    """What the commit changes; None where that can't be sent."""
    changes = await _changes(workspace, commit)
    if await _too_much(workspace, changes):
        return None
    found = []
    for mode, blob, path in changes:
        content = None
        if mode:
            content = await workspace.git("cat-file", "blob", blob)
        found.append(Upload(path=path, mode=mode or "100644", content=content))
    return found


async def _entry(api: GitHubApi, repository: str, upload: Upload) -> dict[str, Any]:
    """The entry of the tree, for which a blob is created where it is no short text."""
    entry: dict[str, Any] = {"path": upload.path, "mode": upload.mode, "type": "blob"}
    if upload.content is None:
        return entry | {"sha": None}
    if len(upload.content) <= _INLINE and (text := _text(upload.content)) is not None:
        return entry | {"content": text}
    sent = {"content": base64.b64encode(upload.content).decode(), "encoding": "base64"}
    blob = await _create(api, "blob", repository, "blobs", sent)
    assert blob is not None, "a refusal is an error"
    return entry | {"sha": blob["sha"]}


def _text(content: bytes) -> str | None:
    """What JSON carries unchanged; None for all else."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


async def _create(
    api: GitHubApi, what: str, repository: str, kind: str, fields: Mapping[str, Any], *, refusable: bool = False
) -> dict[str, Any] | None:
    """Create an object; it is named by its content, or on no branch, so that twice does no harm.

    `refusable`: None where GitHub finds the fields wrong.
    """

    def create(client: Github) -> dict[str, Any] | None:
        unless = 422 if refusable else 0
        made = ask(client, "POST", path_of(repository, "git", kind), unless=unless, input=dict(fields))
        return None if made is None else dict(made)

    return await api.act(what, lambda: api.write(repository, _WRITE, create))
