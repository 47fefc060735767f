"""Runs and commands as a worker claims them."""

import enum
from datetime import datetime

from bot.lifecycle import RunState
from bot.records.issue import Issue
from bot.records.record import Record


class CommandName(enum.StrEnum):
    """What `/troop ...` understands."""

    HELP = "help"
    STATUS = "status"
    ALTERNATIVES = "alternatives"
    USE = "use"
    RETRY = "retry"
    STOP = "stop"


class Command(Record):
    """What a `/troop` comment asks for."""

    name: CommandName
    argument: int | None = None  # the candidate's number, for `use`, counted from 1


class ClaimedRun(Record):
    """A run as the worker that holds its lease sees it."""

    id: int
    repository: str  # owner/name
    installation_id: int | None
    issue: Issue  # the labelled snapshot
    sender: str  # who asked for it
    labelled_at: datetime
    state: RunState
    attempt: int  # fences every write of this worker


class ClaimedCommand(Record):
    """A command as the worker that executes it sees it; `run` is the newest run of the issue, if there ever was one."""

    id: int
    repository: str
    installation_id: int | None
    issue_number: int
    comment_id: int
    sender: str
    command: Command
    run_id: int | None
    run_state: RunState | None
    attempt: int = 0  # fences every write of the worker that executes it
