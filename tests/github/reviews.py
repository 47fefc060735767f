"""Reviews of pull requests: submitted with their comments, listed, and answered in threads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tests.github.payloads import Json, Payloads, stamp
from tests.github.world import BODY_LIMIT, ApiError, Issue, Repository, World, check_length

STATES = ("APPROVED", "CHANGES_REQUESTED", "COMMENTED")


@dataclass
class Review:
    id: int
    user: str
    state: str  # one of `STATES`
    body: str
    commit: str
    submitted_at: datetime


@dataclass
class ReviewComment:
    id: int
    review: int
    user: str
    body: str
    path: str
    line: int
    commit: str
    created_at: datetime
    in_reply_to: int | None = None
    start_line: int | None = None
    side: str = "RIGHT"


class Reviews:
    """Of all pull requests, by (repository, number)."""

    def __init__(self, world: World, payloads: Payloads) -> None:
        self.world = world
        self.payloads = payloads
        self.reviews: dict[tuple[str, int], list[Review]] = {}
        self.comments: dict[tuple[str, int], list[ReviewComment]] = {}

    def clear(self) -> None:
        self.reviews.clear()
        self.comments.clear()

    # -- what happens

    def submit(
        self,
        repository: Repository,
        issue: Issue,
        user: str,
        state: str,
        body: str,
        comments: Sequence[Mapping[str, Any]],
    ) -> Review:
        """As the button does: one event for the review and one for each comment."""
        assert issue.pull is not None
        assert state in STATES
        head = repository.git.commit_of(issue.pull.head) or ""
        key = (repository.full_name, issue.number)
        with self.world.lock:
            now = self.world.now()
            review = Review(self.world.next_id(), self.world.user(user).login, state, body, head, now)
            self.reviews.setdefault(key, []).append(review)
            made = [self._add(repository, issue, review, user, head, **one) for one in comments]
            event = {"review": self.payload(repository, issue, review) | {"state": state.lower()}}
            self._tell("pull_request_review", "submitted", repository, issue, user, event)
            for comment in made:
                event = {"comment": self.comment_payload(repository, issue, comment)}
                self._tell("pull_request_review_comment", "created", repository, issue, user, event)
        return review

    def _add(
        self,
        repository: Repository,
        issue: Issue,
        review: Review,
        user: str,
        head: str,
        *,
        body: str,
        path: str = "",
        line: int = 1,
        in_reply_to: int | None = None,
        start_line: int | None = None,
        side: str = "RIGHT",
    ) -> ReviewComment:
        check_length("PullRequestReviewComment", "body", body, BODY_LIMIT)
        if in_reply_to is not None:
            parent = self.find(repository, issue, in_reply_to)
            if parent.in_reply_to is not None:
                raise ApiError(422, "Validation Failed")
            path, line = parent.path, parent.line
        comment = ReviewComment(
            self.world.next_id(),
            review.id,
            user,
            body,
            path,
            line,
            head,
            self.world.now(),
            in_reply_to,
            start_line,
            side,
        )
        self.comments.setdefault((repository.full_name, issue.number), []).append(comment)
        return comment

    def find(self, repository: Repository, issue: Issue, comment_id: int) -> ReviewComment:
        for comment in self.comments.get((repository.full_name, issue.number), []):
            if comment.id == comment_id:
                return comment
        raise ApiError(404, "Not Found")

    def _tell(self, event: str, action: str, repository: Repository, issue: Issue, user: str, extra: Json) -> None:
        self.world.listener(event, action, repository, issue, None, user, extra)

    # -- as JSON

    def payload(self, repository: Repository, issue: Issue, review: Review) -> Json:
        pulls = f"{self.payloads.api}/repos/{repository.full_name}/pulls/{issue.number}"
        page = f"{self.payloads.web}/{repository.full_name}/pull/{issue.number}#pullrequestreview-{review.id}"
        return {
            "id": review.id,
            "node_id": f"PRR_{review.id}",
            "user": self.payloads.user(review.user),
            "body": review.body,
            "state": review.state,
            "html_url": page,
            "pull_request_url": pulls,
            "author_association": self.payloads.association(repository, review.user),
            "submitted_at": stamp(review.submitted_at),
            "commit_id": review.commit,
        }

    def comment_payload(self, repository: Repository, issue: Issue, comment: ReviewComment) -> Json:
        assert issue.pull is not None
        text = repository.git.git("show", f"{comment.commit}:{comment.path}", check=False).splitlines()
        above = text[: comment.line]
        hunk = "\n".join([f"@@ -1,{len(above)} +1,{len(above)} @@", *(f"+{line}" for line in above)])
        moved = repository.git.commit_of(issue.pull.head) != comment.commit
        pulls = f"{self.payloads.api}/repos/{repository.full_name}/pulls"
        answer = {
            "id": comment.id,
            "pull_request_review_id": comment.review,
            "user": self.payloads.user(comment.user),
            "body": comment.body,
            "path": comment.path,
            "line": None if moved else comment.line,
            "original_line": comment.line,
            "start_line": None if moved else comment.start_line,
            "original_start_line": comment.start_line,
            "side": comment.side,
            "commit_id": comment.commit,
            "original_commit_id": comment.commit,
            "diff_hunk": hunk,
            "author_association": self.payloads.association(repository, comment.user),
            "created_at": stamp(comment.created_at),
            "updated_at": stamp(comment.created_at),
            "url": f"{pulls}/comments/{comment.id}",
            "pull_request_url": f"{pulls}/{issue.number}",
            "html_url": f"{self.payloads.web}/{repository.full_name}/pull/{issue.number}#discussion_r{comment.id}",
        }
        return answer if comment.in_reply_to is None else answer | {"in_reply_to_id": comment.in_reply_to}

    def of(self, repository: Repository, issue: Issue) -> list[Json]:
        found = self.comments.get((repository.full_name, issue.number), [])
        return [self.comment_payload(repository, issue, comment) for comment in found]


class ReviewRoutes:
    """The REST calls; `rest` has the checks of who asks."""

    def __init__(self, rest: Any, reviews: Reviews) -> None:
        self.rest = rest
        self.reviews = reviews
        pull = "/repos/{owner}/{name}/pulls/{number}"
        for method, path, handler in (
            ("GET", pull + "/reviews/{review_id}", self.review),
            ("GET", pull + "/comments", self.comments),
            ("POST", pull + "/comments/{comment_id}/replies", self.reply),
        ):
            rest.router.add_api_route(path, handler, methods=[method], response_model=None)

    async def review(self, request: Request, review_id: int) -> Json:
        repository, issue, _ = self.rest._pull(request, "read")
        for review in self.reviews.reviews.get((repository.full_name, issue.number), []):
            if review.id == review_id:
                return self.reviews.payload(repository, issue, review)
        raise ApiError(404, "Not Found")

    async def comments(self, request: Request) -> Response:
        repository, issue, _ = self.rest._pull(request, "read")
        answer: Response = self.rest._page(request, self.reviews.of(repository, issue))
        return answer

    async def reply(self, request: Request, comment_id: int) -> Response:
        repository, issue, token = self.rest._pull(request, "write")
        self.reviews.find(repository, issue, comment_id)
        body = (await request.json())["body"]
        comment = {"body": body, "in_reply_to": comment_id}
        self.reviews.submit(repository, issue, token.user, "COMMENTED", "", [comment])
        made = self.reviews.comments[(repository.full_name, issue.number)][-1]
        return JSONResponse(self.reviews.comment_payload(repository, issue, made), 201)
