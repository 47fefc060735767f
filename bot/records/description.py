"""What a reviewer reads of a fix: what was wrong, what the change does, and a test that belongs into the repository."""

from bot.records.record import Record
from bot.records.repository import FileChange


class Description(Record):
    """A model's own words, for the maintainer who reviews the change. Plain text."""

    cause: str  # what was wrong
    change: str  # what the change does about it
    check: str = ""  # what a reviewer should look at: callers that notice it, cases that it leaves out


class RegressionTest(Record):
    """A new file of the repository's own kind of test, which fails on the base commit and passes with the winner."""

    change: FileChange
    diff: str  # of that file alone
    command: tuple[str, ...] = ()  # that ran it
