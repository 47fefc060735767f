"""What people made of a run's winner: the labels by which the probability of later winners is corrected."""

import enum
from datetime import datetime

from bot.records.record import Record


class Act(enum.StrEnum):
    """What somebody did with a pull request of ours."""

    MERGED = "merged"
    CLOSED = "closed"  # without merging it
    REOPENED = "reopened"
    REVERTED = "reverted"  # after it was merged
    APPROVED = "approved"  # in a review
    CHANGES_REQUESTED = "changes requested"  # in a review
    USED = "used"  # `/troop use`: they chose the candidate

    @property
    def accepts(self) -> bool | None:
        """Whether what the pull request shows is accepted by it; None: that is open again."""
        if self is Act.REOPENED:
            return None
        return self in (Act.MERGED, Act.APPROVED, Act.USED)


class Judgement(Record):
    """What is known of one run's winner. The newest act counts."""

    run_id: int
    repository: str
    issue_number: int
    act: Act
    by: str  # login
    odds: float | None  # log-odds that the winner is right, by the count alone; None: the count chose nothing
    candidate: int  # that the pull request shows, as people know it, counted from 1
    overruled: bool  # that one behaves otherwise than the winner
    accepted: bool | None
    at: datetime

    @property
    def right(self) -> bool | None:
        """Whether the winner of the count was right; None: not known."""
        return False if self.overruled else self.accepted
