"""An issue as it is read."""

from bot.records.record import Record


class IssueComment(Record):
    """A comment by somebody with write permission, made before the label."""

    author: str
    body: str


class Issue(Record):
    """An issue as it stood when it was labelled. Text is already cleaned of hidden characters (`bot.sanitize`)."""

    title: str
    body: str
    number: int = 0  # 0 for an issue read from a file
    author: str = ""
    url: str = ""
    comments: tuple[IssueComment, ...] = ()
    flags: tuple[str, ...] = ()  # what cleaning removed, in words for the pull request

    @property
    def text(self) -> str:
        """Title, body and comments."""
        return "\n".join((self.title, self.body, *(comment.body for comment in self.comments)))


class IssueState(Record):
    """An issue as GitHub has it now."""

    open: bool
    labels: tuple[str, ...]
    is_pull_request: bool = False
