"""The status comment: throttled, at once on a new state, and no run dies of it."""

import asyncio
from collections.abc import Sequence

import pytest

from bot.errors import ForgeError, LeaseLost
from bot.lifecycle import RunState
from bot.publish.messages.labels import Labels
from bot.publish.status_comment import StatusComment, announce
from tests.bot.sample import alive, claimed_run
from tests.patience import soon, turns


class Told:
    """The two calls of an `IssueTracker` that are made here. Remembers what it is told; `broken` makes it fail."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.labels: list[str] = []
        self.broken = False
        self.called = asyncio.Event()

    async def comment(self, repository: str, number: int, marker: str, body: str) -> str:
        self.called.set()
        if self.broken:
            raise ForgeError("GitHub is out of order")
        self.bodies.append(body)
        return "url"

    async def set_label(self, repository: str, number: int, label: str, known: Sequence[str]) -> None:
        self.labels.append(label)

    async def next(self) -> str:
        await soon(self.called.wait())
        self.called.clear()
        return self.bodies[-1]


class Clock:
    """Sleeps until it is told to go on."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.gate.wait()
        self.gate.clear()


async def test_throttled_within_a_state() -> None:
    told, clock = Told(), Clock()
    async with StatusComment(told, claimed_run("o/r"), alive, sleep=clock) as comment:
        comment.update(RunState.CONTEXT, 0, 10)
        assert "0 of 10" in await told.next()
        for done in range(1, 6):
            comment.update(RunState.CONTEXT, done, 10)
        await turns()
        assert len(told.bodies) == 1
        clock.gate.set()
        assert "5 of 10" in await told.next()  # the newest alone
        assert clock.slept[0] == 10
    assert len(told.bodies) == 2


async def test_at_once_on_a_new_state() -> None:
    told, clock = Told(), Clock()
    async with StatusComment(told, claimed_run("o/r"), alive, sleep=clock) as comment:
        comment.update(RunState.CONTEXT, 0, 10)
        await told.next()
        comment.update(RunState.TRAJECTORIES, 0, 4)
        assert "0 of 4" in await told.next()


async def test_what_is_said_again_is_not_told_again() -> None:
    told, clock = Told(), Clock()
    async with StatusComment(told, claimed_run("o/r"), alive, sleep=clock) as comment:
        for _ in range(3):
            comment.update(RunState.CONTEXT, 1, 10)
        await told.next()
        clock.gate.set()
        await turns()
    assert len(told.bodies) == 1


async def test_a_broken_forge_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told, clock = Told(), Clock()
    told.broken = True
    async with StatusComment(told, claimed_run("o/r"), alive, sleep=clock) as comment:
        comment.update(RunState.CONTEXT, 0, 10)
        await soon(told.called.wait())
        told.called.clear()
        told.broken = False
        comment.update(RunState.MATRIX, 0, 10)
        assert "0 of 10" in await told.next()
    assert "out of order" in caplog.text


async def test_without_the_lease_nothing_is_told() -> None:
    told, asked = Told(), asyncio.Event()

    async def lost() -> None:
        asked.set()
        raise LeaseLost("another worker has it")

    async with StatusComment(told, claimed_run("o/r"), lost) as comment:
        comment.update(RunState.CONTEXT, 0, 10)
        await soon(asked.wait())
        comment.update(RunState.MATRIX, 0, 10)
        await turns()
    assert told.bodies == []


@pytest.mark.parametrize(
    ("state", "words", "label"),
    [
        (RunState.FAILED, "**Failed**: the endpoint is gone", "troop: failed"),
        (RunState.PARKED, "**Parked**", "troop: failed"),
        (RunState.STOPPED, "**Stopped**: the endpoint is gone", ""),
        (RunState.REFUSED, "**Not started**: the endpoint is gone", ""),
    ],
)
async def test_announce(state: RunState, words: str, label: str) -> None:
    told = Told()
    await announce(told, claimed_run("o/r"), state, "the endpoint is gone", Labels())
    assert words in told.bodies[0]
    assert told.labels == [label]
