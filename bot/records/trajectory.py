"""Model calls and the trajectories made of them."""

import enum
from typing import Literal

from bot.records.execution import Test
from bot.records.record import Record
from bot.records.repository import Patch


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Record):
    """Model work. Tokens as the endpoint reports them."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # model time, summed over calls that may have run side by side

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class Reply(Record):
    """One finished model call, as it is stored so that it is never paid for twice."""

    text: str
    finish_reason: str = "stop"  # `stop`, `length`, or `error` where the endpoint gave up; then `text` says why
    usage: Usage = Usage()

    @property
    def failed(self) -> bool:
        return self.finish_reason == "error"

    @property
    def cut_off(self) -> bool:
        return self.finish_reason == "length"


class TrajectoryEnd(enum.StrEnum):
    """How a trajectory ended."""

    DONE = "done"  # the model said that it is done
    OUT_OF_CALLS = "out of calls"  # the call budget was spent; the last edit that applied is the candidate
    NO_EDIT = "no edit"  # no edit that applies was ever written
    FAILED = "failed"  # the endpoint failed or answered garbage to the end


class Trajectory(Record):
    """One multi-turn sample: what the test machine and the edit machine ended with."""

    index: int
    test: Test | None
    patch: Patch | None
    end: TrajectoryEnd
    detail: str = ""  # in words, where the end needs explaining
    calls: int = 0
