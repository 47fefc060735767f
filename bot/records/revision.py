"""What people, or red checks, ask of a pull request that is there already."""

import enum
from datetime import datetime

from bot.records.issue import Feedback
from bot.records.record import Record


class Cause(enum.StrEnum):
    """What asks for a revision."""

    REVIEW = "review"  # a review of somebody with write permission
    CHECKS = "checks"  # checks that failed on our own commit


class Remark(Record):
    """One thing that is asked for. It is answered where it was said."""

    thread: int  # id of the first comment of its thread; 0: the conversation of the pull request
    feedback: Feedback


class Revision(Record):
    """A new commit that is asked for, on top of a pull request's branch."""

    pull: int
    branch: str
    cause: Cause
    sources: tuple[int, ...]  # ids of the reviews, or of the suite of checks, that ask for it
    remarks: tuple[Remark, ...]
    at: datetime  # when it was asked for; dates the commit
    head: str = ""  # the commit whose checks failed; only while it is the branch's newest they ask for anything

    def joined(self, later: "Revision") -> "Revision":
        """Both as one: reviews that come while a run is active make one more run, not one each."""
        return later.model_copy(
            update={"sources": (*self.sources, *later.sources), "remarks": (*self.remarks, *later.remarks)}
        )


class PullState(Record):
    """A pull request as GitHub has it now."""

    open: bool
    ours: bool  # we opened it, from a branch of ours in the same repository
    branch: str
    head: str  # the newest commit of the branch
    issue: int  # that it answers, by the marker in its body; its own number where there is none


class BranchRule(Record):
    """A rule of the repository that would refuse a push."""

    type: str  # as GitHub names it, e.g. `creation`
    ruleset: str  # its name; "" where it is not known
    source: str  # the repository or the organization that has it
    pattern: str = ""  # of a rule about text, with its operator


class ReviewComment(Record):
    """A comment on a line of a pull request."""

    id: int
    thread: int  # id of the first comment of its thread
    author: str
    body: str
    path: str
    line: int | None
    hunk: str  # the end of the diff above it
    first: int | None = None  # of several lines, of which `line` is the last


class Review(Record):
    """A submitted review with its comments."""

    id: int
    author: str
    requests_changes: bool
    body: str
    at: datetime
    comments: tuple[ReviewComment, ...]
    dismissed: bool = False
