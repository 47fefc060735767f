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
    """What calls cost. Tokens as the endpoint reports them."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # of model time, summed over calls that may have run concurrently
    cost: float = 0.0  # in the currency of the settings; 0 where the model has no price there

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class ModelCall(Record):
    """What a model is asked. `key` names the call within its run, so that a journaled model pays for it only once."""

    key: str
    messages: tuple[Message, ...]
    max_tokens: int  # of the reply
    temperature: float
    seed: int | None = None
    grammar: str | None = None  # that the reply must follow, in llguidance's dialect of Lark
    thinks: bool = True  # false: the model need not think first, where the endpoint can switch that off
    begins: str = ""  # what the reply begins with, where the endpoint continues replies; part of its text then
    stop: tuple[str, ...] = ()  # the reply ends before the first of these, where the endpoint can
    continued: bool = False  # the only message is a text that the model goes on with, as base models do: no chat
    scored: bool = False  # the log-probabilities of the reply are wanted, where the endpoint gives them


class FinishReason(enum.StrEnum):
    """How a reply ended."""

    STOP = "stop"  # the model ended it
    LENGTH = "length"  # it was cut off at its token limit
    OVERFLOW = "overflow"  # no reply: the prompt does not fit the context window
    ERROR = "error"  # no reply: the endpoint failed, or the budget is spent


class Reply(Record):
    """The reply to one call, as it is stored. If it failed, `text` says why."""

    text: str
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()
    logprob: float | None = None  # mean of its tokens' natural log-probabilities, where they were asked for

    @property
    def failed(self) -> bool:
        return self.finish_reason in (FinishReason.ERROR, FinishReason.OVERFLOW)

    @property
    def overflowed(self) -> bool:
        """Whether the prompt did not fit the model's window; a shorter one may."""
        return self.finish_reason is FinishReason.OVERFLOW

    @property
    def cut_off(self) -> bool:
        return self.finish_reason is FinishReason.LENGTH


class TrajectoryEnd(enum.StrEnum):
    """How a trajectory ended."""

    DONE = "done"  # the model said that it is done
    OUT_OF_CALLS = "out of calls"  # no calls were left; the last edit that applied is the candidate
    NO_EDIT = "no edit"  # the model wrote no edit that applies
    FAILED = "failed"  # the endpoint failed, or no reply could be used


class Trajectory(Record):
    """One multi-turn sample: what the test machine and the edit machine ended with."""

    index: int
    test: Test | None
    patch: Patch | None
    end: TrajectoryEnd
    detail: str = ""  # in words, if the end needs an explanation
    calls: int = 0
    own_test_passes: bool | None = None  # the last run of its test on its patch; None: not run
