"""GitHub as a `RepositoryHost`: git over HTTP, each step with a token for it alone; an App's commits GitHub makes."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from github import Github
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential

from bot.errors import BranchTaken, CheckoutError, ForgeError, GitFailed, RateLimited, Refused
from bot.forge.api import GitHubApi
from bot.forge.branches import PREFIX
from bot.forge.large_files import download
from bot.forge.request import ask, path_of
from bot.forge.retrying import PATIENCE
from bot.forge.signed_commits import Content, SignedCommit, content_of, signed_by_us, signed_commit
from bot.git.command import Limits, Remote, check_branch, check_commit
from bot.git.commit import Author, commit_file, commit_patch
from bot.git.import_diff import changes_between
from bot.git.module_address import NAME, repository_at
from bot.git.workspace import Workspace
from bot.patch.diff import file_diff
from bot.patch.policy import check_patch
from bot.records import Bounds, Checkout, FileChange, Patch, Record, StoredFile, Submodule
from bot.repo_config import FILE_NAME
from bot.sanitize import redact
from bot.sanitize.neutralize import run_checks
from bot.sanitize.redact import holds_secret
from bot.settings import Settings

T = TypeVar("T")

_READ = {"contents": "read"}
_PUSH = {"contents": "write"}

KEPT = "refs/troop/"  # where files are kept: no branch, no tag, and not part of a clone
GIT_ATTEMPTS = 4
# What git prints of HTTP errors, for which it has no exit codes.
_REFUSED = re.compile(r"error: (403|404)\b|not found|stale info|\[remote rejected\]|protected branch", re.IGNORECASE)
_RENAMED = re.compile(r"error: 30[1278]\b")
_UPROOTED = "shallow update not allowed"  # of a commit that no branch there leads to
_GONE = "upload-pack: not our ref"  # of one that is not there any more
_OTHER_HASH = "server sha256"
# Of objects that the server has and can't read, or lacks. Its "possible repository corruption" alone may be a hiccup.
_DAMAGED = re.compile(
    r"^remote: (?:fatal|error): (.*\b(?:unable to (?:read|unpack) [0-9a-f]{40}|bad (?:tree|blob|commit) object"
    r"|is corrupt|missing (?:blob|tree|commit)|(?:empty filename|malformed mode) in tree entry|too-short tree)\b.*)$",
    re.MULTILINE,
)
_UNAUTHORISED = re.compile(r"error: 401\b|Authentication failed|could not read Username|invalid credentials")
_LIMITED = re.compile(r"rate limit", re.IGNORECASE)  # words of a 403 that names no time
_BROKEN = re.compile(
    r"error: (429|5\d\d)\b|Could not resolve|Failed to connect|timed out|early EOF|RPC failed|hung up|Connection reset"
    r"|Empty reply",
    re.IGNORECASE,
)


class GitHubHost:
    """`bot.contracts.RepositoryHost` on GitHub. No commit that it makes holds one of the `secrets`."""

    def __init__(
        self, settings: Settings, api: GitHubApi, author: Callable[[str], Awaitable[Author]], secrets: Sequence[str]
    ) -> None:
        self._settings = settings
        self._api = api
        self._author = author
        self._secrets = tuple(secrets)

    async def _git(self, repository: str, permissions: dict[str, str], use: Callable[[Remote], Awaitable[T]]) -> T:
        """Use git over HTTP with a token for this step; as `_git_with`."""

        async def token() -> str:
            return await self._api.token(repository, permissions)

        return await self._git_with(token, repository, use)

    async def _git_with(
        self, mint: Callable[[], Awaitable[str]] | None, repository: str, use: Callable[[Remote], Awaitable[T]]
    ) -> T:
        """Use git over HTTP, again where GitHub fails or refuses the token. `mint`: makes that; None: as anybody.

        Raises `Refused` where GitHub refuses for good.
        """
        web = self._settings.github_web_url.rstrip("/")
        if urlsplit(web).scheme not in ("http", "https"):
            raise ForgeError(f"TROOP_GITHUB_WEB_URL is not a web address: {web!r}")
        url = f"{web}/{_checked_name(repository)}.git"

        async def attempt() -> T:
            token = await self._api.act("token", mint) if mint else ""
            try:
                return await use(Remote(url, token))
            except GitFailed as error:
                if mint is None and (_REFUSED.search(error.words) or _UNAUTHORISED.search(error.words)):
                    raise Refused(f"not everybody may read {repository}, or it is gone") from error
                if error.retry_after is not None:
                    if error.retry_after > PATIENCE:
                        raise RateLimited(f"GitHub limits the rate ({repository})", error.retry_after) from error
                    raise
                if _LIMITED.search(error.words):
                    raise
                if _UPROOTED in error.words:
                    raise _uprooted(repository) from error
                if _OTHER_HASH in error.words:
                    raise CheckoutError(
                        f"{repository} names its objects by SHA-256, which Troop does not work on: GitHub's have SHA-1"
                    ) from error
                if damage := _DAMAGED.search(error.words):
                    raise CheckoutError(
                        f"{repository} is damaged where it is kept ({damage[1].strip()[:200]}): its server's operator "
                        "can mend it with `git fsck` and a push of what is missing"
                    ) from error
                if _RENAMED.search(error.words):
                    raise ForgeError(
                        f"GitHub has {repository} under another name now; it is tried again by that one"
                    ) from error
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
            try:
                return await workspace.fetch(remote, commit, seconds=seconds, max_bytes=limit)
            except GitFailed as error:
                if commit and _GONE in error.words:
                    raise _uprooted(repository) from error
                raise

        found = await self._git(repository, _READ, fetch)
        await workspace.materialise(found, seconds=seconds, max_bytes=limit)
        return found

    @property
    def bounds(self) -> Bounds:
        return Bounds(seconds=self._settings.checkout_timeout, max_bytes=self._settings.checkout_max_bytes)

    async def module(self, module: Submodule, target: Path, bounds: Bounds) -> str:
        """As anybody may read it; with a token only where the operator lets us, and of the same owner.

        Whoever may write to a repository names its submodules, and sees what tests print: by a token for others they
        would read what they may not.
        """
        setting = self._settings.checkout_submodules
        if setting == "none":
            raise Refused("TROOP_CHECKOUT_SUBMODULES is none")
        name = repository_at(module.address, module.within, self._settings.github_web_url)
        workspace = Workspace(target)

        async def fetch(remote: Remote) -> None:
            await workspace.create()
            # Git follows the host from an earlier name, but never with a token.
            config = () if remote.token else ("http.followRedirects=initial",)
            seconds, most = bounds.seconds, bounds.max_bytes
            try:
                await workspace.fetch(remote, module.commit, seconds=seconds, max_bytes=most, config=config)
            except GitFailed as error:
                if _GONE in error.words:
                    raise Refused(f"{name} does not have its commit {module.commit[:12]}") from error
                raise

        async def token() -> str:
            return await self._api.token_beside(name, module.within, _READ)

        try:
            await self._git_with(None, name, fetch)
        except Refused as refused:
            if name.split("/")[0].lower() != module.within.split("/")[0].lower():
                raise
            if setting != "installation":
                raise Refused(f"{refused}; TROOP_CHECKOUT_SUBMODULES=installation uses a token for it") from refused
            await self._git_with(token, name, fetch)
        await workspace.materialise(module.commit, seconds=bounds.seconds, max_bytes=bounds.max_bytes)
        return name

    async def stored(self, repository: str, wanted: Sequence[StoredFile], folder: Path) -> str:
        """With a read-only token, which the host alone gets."""
        most, seconds = self._settings.checkout_lfs_bytes, self._settings.checkout_timeout
        if not most:
            return "TROOP_CHECKOUT_LFS_BYTES is 0"

        async def fetch(remote: Remote) -> str:
            return await download(remote, wanted, folder, seconds=seconds, max_bytes=most)

        return await self._git(repository, _READ, fetch)

    async def commit(self, checkout: Checkout, patch: Patch, message: str, moment: datetime | None) -> str:
        """By the App's or the token's user. Raises `Refused` for what the policy forbids, secrets included."""
        check_patch(patch, self._secrets)
        message = run_checks(redact(message, self._secrets))
        return await commit_patch(checkout, patch, message, await self._author(checkout.repository), moment)

    async def commit_config(self, checkout: Checkout, text: str, message: str) -> str:
        """By the App's or the token's user, with the base commit's date: the same text is the same commit."""
        if holds_secret(text, self._secrets):
            raise Refused("this config may not be published: it holds a secret of this server")
        change = FileChange(path=FILE_NAME, text=text)
        patch = Patch(changes=(change,), diff=file_diff(FILE_NAME, None, text))
        author = await self._author(checkout.repository)
        return await commit_patch(checkout, patch, run_checks(redact(message, self._secrets)), author, None)

    async def push(self, repository: str, checkout: Path, branch: str, commit: str, *, force: bool) -> str:
        """With a new token that may write contents. Raises `Refused` where the branch is not Troop's own."""
        workspace, reference = Workspace(checkout), _reference(branch)
        content = await content_of(workspace, check_commit(commit))
        old = await self._tip(repository, workspace, reference)
        there = await self._commits_to(repository, content.parent, old) if old else _NONE
        if old == commit or any(one["sha"] == old and content.is_of(one) for one in there.commits):
            return old  # also where an earlier push arrived and its answer was lost
        if old and not force:
            raise Refused(f"the branch {branch} exists already, at {old[:10]}")
        new = await self._signed(repository, workspace, commit, content)
        if old:
            await self._check_own(repository, branch, old, there, signs=new.verified)
        return await self._move(repository, workspace, reference, old, new.sha)

    async def extend(self, repository: str, checkout: Path, branch: str, commit: str, onto: str) -> str:
        workspace, reference = Workspace(checkout), _reference(branch)
        content = await content_of(workspace, check_commit(commit))
        assert content.parent == check_commit(onto), "the commit is made on the reviewed one"
        old = await self._tip(repository, workspace, reference)
        if old and old != onto:
            # An earlier push arrived and its answer was lost; maybe somebody committed on top of it meanwhile.
            for one in (await self._commits_to(repository, onto, old)).commits:
                if one["sha"] == commit or content.is_of(one):
                    return str(one["sha"])
        if old != onto:
            where = f"at {old[:10]}, no longer at {onto[:10]}" if old else "gone"
            raise BranchTaken(f"the branch {branch} is {where}")
        new = await self._signed(repository, workspace, commit, content)
        return await self._move(repository, workspace, reference, old, new.sha)

    async def tip(self, repository: str, branch: str) -> str:
        """https://docs.github.com/rest/git/refs#get-a-reference"""
        path = path_of(repository, "git", "ref", "heads", *check_branch(branch).split("/"))

        def find(client: Github) -> str:
            found = ask(client, "GET", path, unless=404)
            return "" if found is None else str(found["object"]["sha"])

        return await self._api.act("branch", lambda: self._api.read(repository, _READ, find))

    async def keep(
        self, repository: str, checkout: Path, name: str, text: Callable[[Collection[str]], str]
    ) -> tuple[str, str]:
        """On `refs/troop/`, with a new token that may write contents; the commit's hash is the reference's name."""
        workspace = Workspace(checkout)
        content = text(self._secrets).encode()
        commit = await commit_file(workspace, name, content, await self._author(repository))
        reference = f"{KEPT}{commit}"
        await self._move(repository, workspace, reference, "", commit)
        return f"{self._settings.github_web_url.rstrip('/')}/{repository}.git", reference

    async def _signed(self, repository: str, workspace: Workspace, commit: str, content: Content) -> SignedCommit:
        """The commit as GitHub makes it for an App; the local one where it does not, or not as a verified one."""
        if not self._api.is_app:
            return SignedCommit(sha=commit, verified=False)
        made = await signed_commit(self._api, repository, workspace, commit, content)
        if made is None:
            return SignedCommit(sha=commit, verified=True)  # GitHub signs, though not this one
        return made if made.verified else SignedCommit(sha=commit, verified=False)

    async def _move(self, repository: str, workspace: Workspace, reference: str, old: str, commit: str) -> str:
        """Push the commit, where the reference is at `old` (empty: where it does not exist); the commit."""

        async def push(remote: Remote) -> None:
            if await self._tip_at(workspace, remote, reference) == commit:
                return  # an earlier attempt arrived and its answer was lost
            limits = Limits(self._settings.checkout_timeout)
            if not await workspace.has(commit):  # GitHub made it
                options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
                await workspace.git("fetch", *options, "--", remote.url, commit, remote=remote, limits=limits)
            lease = f"--force-with-lease={reference}:{old}"
            arguments = ("--quiet", "--no-verify", lease, "--", remote.url, f"{commit}:{reference}")
            await workspace.git("push", *arguments, remote=remote, limits=limits)

        await self._git(repository, _PUSH, push)
        return commit

    async def _commits_to(self, repository: str, base: str, tip: str) -> "_Commits":
        """What `tip` has and `base` has not; none where one of them was never pushed.

        https://docs.github.com/rest/commits/commits#compare-two-commits
        """

        def find(client: Github) -> _Commits:
            path = path_of(repository, "compare", f"{base}...{tip}")
            found = ask(client, "GET", path, unless=404, parameters={"per_page": 100})
            if found is None:
                return _NONE
            return _Commits(commits=tuple(found["commits"]), whole=int(found["total_commits"]) == len(found["commits"]))

        return await self._api.act("compare", lambda: self._api.read(repository, _READ, find))

    async def changes_to(self, repository: str, checkout: Checkout, commit: str) -> tuple[FileChange, ...]:
        limit, seconds = self._settings.checkout_max_bytes, self._settings.checkout_timeout
        workspace = Workspace(Path(checkout.workspace))
        if check_commit(commit) == checkout.commit:
            return ()

        async def fetch(remote: Remote) -> None:
            await workspace.fetch(remote, commit, seconds=seconds, max_bytes=2 * limit)

        await self._git(repository, _READ, fetch)
        return await changes_between(workspace, checkout.commit, commit)

    async def _tip(self, repository: str, workspace: Workspace, reference: str) -> str:
        """The commit that the branch points to on GitHub, or ""."""
        return await self._git(repository, _READ, lambda remote: self._tip_at(workspace, remote, reference))

    @staticmethod
    async def _tip_at(workspace: Workspace, remote: Remote, reference: str) -> str:
        listing = await workspace.git("ls-remote", "--quiet", "--", remote.url, reference, remote=remote)
        for line in listing.decode().splitlines():
            sha, _, name = line.partition("\t")
            if name == reference:
                return check_commit(sha)
        return ""

    async def _check_own(self, repository: str, branch: str, old: str, there: "_Commits", *, signs: bool) -> None:
        """Raise `BranchTaken` where a commit that would be lost was made by somebody else.

        Where GitHub signs for us, only what it has signed is ours; elsewhere it goes by the committer's e-mail address,
        whatever number is before the name: an earlier Troop wrote the App's.
        """
        ours = (await self._author(repository)).name
        address = re.compile(rf"(?:\d+\+)?{re.escape(ours)}@users\.noreply\.github\.com")
        theirs = [
            one["sha"]
            for one in there.commits
            if not (signed_by_us(one, ours) if signs else address.fullmatch(one["commit"]["committer"]["email"]))
        ]
        if theirs or not there.whole:
            commit = theirs[-1] if theirs else old
            raise BranchTaken(f"{branch} has a commit that is not Troop's ({commit[:10]})")


