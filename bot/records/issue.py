"""An issue as it is read."""

from __future__ import annotations

from collections.abc import Sequence

from bot.records.record import Record

MOST_FEEDBACK = 40  # of an issue, newest kept
FEEDBACK_LIMIT = 8_000  # characters of one


class IssueComment(Record):
    """A comment by somebody with write permission, made before the label."""

    author: str
    body: str
    flags: tuple[str, ...] = ()  # as an issue's


class Feedback(Record):
    """What somebody with write permission asks of a fix, in their words, cleaned as an issue's text is."""

    author: str
    body: str
    path: str = ""  # the file that a review comment is about
    line: int | None = None  # of that file, counted from 1; None for all of it, and where the line is gone
    first: int | None = None  # of several lines, of which `line` is the last
    hunk: str = ""  # the lines of the reviewed change that the comment stands below
    check: str = ""  # the name of a failed check; then nobody wrote the body: it is what the check printed


class Issue(Record):
    """An issue as it stood when it was labelled. Text is already cleaned of hidden characters (`bot.sanitize`)."""

    title: str
    body: str
    number: int = 0  # 0 for an issue read from a file
    author: str = ""
    url: str = ""
    comments: tuple[IssueComment, ...] = ()
    flags: tuple[str, ...] = ()  # what cleaning removed, in words for the pull request
    feedback: tuple[Feedback, ...] = ()  # on an earlier fix, oldest first

    def with_feedback(self, feedback: Sequence[Feedback], flags: Sequence[str] = ()) -> Issue:
        """The issue with more feedback, within the bounds that a prompt has room for. `flags`: as its own."""
        kept = [one.model_copy(update={"body": one.body[:FEEDBACK_LIMIT]}) for one in (*self.feedback, *feedback)]
        found = tuple(sorted({*self.flags, *flags}))
        return self.model_copy(update={"feedback": tuple(kept[-MOST_FEEDBACK:]), "flags": found})

    @property
    def text(self) -> str:
        """Title, body, comments, and what was asked of an earlier fix."""
        asked = (part for one in self.feedback for part in (one.path, one.hunk, one.body) if part)
        return "\n".join((self.title, self.body, *(comment.body for comment in self.comments), *asked))


class IssueState(Record):
    """An issue as GitHub has it now."""

    open: bool
    labels: tuple[str, ...]
    assignees: tuple[str, ...] = ()  # logins
    is_pull_request: bool = False
