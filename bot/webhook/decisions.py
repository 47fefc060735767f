"""Decisions about webhook deliveries, as values that tests can compare.

`bot.webhook.decide` makes them, `bot.store` records them, workers carry them out.
"""

from datetime import datetime
from typing import Literal

from bot.records import Command, Issue, Record, Trigger


class StartRun(Record):
    """Somebody asked for a run of an issue. The worker checks their permission before any model call."""

    repository: str  # owner/name
    installation_id: int | None  # None where a token is used instead of an App
    issue: Issue  # as the delivery has it
    sender: str  # login of the person who asked
    labelled_at: datetime  # or otherwise asked for
    repository_id: int | None = None
    trigger: Trigger = Trigger.LABEL
    comment_id: int | None = None  # of a mention
    in_passing: bool = False  # a mention within a sentence: it starts the first run of an issue, and no other


class ReceiveCommand(Record):
    """A new comment with a `/troop` command, a submitted review, checks that ended, or what became of a pull request of
    ours. The worker checks who may."""

    repository: str
    installation_id: int | None
    issue_number: int
    comment_id: int  # or the review's id: GitHub counts each kind apart; of others `Delivery.number`. Negative where
    # there is a command and no comment of the conversation
    sender: str
    command: Command
    source: Literal[
        "comment", "review", "question", "judgement", "checks", "command in a review", "command on a line"
    ] = "comment"
    repository_id: int | None = None


class CancelRun(Record):
    """The label or the assignment was removed, or the issue was closed, transferred or deleted."""

    repository: str
    issue_number: int
    reason: str
    repository_id: int | None = None
    at: datetime | None = None  # when the issue was changed; None: not known
    withdrawn: bool = False  # the label or the assignment is gone, which no revision was asked for by


class StopRuns(Record):
    """The App was uninstalled or suspended, or sees some repositories no longer: nobody can be told of their runs."""

    installation_id: int
    reason: str
    repository_ids: tuple[int, ...] | None = None  # None: all
    at: datetime | None = None  # when that was, where it can be taken back; None: not known


class Answer(Record):
    """There is nothing to do but to answer, e.g. to a ping."""

    message: str


class Ignore(Record):
    """There is nothing to do; the log has the reason."""

    reason: str


Decision = StartRun | ReceiveCommand | CancelRun | StopRuns | Answer | Ignore
