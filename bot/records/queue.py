"""Runs and commands as a worker claims them."""

import enum
from datetime import datetime

from bot.lifecycle import RunState
from bot.records.issue import Issue
from bot.records.record import Record


class CommandName(enum.StrEnum):
    """The commands after `/troop`."""

    HELP = "help"
    STATUS = "status"
    ALTERNATIVES = "alternatives"
    USE = "use"
    RETRY = "retry"
    STOP = "stop"
    ONBOARD = "onboard"


class Command(Record):
    """The command of a `/troop` comment."""

    name: CommandName
    argument: int | None = None  # the candidate's number, for `use`, counted from 1
    misread: str = ""  # for `help`: what was written and is no command
    by_page: bool = False  # asked for by a button of the pages, not by a comment


class ClaimedRun(Record):
    """A run, for the worker that has its lease."""

    id: int
    repository: str  # owner/name
    installation_id: int | None
    issue: Issue  # the labelled snapshot
    sender: str  # who asked for it
    labelled_at: datetime
    state: RunState
    attempt: int  # fences every write of this worker


class ClaimedCommand(Record):
    """A command, for the worker that executes it. `run_id`: the newest run of the issue, if there is one."""

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
