"""GitHub as a `RepositoryHost`: clones and pushes with git over HTTP, each with a token for that step alone."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from github import Github, GithubException
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential

from bot.errors import BranchTaken, ForgeError, GitFailed, RateLimited, Refused
from bot.forge.api import PATIENCE, GitHubApi, path_of
from bot.forge.branches import PREFIX
from bot.git.command import Limits, Remote, check_branch, check_commit
from bot.git.commit import Author, commit_patch
from bot.git.import_diff import changes_between
from bot.git.workspace import Workspace
from bot.patch.diff import file_diff
from bot.patch.policy import check_patch
from bot.records import Checkout, FileChange, Patch
from bot.repo_config import FILE_NAME
from bot.sanitize import redact
from bot.sanitize.neutralize import run_checks
from bot.settings import Settings

T = TypeVar("T")

_READ = {"contents": "read"}
_PUSH = {"contents": "write"}

GIT_ATTEMPTS = 4
# What git prints of HTTP errors, for which it has no exit codes.
_REFUSED = re.compile(r"error: (403|404)\b|not found|stale info|\[remote rejected\]|protected branch", re.IGNORECASE)
_UNAUTHORISED = re.compile(r"error: 401\b|Authentication failed|could not read Username|invalid credentials")
_BROKEN = re.compile(
    r"error: (429|5\d\d)\b|Could not resolve|Failed to connect|timed out|early EOF|RPC failed|hung up|Connection reset"
    r"|Empty reply",
    re.IGNORECASE,
)


class GitHubHost:
    """`bot.contracts.RepositoryHost` on GitHub. No commit that it makes holds one of the `secrets`."""

    def __init__(
        self, settings: Settings, api: GitHubApi, author: Callable[[], Awaitable[Author]], secrets: Sequence[str]
    ) -> None:
        self._settings = settings
        self._api = api
        self._author = author
        self._secrets = tuple(secrets)

    async def _git(self, repository: str, permissions: dict[str, str], use: Callable[[Remote], Awaitable[T]]) -> T:
        """Use git over HTTP with a token for this step; again where GitHub fails or refuses the token.

        Raises `Refused` where GitHub refuses for good.
        """
        web = self._settings.github_web_url.rstrip("/")
        if urlsplit(web).scheme not in ("http", "https"):
            raise ForgeError(f"TROOP_GITHUB_WEB_URL is not a web address: {web!r}")
        url = f"{web}/{_checked_name(repository)}.git"

        async def attempt() -> T:
            token = await self._api.act("token", lambda: self._api.token(repository, permissions))
            try:
                return await use(Remote(url, token))
            except GitFailed as error:
                if error.retry_after is not None:
                    if error.retry_after > PATIENCE:
                        raise RateLimited(f"GitHub limits the rate ({repository})", error.retry_after) from error
                    raise
                if _REFUSED.search(error.words):
                    raise Refused(f"GitHub refused {repository}: {error.words[-500:]}") from error
                if _UNAUTHORISED.search(error.words):
                    self._api.forget_tokens()
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=_wait,
            stop=stop_after_attempt(GIT_ATTEMPTS),
            sleep=self._api.sleep,
            reraise=True,
        )
        return await retrying(attempt)

    async def clone(self, repository: str, target: Path, commit: str = "") -> str:
        """With a read-only token."""
        limit, seconds = self._settings.checkout_max_bytes, self._settings.checkout_timeout
        workspace = Workspace(target)

        async def fetch(remote: Remote) -> str:
            await workspace.create()
            return await workspace.fetch(remote, commit, seconds=seconds, max_bytes=limit)

        found = await self._git(repository, _READ, fetch)
        await workspace.materialise(found, seconds=seconds, max_bytes=limit)
        return found

    async def commit(self, checkout: Checkout, patch: Patch, message: str, moment: datetime | None) -> str:
        """By the App's or the token's user. Raises `Refused` for what the policy forbids, secrets included."""
        check_patch(patch, self._secrets)
        message = run_checks(redact(message, self._secrets))
        return await commit_patch(checkout, patch, message, await self._author(), moment)

    async def commit_config(self, checkout: Checkout, text: str, message: str) -> str:
        """By the App's or the token's user, with the base commit's date: the same text is the same commit."""
        if redact(text, self._secrets) != redact(text, ()):
            raise Refused("this config may not be published: it holds a secret of this server")
        change = FileChange(path=FILE_NAME, text=text)
        patch = Patch(changes=(change,), diff=file_diff(FILE_NAME, None, text))
        return await commit_patch(
            checkout, patch, run_checks(redact(message, self._secrets)), await self._author(), None
        )

    async def push(self, repository: str, checkout: Path, branch: str, commit: str, *, force: bool) -> None:
        """With a new token that may write contents. Raises `Refused` where the branch is not Troop's own."""
        check_branch(branch)
        check_commit(commit)
        if not branch.startswith(PREFIX):
            raise Refused(f"{branch!r} can't be pushed: Troop's branches begin with {PREFIX!r}")
        workspace = Workspace(checkout)
        await self._git(
            repository, _PUSH, lambda remote: self._push(repository, workspace, remote, branch, commit, force=force)
        )

    async def _push(
        self, repository: str, workspace: Workspace, remote: Remote, branch: str, commit: str, *, force: bool
    ) -> None:
        reference = f"refs/heads/{branch}"
        old = await self._tip(workspace, remote, reference)
        if old == commit:
            return  # also where an earlier push arrived and its answer was lost
        if old and not force:
            raise Refused(f"the branch {branch} exists already, at {old[:10]}")
        if old:
            await self._check_own(repository, workspace, branch, old, commit)
        await self._move(workspace, remote, reference, old, commit)

    async def _move(self, workspace: Workspace, remote: Remote, reference: str, old: str, commit: str) -> None:
        """Push, where the reference is at `old`; empty: where it does not exist."""
        lease = f"--force-with-lease={reference}:{old}"
        arguments = ("--quiet", "--no-verify", lease, "--", remote.url, f"{commit}:{reference}")
        await workspace.git("push", *arguments, remote=remote, limits=Limits(self._settings.checkout_timeout))

    async def extend(self, repository: str, checkout: Path, branch: str, commit: str, onto: str) -> None:
        check_branch(branch)
        check_commit(commit)
        check_commit(onto)
        if not branch.startswith(PREFIX):
            raise Refused(f"{branch!r} can't be pushed: Troop's branches begin with {PREFIX!r}")
        workspace = Workspace(checkout)
        reference = f"refs/heads/{branch}"

        async def push(remote: Remote) -> None:
            old = await self._tip(workspace, remote, reference)
            if old == commit:
                return  # also where an earlier push arrived and its answer was lost
            if old and old != onto and await self._holds(repository, old, commit):
                return  # somebody committed on top of it meanwhile
            if old != onto:
                where = f"at {old[:10]}, no longer at {onto[:10]}" if old else "gone"
                raise BranchTaken(f"the branch {branch} is {where}")
            parent = await workspace.git("rev-parse", "--verify", f"{commit}^")
            assert parent.decode().strip() == onto, "the commit is made on the reviewed one"
            await self._move(workspace, remote, reference, old, commit)

        await self._git(repository, _PUSH, push)

    async def _holds(self, repository: str, tip: str, commit: str) -> bool:
        """Whether the commit is part of the history of `tip`."""

        def ask(client: Github) -> bool:
            path = path_of(repository, "compare", f"{commit}...{tip}")
            try:
                found = client.requester.requestJsonAndCheck("GET", path, parameters={"per_page": 1})[1]
            except GithubException as error:
                if error.status != 404:  # it was never pushed
                    raise
                return False
            return found["status"] in ("ahead", "identical")

        return await self._api.act("compare", lambda: self._api.read(repository, _READ, ask))

    async def changes_to(self, repository: str, checkout: Checkout, commit: str) -> tuple[FileChange, ...]:
        limit, seconds = self._settings.checkout_max_bytes, self._settings.checkout_timeout
        workspace = Workspace(Path(checkout.workspace))
        if check_commit(commit) == checkout.commit:
            return ()

        async def fetch(remote: Remote) -> None:
            await workspace.fetch(remote, commit, seconds=seconds, max_bytes=2 * limit)

        await self._git(repository, _READ, fetch)
        return await changes_between(workspace, checkout.commit, commit)

    async def _tip(self, workspace: Workspace, remote: Remote, reference: str) -> str:
        """The commit that the remote's branch points to, or ""."""
        listing = await workspace.git("ls-remote", "--quiet", "--", remote.url, reference, remote=remote)
        for line in listing.decode().splitlines():
            sha, _, name = line.partition("\t")
            if name == reference:
                return check_commit(sha)
        return ""

    async def _check_own(self, repository: str, workspace: Workspace, branch: str, old: str, new: str) -> None:
        """Raise `BranchTaken` where a commit that would be lost was made by somebody else.

        https://docs.github.com/rest/commits/commits#compare-two-commits
        """
        shown = await workspace.git("show", "-s", "--format=%ce%n%P", new)
        ours, parents = shown.decode(errors="replace").splitlines()[:2]
        path = path_of(repository, "compare", f"{parents.split()[0]}...{old}")

        def ask(client: Github) -> dict[str, Any]:
            found = client.requester.requestJsonAndCheck("GET", path, parameters={"per_page": 100})[1]
            return {"total": int(found["total_commits"]), "commits": list(found["commits"])}

        found = await self._api.act("compare", lambda: self._api.read(repository, _READ, ask))
        theirs = [one["sha"] for one in found["commits"] if one["commit"]["committer"]["email"] != ours]
        if theirs or found["total"] > len(found["commits"]):
            commit = theirs[-1] if theirs else old
            raise BranchTaken(f"{branch} has a commit that is not Troop's ({commit[:10]})")


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: as many as GitHub asks for, else exponential."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, GitFailed) else None
    return wait_exponential()(state) if asked is None else asked


def _may_pass(error: BaseException) -> bool:
    """Whether the same git command may succeed later, or with a new token."""
    if not isinstance(error, GitFailed):
        return False
    return error.retry_after is not None or bool(_UNAUTHORISED.search(error.words) or _BROKEN.search(error.words))


def _checked_name(repository: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}/[A-Za-z0-9_.-]{1,100}", repository) or repository.endswith(
        ("/.", "/..")
    ):
        raise ForgeError(f"{repository[:200]!r} is not a repository's name; names look like owner/name")
    return repository
