"""The part of GitHub's webhook payloads that Troop reads. Other fields are ignored.

Shapes: https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

Login = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?$")]
FullName = Annotated[
    str,
    # A name of dots alone would lead out of a folder or change a URL.
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}/[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*$", max_length=201),
]
Id = Annotated[int, Field(gt=0, lt=2**63)]
Link = Annotated[str, StringConstraints(pattern=r"^(https?://[!-~]{1,500})?$")]


class User(BaseModel):
    login: Login
    type: str = "User"


class App(BaseModel):
    id: int


class Repository(BaseModel):
    id: Id | None = None  # stays when the repository is renamed or transferred
    full_name: FullName
    archived: bool = False


class Installation(BaseModel):
    id: Id
    suspended_at: datetime | int | str | None = None


class Label(BaseModel):
    name: str


class IssuePayload(BaseModel):
    number: Id
    title: str
    body: str | None = None
    state: str = "open"
    html_url: Link = ""
    user: User | None = None
    labels: tuple[Label, ...] = ()
    updated_at: AwareDatetime
    pull_request: dict[str, object] | None = None


class Comment(BaseModel):
    id: Id
    body: str | None = None
    user: User | None = None
    created_at: AwareDatetime | None = None
    performed_via_github_app: App | None = None


class HeadRepository(BaseModel):
    full_name: FullName


class Head(BaseModel):
    ref: str
    repo: HeadRepository | None = None  # None: a fork that is gone


class PullPayload(BaseModel):
    number: Id
    state: str = "open"
    user: User | None = None
    head: Head
    body: str | None = None
    merged: bool = False


class ReviewPayload(BaseModel):
    id: Id
    state: str
    body: str | None = None
    user: User | None = None


class ReviewCommentPayload(BaseModel):
    id: Id
    body: str | None = None
    pull_request_review_id: Id | None = None
    user: User | None = None


Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class OfBranch(BaseModel):
    head_branch: str | None = None


class Checked(OfBranch):
    """A suite of checks, a run of a workflow, or, with its suite, a single check."""

    head_sha: Sha
    check_suite: OfBranch = OfBranch()


class Branch(BaseModel):
    class Tip(BaseModel):
        sha: Sha

    name: str
    commit: Tip


class Event(BaseModel):
    sender: User
    repository: Repository
    installation: Installation | None = None


class Known(BaseModel):
    """A repository among others."""

    id: Id


class ChangedInstallation(BaseModel):
    id: Id
    suspended_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class InstallationEvent(BaseModel):
    installation: ChangedInstallation
    repositories_removed: tuple[Known, ...] = ()


class IssueEvent(Event):
    issue: IssuePayload
    label: Label | None = None
    assignee: User | None = None  # who was assigned, or is no longer


class CommentEvent(Event):
    issue: IssuePayload
    comment: Comment


class PullEvent(Event):
    pull_request: PullPayload


class ReviewEvent(Event):
    pull_request: PullPayload
    review: ReviewPayload


class ReviewCommentEvent(Event):
    pull_request: PullPayload
    comment: ReviewCommentPayload


class CheckEvent(Event):
    check_suite: Checked | None = None
    check_run: Checked | None = None
    workflow_run: Checked | None = None


class StatusEvent(Event):
    sha: Sha
    state: str
    branches: tuple[Branch, ...] = ()
