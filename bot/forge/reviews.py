"""GitHub's reviews of our own pull requests: read once they are submitted, and answered in their threads."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from github import Github

from bot.contracts import OUR_BRANCHES
from bot.forge.api import GitHubApi
from bot.forge.markers import issue_of
from bot.forge.request import ask, path_of
from bot.records import PullState, Review, ReviewComment
from bot.sanitize import outgoing

_PULL = {"pull_requests": "read"}
_REPLY = {"pull_requests": "write"}


class GitHubReviews:
    """The part of `bot.contracts.PullRequests` that needs no git. No reply holds one of the `secrets`."""

    def __init__(self, api: GitHubApi, own_login: Callable[[], Awaitable[str]], secrets: Sequence[str]) -> None:
        self._api = api
        self._own = own_login
        self._secrets = tuple(secrets)

    async def pull_state(self, repository: str, number: int) -> PullState:
        """https://docs.github.com/rest/pulls/pulls#get-a-pull-request"""
        pull = await self._get("pull request", repository, "pulls", number)
        head = pull["head"]
        same = (head.get("repo") or {}).get("full_name") == pull["base"]["repo"]["full_name"]
        by_us = (pull["user"] or {}).get("login") == await self._own()
        ours = same and by_us and str(head["ref"]).startswith(OUR_BRANCHES)
        return PullState(
            open=pull["state"] == "open",
            ours=ours,
            branch=str(head["ref"]),
            head=str(head["sha"]),
            issue=(issue_of(pull["body"] or "") if ours else None) or number,
        )

    async def review(self, repository: str, number: int, review: int) -> Review:
        """https://docs.github.com/rest/pulls/reviews#get-a-review-for-a-pull-request

        Its comments come from the list of all, which alone tells their lines. Those of a reply name the thread.
        """
        found = await self._get("review", repository, "pulls", number, "reviews", review)
        author = (found["user"] or {"login": "ghost"})["login"]
        comments = [
            _comment(one)
            for one in await self._review_comments(repository, number)
            if one.get("pull_request_review_id") == review and (one["user"] or {}).get("login") == author
        ]
        return Review(
            id=review,
            author=author,
            requests_changes=found["state"].upper() == "CHANGES_REQUESTED",
            body=found["body"] or "",
            at=datetime.fromisoformat(found["submitted_at"]),
            comments=tuple(comments),
            dismissed=found["state"].upper() == "DISMISSED",
        )

    async def reply(self, repository: str, number: int, thread: int, marker: str, body: str) -> None:
        """https://docs.github.com/rest/pulls/comments#create-a-reply-for-a-review-comment"""
        text = outgoing(f"{marker}\n{body}", self._secrets)
        await self._api.act("reply", lambda: self._reply(repository, number, thread, marker, text))

    async def _reply(self, repository: str, number: int, thread: int, marker: str, text: str) -> None:
        own = await self._own()
        for one in await self._api.pages(repository, _REPLY, path_of(repository, "pulls", number, "comments")):
            by_us = (one["user"] or {}).get("login") == own
            if by_us and one.get("in_reply_to_id") == thread and marker in (one["body"] or ""):
                return

        def create(client: Github) -> None:  # unless somebody deleted the thread
            path = path_of(repository, "pulls", number, "comments", thread, "replies")
            ask(client, "POST", path, unless=404, input={"body": text})

        await self._api.write(repository, _REPLY, create)

    async def _get(self, what: str, repository: str, *parts: str | int) -> dict[str, Any]:
        def find(client: Github) -> dict[str, Any]:
            return dict(ask(client, "GET", path_of(repository, *parts)))

        return await self._api.act(what, lambda: self._api.read(repository, _PULL, find))

    async def _review_comments(self, repository: str, number: int) -> list[dict[str, Any]]:
        path = path_of(repository, "pulls", number, "comments")
        return await self._api.act("review comments", lambda: self._api.pages(repository, _PULL, path))


def _comment(one: dict[str, Any]) -> ReviewComment:
    # Of lines that the change removes, the numbers are the old file's.
    begins, ends = ("start_line", "line") if one.get("line") else ("original_start_line", "original_line")
    line, first = (None if one.get("side") == "LEFT" else _number(one.get(name)) for name in (ends, begins))
    return ReviewComment(
        id=one["id"],
        thread=one.get("in_reply_to_id") or one["id"],
        author=one["user"]["login"],
        body=one["body"] or "",
        path=one["path"],
        line=line,
        first=first if line and first and first < line else None,
        hunk=one.get("diff_hunk") or "",
    )


def _number(line: Any) -> int | None:
    return line if isinstance(line, int) and line > 0 else None