class _Commits(Record):
    """Commits as GitHub lists them, oldest first. `whole`: whether none is left out."""

    commits: tuple[dict[str, Any], ...]
    whole: bool


_NONE = _Commits(commits=(), whole=False)


def _uprooted(repository: str) -> Refused:
    return Refused(
        f"the commit that the run began with is no longer in {repository}: its branch was force-pushed or deleted "
        "meanwhile"
    )


def _reference(branch: str) -> str:
    if not check_branch(branch).startswith(PREFIX):
        raise Refused(f"{branch!r} can't be pushed: Troop's branches begin with {PREFIX!r}")
    return f"refs/heads/{branch}"


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: as many as GitHub asks for, else exponential."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, GitFailed) else None
    return wait_exponential()(state) if asked is None else asked


def _may_pass(error: BaseException) -> bool:
    """Whether the same git command may succeed later, or with a new token."""
    if not isinstance(error, GitFailed):
        return False
    passing = (_LIMITED, _UNAUTHORISED, _BROKEN)
    return error.retry_after is not None or any(pattern.search(error.words) for pattern in passing)


def _checked_name(repository: str) -> str:
    if not NAME.fullmatch(repository):
        raise ForgeError(f"{repository[:200]!r} is not a repository's name; names look like owner/name")
    return repository
