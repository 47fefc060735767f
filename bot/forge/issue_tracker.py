"""GitHub as an `IssueTracker`: issues, their labels and comments, and pull requests."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from github import Github, GithubException
from github.PullRequest import PullRequest

from bot.contracts import MAY_WRITE
from bot.errors import ForgeError, Refused
from bot.forge.answers import message_of
from bot.forge.api import GitHubApi
from bot.forge.markers import ANY_MARKER, issue_of
from bot.forge.request import ask, path_of
from bot.git.command import check_branch
from bot.records import IssueComment, IssueState
from bot.sanitize import clean, outgoing, redact

MAX_COMMENTS = 200  # of an issue that are read for a prompt, newest kept
TITLE_LIMIT = 256  # characters of a pull request's title

# What each step's token may do; `metadata` is always allowed.
_METADATA = {"metadata": "read"}
_ISSUES = {"issues": "write", "pull_requests": "write"}  # a pull request's comments and labels are an issue's, too
_PULL = {"pull_requests": "write", "contents": "read"}

# Of a pull request just refused: the branch may be seen, or the one that is there be found, a moment later.
_PASSES = re.compile(r"'head'|already exists")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?")
_LABEL_LOOKS = {
    "running": ("fbca04", "Candidate fixes are being sampled and tested"),
    "done": ("0e8a16", "A draft pull request is ready"),
    "no fix": ("bfd4f2", "No candidate was credible; the evidence is in the comments"),
    "question": ("d876e3", "Two fixes remain; somebody has to say which behaves right"),
    "failed": ("d93f0b", "The run failed; its comment says why"),
}


class GitHubTracker:
    """`bot.contracts.IssueTracker` on GitHub. Nothing that it writes holds one of the `secrets`."""

    def __init__(self, api: GitHubApi, login: str, secrets: Sequence[str], bots: Sequence[str] = ()) -> None:
        """`login`: our own; empty where it has to be asked for. `bots`: those that count as people who may write."""
        self._api = api
        self._login = login
        self._secrets = tuple(secrets)
        self._bots = frozenset(bot.casefold() for bot in bots)
        self._comment_ids: dict[tuple[str, int, str], int] = {}

    # -- who may

    async def permission(self, repository: str, user: str) -> str:
        """https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user"""
        if not _LOGIN.fullmatch(user):
            raise Refused(f"{user[:100]!r} is not a login")
        if user.casefold() in self._bots and user.casefold() != (await self.own_login()).casefold():
            return "write"  # GitHub tells no permission of an App's bot, so the operator does

        def find(client: Github) -> str:
            try:
                return client.get_repo(repository).get_collaborator_permission(user)
            except GithubException as error:
                if error.status != 404:
                    raise
                # No such user, or none that GitHub shows us; or the repository itself is gone, which raises.
                ask(client, "GET", path_of(repository))
                return "none"

        answer = await self._api.act("permission", lambda: self._api.read(repository, _METADATA, find))
        if answer not in ("admin", "write", "read", "none"):
            raise ForgeError(f"GitHub answered with an unknown permission of {user}: {answer[:50]!r}")
        return answer

    async def name_of(self, repository: str, number: int) -> str:
        return await self._api.act("repository", lambda: self._api.name_of(repository, number))

    async def own_login(self) -> str:
        """Our own login: the App's bot, or the token's user."""
        if not self._login and self._api.is_app:
            self._login = f"{await self._api.act('own login', self._api.app_slug)}[bot]"
        elif not self._login:
            self._login = await self._api.act(
                "own login", lambda: self._api.read("", {}, lambda client: client.get_user().login)
            )
        return self._login

    # -- the issue

    async def issue_state(self, repository: str, number: int) -> IssueState:
        issue = await self._issue(repository, number)
        return IssueState(
            open=issue["state"] == "open",
            labels=tuple(label["name"] for label in issue["labels"]),
            assignees=tuple(user["login"] for user in issue["assignees"]),
            is_pull_request=issue["pull_request"] is not None,
        )

    async def resolve_issue(self, repository: str, number: int) -> int:
        """The marker counts only in a pull request that we opened: anybody may write it into theirs."""
        issue = await self._issue(repository, number)
        if issue["pull_request"] is None or (issue["user"] or {}).get("login") != await self.own_login():
            return number
        return issue_of(issue["body"] or "") or number

    async def _issue(self, repository: str, number: int) -> dict[str, Any]:
        def find(client: Github) -> dict[str, Any]:
            data = ask(client, "GET", path_of(repository, "issues", number))
            needed: dict[str, Any] = {name: data[name] for name in ("state", "labels", "assignees", "user", "body")}
            return needed | {"pull_request": data.get("pull_request")}

        return await self._api.act("issue", lambda: self._api.read(repository, _ISSUES, find))

    async def comments_before(self, repository: str, number: int, moment: datetime) -> tuple[IssueComment, ...]:
        """Text that readers of the issue don't see is removed. GitHub's times are whole seconds, so a comment of the
        same second as the label is left out: it may have come later."""
        moment = moment.astimezone(UTC)
        own = await self.own_login()
        kept = []
        for comment in await self._comments(repository, number):
            updated = datetime.fromisoformat(comment["updated_at"])
            user = comment["user"] or {"login": "ghost", "type": "User"}
            is_bot = user["type"] == "Bot" or user["login"] in (own, "ghost") or comment.get("performed_via_github_app")
            if updated < moment and not is_bot and not ANY_MARKER.search(comment["body"] or ""):
                kept.append((user["login"], comment["body"] or ""))
        kept = kept[-MAX_COMMENTS:]
        trusted = {}
        for login in sorted({login for login, _ in kept}):
            trusted[login] = await self.permission(repository, login) in MAY_WRITE
        shown = ((login, clean(body)) for login, body in kept if trusted[login])
        return tuple(IssueComment(author=login, body=body.text, flags=body.flags) for login, body in shown)

    async def _comments(self, repository: str, number: int) -> list[dict[str, Any]]:
        path = path_of(repository, "issues", number, "comments")
        return await self._api.act("comments", lambda: self._api.pages(repository, _ISSUES, path))

    # -- comments and labels

    async def comment(self, repository: str, number: int, marker: str, body: str) -> str:
        """The marker is the first line of the body, and counts only in our own comments."""
        if not body.startswith(marker):
            body = f"{marker}\n{body}"
        text = outgoing(body, self._secrets)
        return await self._api.act("comment", lambda: self._comment(repository, number, marker, text))

    async def _comment(self, repository: str, number: int, marker: str, body: str) -> str:
        key = (repository, number, marker)
        known = self._comment_ids.get(key) or await self._find_comment(repository, number, marker)

        async def write(method: str, *path: str | int, unless: int = 0) -> Any:
            url = path_of(repository, "issues", *path)
            return await self._api.write(
                repository, _ISSUES, lambda client: ask(client, method, url, unless=unless, input={"body": body})
            )

        made = await write("PATCH", "comments", known, unless=404) if known else None
        if made is None:
            self._comment_ids.pop(key, None)  # somebody deleted it
            made = await write("POST", number, "comments")
        self._comment_ids[key] = int(made["id"])
        return str(made["html_url"])

    async def _find_comment(self, repository: str, number: int, marker: str) -> int | None:
        own = await self.own_login()
        for comment in await self._comments(repository, number):
            if comment["user"] and comment["user"]["login"] == own and marker in (comment["body"] or ""):
                return int(comment["id"])
        return None

    async def react(self, repository: str, comment_id: int) -> None:
        """https://docs.github.com/rest/reactions/reactions#create-reaction-for-an-issue-comment; twice is once."""

        url = path_of(repository, "issues", "comments", comment_id, "reactions")

        def add(client: Github) -> None:
            ask(client, "POST", url, input={"content": "eyes"})

        await self._api.act("reaction", lambda: self._api.write(repository, _ISSUES, add))

    async def set_label(self, repository: str, number: int, label: str, known: Sequence[str]) -> None:
        """The new label is added before the old ones are removed, so that the issue always has one."""
        await self._api.act("labels", lambda: self._set_label(repository, number, label, known))

    async def _set_label(self, repository: str, number: int, label: str, known: Sequence[str]) -> None:
        present = (await self.issue_state(repository, number)).labels
        # GitHub's labels have one case, but `Troop` and `troop` are the same label.
        wanted, ours = label.casefold(), {name.casefold() for name in known}
        if label and wanted not in {name.casefold() for name in present}:
            await self._ensure_label(repository, label)
            url = path_of(repository, "issues", number, "labels")
            await self._api.write(
                repository, _ISSUES, lambda client: ask(client, "POST", url, input={"labels": [label]})
            )
        for old in present:
            if old.casefold() in ours and old.casefold() != wanted:

                def remove(client: Github, old: str = old) -> None:  # unless somebody removed it first
                    ask(client, "DELETE", path_of(repository, "issues", number, "labels", old), unless=404)

                await self._api.write(repository, _ISSUES, remove)

    async def _ensure_label(self, repository: str, label: str) -> None:
        """Create the label with its colour; GitHub would make it grey."""
        looks = _LABEL_LOOKS.get(label.rpartition(": ")[2])
        if looks is None:
            return

        def exists(client: Github) -> bool:
            return ask(client, "GET", path_of(repository, "labels", label), unless=404) is not None

        def create(client: Github) -> None:
            try:
                client.get_repo(repository).create_label(label, *looks)
            except GithubException as error:
                if error.status != 422:  # created meanwhile
                    raise

        if not await self._api.read(repository, _ISSUES, exists):
            await self._api.write(repository, _ISSUES, create)

    # -- the pull request

    async def pull_request(
        self, repository: str, head: str, title: str, body: str, *, draft: bool = True, base: str = ""
    ) -> str:
        check_branch(head)
        title, body = redact(title, self._secrets)[:TITLE_LIMIT], outgoing(body, self._secrets)
        return await self._api.act(
            "pull request", lambda: self._pull_request(repository, (head, base), title, body, draft=draft)
        )

    async def _pull_request(
        self, repository: str, branches: tuple[str, str], title: str, body: str, *, draft: bool
    ) -> str:
        owner, (head, wanted) = repository.split("/")[0], branches

        def find(client: Github) -> PullRequest | None:
            found = client.get_repo(repository).get_pulls(state="open", head=f"{owner}:{head}")
            return next((pull for pull in found if pull.head.ref == head), None)

        existing = await self._api.read(repository, _PULL, find)
        if existing is not None:
            if (existing.title, existing.body) != (title, body):
                url = path_of(repository, "pulls", existing.number)
                text = {"title": title, "body": body}
                await self._api.write(repository, _PULL, lambda client: ask(client, "PATCH", url, input=text))
            return str(existing.html_url)

        def base(client: Github) -> str:
            return str(ask(client, "GET", path_of(repository))["default_branch"])

        def create(client: Github, base: str, draft: bool) -> str:
            made = client.get_repo(repository).create_pull(base=base, head=head, title=title, body=body, draft=draft)
            return made.html_url

        onto = wanted or await self._api.read(repository, _PULL, base)
        try:
            return await self._api.write(repository, _PULL, lambda client: create(client, onto, draft))
        except GithubException as error:
            # Drafts of private repositories are not part of every plan.
            if draft and error.status == 422 and "draft pull requests are not supported" in str(error.data).lower():
                return await self._api.write(repository, _PULL, lambda client: create(client, onto, False))
            if error.status == 422 and "'base'" in str(error.data):
                raise Refused(f"the branch {onto}, which the pull request is for, is not there any more") from error
            if error.status == 422 and not _PASSES.search(str(error.data)):
                raise Refused(f"GitHub refuses the pull request: {message_of(error)}") from error
            raise
