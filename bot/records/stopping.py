"""Why no more attempts were made."""

import enum
from typing import Literal

from bot.records.record import Record


class StopRule(enum.StrEnum):
    """When the sampling of a run ends before all its attempts are made."""

    NONE = "none"  # never
    POSTERIOR = "posterior"  # the count's winner is right with the probability that was asked for
    FIRST_FINISH = "first-finish"  # a vote speaks for any attempt
    DISCOVERY = "discovery"  # a test tells apart one that it speaks for, or no new patch is to be expected
    CONSENSUS = "consensus"  # so many attempts behave alike, and a vote speaks for them
    SHORT_M = "short-m"  # so many of all attempts have ended with a patch; the others are broken off


# As settings name them.
StopName = Literal["posterior", "first-finish", "discovery", "consensus", "short-m", "none"]


class Stopped(Record):
    """That a rule ended the sampling, and by what."""

    rule: StopRule
    attempts: int  # that had ended then
    of: int  # that would have been made
    value: float  # what the rule looks at: a probability, votes, attempts that behave alike, attempts with a patch; of
    # `discovery` 0 where no new patch was to be expected
