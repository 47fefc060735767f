"""Checks of a commit, as CI reports them."""

import enum

from bot.records.record import Record


class CheckState(enum.StrEnum):
    """How a check stands."""

    PENDING = "pending"
    FAILED = "failed"
    OTHER = "other"  # passed, skipped, cancelled: nothing that a commit could mend


class Check(Record):
    """A check run, or a commit's status."""

    name: str
    state: CheckState
    app: str = ""  # which reports it; "" for a status
    id: int = 0  # of a check run; 0: a status, which has no log
    is_job: bool = False  # of GitHub Actions, which keeps its log
    said: str = ""  # its title, summary and text; of a status, its description and where it leads
    annotated: bool = False  # it has annotations
