"""Runs and commands as a worker claims them."""

import enum
import math
from datetime import datetime

from bot.lifecycle import RunState
from bot.records.issue import Feedback, Issue
from bot.records.judgement import Act
from bot.records.record import Record
from bot.records.revision import Revision


class Trigger(enum.StrEnum):
    """What starts a run by itself; commands start others."""

    LABEL = "label"
    ASSIGNMENT = "assignment"  # of the issue to our own user
    MENTION = "mention"  # of our own user, in a comment


class CommandName(enum.StrEnum):
    """The commands after `/troop`."""

    HELP = "help"
    STATUS = "status"
    ALTERNATIVES = "alternatives"
    USE = "use"
    RETRY = "retry"
    MORE = "more"
    STOP = "stop"
    ONBOARD = "onboard"
    ANSWER = "answer"
    REVISE = "revise"  # not to be written: a submitted review asks for it
    JUDGE = "judge"  # not to be written: what becomes of a pull request of ours says it
    CHECKS = "checks"  # not to be written: checks of a commit of ours have ended


NOT_WRITTEN = frozenset({CommandName.REVISE, CommandName.JUDGE, CommandName.CHECKS})


class Option(enum.StrEnum):
    """One of the two behaviours that a question is about."""

    A = "A"
    B = "B"


class Command(Record):
    """The command of a `/troop` comment, or what a review asks for."""

    name: CommandName
    argument: int | None = None  # for `use` the candidate's number, counted from 1; for `more` how many attempts
    misread: str = ""  # for `help`: what was written and is no command
    by_page: bool = False  # asked for by a button of the pages, not by a comment
    by_owner: bool = False  # by the machine's owner there, who needs no permission on GitHub
    option: Option | None = None  # for `answer`
    act: Act | None = None  # for `judge`
    branch: str = ""  # for `checks`: our branch ...
    commit: str = ""  # ... and its commit
    words: str = ""  # for `retry`: what the next fix is asked to do otherwise, as it was written; for `answer`: why
    base: str = ""  # for `retry`: the branch to work on
    further: int = 0  # commands that follow in the same comment, which are not carried out


class Again(Record):
    """What a command asks of another run for the issue of an earlier one."""

    command_id: int  # a command that is executed twice starts one run
    sender: str  # whose permission was checked
    by_owner: bool = False  # asked for by the machine's owner, whom GitHub does not know
    feedback: tuple[Feedback, ...] = ()
    flags: tuple[str, ...] = ()  # what cleaning removed from it
    revision: Revision | None = None  # of a pull request; its remarks are the feedback
    base: str = ""  # the branch to work on; "": as the config says, else the default branch
    answer: Option | None = None  # to the question of ...
    more: int = 0  # attempts that vote with those of ...
    of_run: int = 0  # ... that earlier run, whose question was answered, or whose journal is gone on with


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
    again: Again | None = None  # of a run that a command started
    trigger: Trigger = Trigger.LABEL
    comment_id: int | None = None  # of the comment that mentions us
    repository_id: int | None = None  # stays when the repository is renamed

    @property
    def revision(self) -> Revision | None:
        """Which pull request it revises; None for a run that makes one."""
        return None if self.again is None else self.again.revision

    @property
    def conversation(self) -> int:
        """The number of the issue or pull request where people are told of it."""
        return self.issue.number if self.revision is None else self.revision.pull


class ClaimedCommand(Record):
    """A command, for the worker that executes it. `run_id`: the newest run of the issue, if there is one."""

    id: int
    repository: str
    installation_id: int | None
    issue_number: int
    comment_id: int  # of a review: its own id; of what `judge` is about: none of GitHub's
    sender: str
    command: Command
    run_id: int | None
    run_state: RunState | None
    attempt: int = 0  # fences every write of the worker that executes it
    asked_at: float = math.inf  # when it arrived, by the database's clock
    repository_id: int | None = None  # stays when the repository is renamed
