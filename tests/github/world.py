"""What the test GitHub knows: users, repositories, issues, pull requests, tokens. In memory; git itself is on disk.

Every change goes through `World`, under one lock, and is told to the webhooks. Times have the resolution of a second,
as GitHub's do; `advance` moves the clock.
"""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.github.repository import GitRepository

BODY_LIMIT = 65_536  # characters of an issue, a pull request or a comment
TITLE_LIMIT = 256
PERMISSIONS = ("none", "read", "triage", "write", "maintain", "admin")


class ApiError(Exception):
    """What the REST API answers instead of a result."""

    def __init__(self, status: int, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        if errors:
            self.body["errors"] = errors


class Moved(ApiError):
    """What is asked for below one path of the API is below another now."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(301, "Moved Permanently")
        self.old, self.new = old, new


@dataclass
class User:
    login: str
    id: int
    type: str = "User"


@dataclass
class Comment:
    id: int
    user: str
    body: str
    created_at: datetime
    updated_at: datetime
    reactions: set[tuple[str, str]] = field(default_factory=set)  # of whom, and which


@dataclass
class Pull:
    head: str
    base: str
    draft: bool
    merged: bool = False
    closed_head: str = ""  # the commit that the branch had when the pull request was closed


@dataclass
class Issue:
    """An issue, or, with `pull`, a pull request: they share their numbers."""

    number: int
    user: str
    title: str
    body: str
    created_at: datetime
    updated_at: datetime
    state: str = "open"
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    pull: Pull | None = None
    locked: bool = False
    gone: bool = False  # deleted
    moved_to: str = ""  # the API's path, once it was transferred


@dataclass
class Repository:
    full_name: str
    id: int
    git: GitRepository
    private: bool = False
    archived: bool = False
    fork: bool = False
    has_issues: bool = True
    drafts: bool = True  # whether the plan knows draft pull requests
    permissions: dict[str, str] = field(default_factory=dict)  # by login
    labels: dict[str, str] = field(default_factory=dict)  # colour by name
    issues: dict[int, Issue] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)  # of all branches but the default one
    may_bypass: str = "never"  # what the App may do about them
    check_runs: list[dict[str, Any]] = field(default_factory=list)  # that the App made, as the API gives them
    large_files: dict[str, bytes] = field(default_factory=dict)  # that Git LFS keeps, by hash

    @property
    def owner(self) -> str:
        return self.full_name.split("/")[0]

    @property
    def name(self) -> str:
        return self.full_name.split("/")[1]


@dataclass
class Token:
    """An installation's token (narrowed to repositories and permissions), or a person's (`installation` 0: may all
    that the person may)."""

    value: str
    user: str
    expires_at: datetime
    installation: int = 0
    repositories: frozenset[int] | None = None  # their numbers, which stay when they are renamed
    permissions: Mapping[str, str] | None = None

    def allows(self, repository: int, permission: str, level: str) -> bool:
        if self.repositories is not None and repository not in self.repositories:
            return False
        if self.permissions is None:
            return True
        return self.permissions.get(permission) in (("write",) if level == "write" else ("read", "write"))


@dataclass
class App:
    id: int
    slug: str
    public_key: str  # PEM
    permissions: dict[str, str] = field(
        default_factory=lambda: {
            "metadata": "read",
            "contents": "write",
            "issues": "write",
            "pull_requests": "write",
            "checks": "write",
            "statuses": "read",
            "actions": "read",
        }
    )
    events: list[str] = field(
        default_factory=lambda: [
            "issues",
            "issue_comment",
            "pull_request_review",
            "pull_request_review_comment",
            "check_suite",
            "status",
            "pull_request",
        ]
    )
    client_id: str = "Iv1.0123456789abcdef"
    client_secret: str = "a client secret of the tests"
    callback_urls: list[str] = field(default_factory=list)


@dataclass
class Installation:
    id: int
    account: str
    suspended: bool = False
    excluded: set[int] = field(default_factory=set)  # numbers of repositories that it may not see


Listener = Callable[[str, str, Repository, Issue, Comment | None, str, dict[str, Any]], None]


class World:
    """All of it. `listener(event, action, repository, issue, comment, sender, extra)` is told of what webhooks tell."""

    def __init__(self, data: Path, app: App) -> None:
        self.app = app
        self.lock = threading.RLock()
        self.listener: Listener = lambda *_: None
        self.clear(data)

    def clear(self, data: Path) -> None:
        """Begin anew, with the git repositories below `data`."""
        self.data = data
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}  # new names by old ones
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.signs = True  # whether GitHub signs what it makes for an App; an Enterprise server may not
        self._offset = timedelta()
        self._last_id = 0
        self.user(f"{self.app.slug}[bot]", "Bot")

    # -- time and identity

    def now(self) -> datetime:
        return (datetime.now(UTC) + self._offset).replace(microsecond=0)

    def advance(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)

    def next_id(self) -> int:
        with self.lock:
            self._last_id += 1
            return self._last_id

    def user(self, login: str, kind: str = "") -> User:
        """The user, made up where unknown; a login in `[bot]` is a bot."""
        if login not in self.users:
            kind = kind or ("Bot" if login.endswith("[bot]") else "User")
            self.users[login] = User(login, self.next_id(), kind)
        return self.users[login]

    def install(self, account: str) -> Installation:
        installation = Installation(self.next_id(), account)
        self.installations[installation.id] = installation
        return installation

    def installation_of(self, repository: str) -> Installation | None:
        owner = repository.split("/")[0]
        return next((i for i in self.installations.values() if i.account == owner), None)

    def mint(self, user: str, *, signed_in: bool = False, **narrowed: Any) -> Token:
        prefix = "ghu" if signed_in else "ghs" if narrowed.get("installation") else "github_pat"
        token = Token(f"{prefix}_{secrets.token_hex(18)}", user, self.now() + timedelta(hours=1), **narrowed)
        self.tokens[token.value] = token
        return token

    def authenticate(self, value: str) -> Token:
        token = self.tokens.get(value)
        if token is None or token.expires_at <= self.now():
            raise ApiError(401, "Bad credentials")
        installation = self.installations.get(token.installation)
        if token.installation and installation is None:
            raise ApiError(401, "Bad credentials")
        if installation is not None and installation.suspended:
            raise ApiError(403, "This installation has been suspended")
        return token

    # -- repositories

    def repository(self, full_name: str) -> Repository:
        if full_name in self.moved and full_name not in self.repositories:
            raise Moved(f"/repos/{full_name}", f"/repos/{self.moved[full_name]}")
        if full_name not in self.repositories:
            raise ApiError(404, "Not Found")
        return self.repositories[full_name]

    def create_repository(self, full_name: str, git: GitRepository) -> Repository:
        with self.lock:
            owner = full_name.split("/")[0]
            repository = Repository(full_name, self.next_id(), git, permissions={owner: "admin"})
            self.user(owner)
            if self.installation_of(full_name) is None:
                self.install(owner)
            self.repositories[full_name] = repository
            return repository

    def permission(self, repository: Repository, login: str) -> str:
        """The role; a public repository may be read by all."""
        return repository.permissions.get(login, "none" if repository.private else "read")

    # -- issues and comments

    def issue(self, repository: Repository, number: int) -> Issue:
        if number not in repository.issues:
            raise ApiError(404, "Not Found")
        issue = repository.issues[number]
        if not repository.has_issues and not issue.pull:
            raise ApiError(410, "Issues are disabled for this repo")
        if issue.moved_to:
            raise Moved(f"/repos/{repository.full_name}/issues/{number}", issue.moved_to)
        if issue.gone:
            raise ApiError(410, "This issue was deleted")
        return issue

    def open_issue(self, repository: Repository, user: str, title: str, body: str, pull: Pull | None = None) -> Issue:
        kind = "PullRequest" if pull else "Issue"
        check_length(kind, "title", title, TITLE_LIMIT)
        check_length(kind, "body", body, BODY_LIMIT)
        with self.lock:
            number = len(repository.issues) + 1
            issue = Issue(number, self.user(user).login, title, body, self.now(), self.now(), pull=pull)
            repository.issues[number] = issue
            self.listener("pull_request" if pull else "issues", "opened", repository, issue, None, user, {})
            return issue

    def edit_issue(self, repository: Repository, issue: Issue, user: str, changes: Mapping[str, Any]) -> None:
        kind = "PullRequest" if issue.pull else "Issue"
        event = "pull_request" if issue.pull else "issues"
        with self.lock:
            title, body = changes.get("title", issue.title), changes.get("body", issue.body) or ""
            check_length(kind, "title", title, TITLE_LIMIT)
            check_length(kind, "body", body, BODY_LIMIT)
            if (title, body) != (issue.title, issue.body):
                issue.title, issue.body, issue.updated_at = title, body, self.now()
                self.listener(event, "edited", repository, issue, None, user, {})
            state = changes.get("state", issue.state)
            if state != issue.state:
                issue.state, issue.updated_at = state, self.now()
                if issue.pull:
                    issue.pull.closed_head = repository.git.commit_of(issue.pull.head) or ""
                self.listener(event, "closed" if state == "closed" else "reopened", repository, issue, None, user, {})

    def label(self, repository: Repository, issue: Issue, user: str, name: str) -> None:
        with self.lock:
            repository.labels.setdefault(name, "ededed")
            if name not in issue.labels:
                issue.labels.append(name)
                issue.updated_at = self.now()
                extra = {"label": name}
                event = "pull_request" if issue.pull else "issues"
                self.listener(event, "labeled", repository, issue, None, user, extra)

    def unlabel(self, repository: Repository, issue: Issue, user: str, name: str) -> None:
        with self.lock:
            if name not in issue.labels:
                raise ApiError(404, "Label does not exist")
            issue.labels.remove(name)
            issue.updated_at = self.now()
            event = "pull_request" if issue.pull else "issues"
            self.listener(event, "unlabeled", repository, issue, None, user, {"label": name})

    def assign(self, repository: Repository, issue: Issue, user: str, assignee: str, *, to: bool = True) -> None:
        with self.lock:
            if to == (assignee in issue.assignees):
                return
            (issue.assignees.append if to else issue.assignees.remove)(self.user(assignee).login)
            issue.updated_at = self.now()
            event = "pull_request" if issue.pull else "issues"
            self.listener(
                event, "assigned" if to else "unassigned", repository, issue, None, user, {"assignee": assignee}
            )

    def comment(self, repository: Repository, issue: Issue, user: str, body: str) -> Comment:
        check_length("IssueComment", "body", body, BODY_LIMIT)
        with self.lock:
            comment = Comment(self.next_id(), self.user(user).login, body, self.now(), self.now())
            issue.comments.append(comment)
            self.listener("issue_comment", "created", repository, issue, comment, user, {})
            return comment

    def find_comment(self, repository: Repository, comment_id: int) -> tuple[Issue, Comment]:
        for issue in repository.issues.values():
            for comment in issue.comments:
                if comment.id == comment_id:
                    return issue, comment
        raise ApiError(404, "Not Found")

    def edit_comment(self, repository: Repository, comment_id: int, user: str, body: str) -> Comment:
        check_length("IssueComment", "body", body, BODY_LIMIT)
        with self.lock:
            issue, comment = self.find_comment(repository, comment_id)
            extra = {"changes": {"body": {"from": comment.body}}}
            comment.body, comment.updated_at = body, self.now()
            self.listener("issue_comment", "edited", repository, issue, comment, user, extra)
            return comment

    def delete_comment(self, repository: Repository, comment_id: int, user: str) -> None:
        with self.lock:
            issue, comment = self.find_comment(repository, comment_id)
            issue.comments.remove(comment)
            self.listener("issue_comment", "deleted", repository, issue, comment, user, {})

    # -- pull requests

    def open_pull(self, repository: Repository, user: str, fields: Mapping[str, Any]) -> Issue:
        head = str(fields["head"]).removeprefix(f"{repository.owner}:")
        base = str(fields["base"])
        draft = bool(fields.get("draft"))
        with self.lock:
            for name, branch in (("head", head), ("base", base)):
                if repository.git.commit_of(branch) is None:
                    error = {"resource": "PullRequest", "field": name, "code": "invalid"}
                    raise ApiError(422, "Validation Failed", [error])
            if draft and not repository.drafts:
                raise ApiError(422, "Draft pull requests are not supported in this repository.")
            message = ""
            if repository.git.is_ancestor(head, base):
                message = f"No commits between {base} and {head}"
            for issue in repository.issues.values():
                if issue.pull and issue.state == "open" and (issue.pull.head, issue.pull.base) == (head, base):
                    message = f"A pull request already exists for {repository.owner}:{head}."
            if message:
                error = {"resource": "PullRequest", "code": "custom", "message": message}
                raise ApiError(422, "Validation Failed", [error])
            pull = Pull(head, base, draft)
            return self.open_issue(repository, user, str(fields["title"]), str(fields.get("body") or ""), pull)


def check_length(resource: str, name: str, text: str, limit: int) -> None:
    if len(text) > limit:
        message = f"{name} is too long (maximum is {limit} characters)"
        error = {"resource": resource, "field": name, "code": "custom", "message": message}
        raise ApiError(422, "Validation Failed", [error])
