"""What a webhook delivery comes to, as values that a test can compare.

`bot.webhook.decide` decides, `bot.store` records, workers act.
"""

from datetime import datetime

from bot.records import Command, Issue, Record


class StartRun(Record):
    """Somebody put the label on an issue. Whether they may is asked by the worker, before any model call."""

    repository: str  # owner/name
    installation_id: int | None  # None where a token is used instead of an App
    issue: Issue  # as it stood in the delivery
    sender: str  # login of whoever labelled
    labelled_at: datetime


class ReceiveCommand(Record):
    """A new comment that holds a `/troop` command. Whether its author may is asked by the worker."""

    repository: str
    installation_id: int | None
    issue_number: int
    comment_id: int
    sender: str
    command: Command


class CancelRun(Record):
    """The label was taken off, or the issue was closed, transferred or deleted."""

    repository: str
    issue_number: int
    reason: str


class Answer(Record):
    """Nothing to do but to answer, e.g. to a ping."""

    message: str


class Ignore(Record):
    """Not for us; the log shows the reason."""

    reason: str


Decision = StartRun | ReceiveCommand | CancelRun | Answer | Ignore
