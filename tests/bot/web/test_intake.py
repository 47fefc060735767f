"""Deliveries that arrive while others are recorded share one transaction; each is told only once it is durable."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from bot.errors import StoreUnavailable
from bot.store import Accepted, Arrived
from bot.web.intake import MOST, Intake
from bot.webhook.decisions import Ignore
from tests.patience import PATIENCE, eventually, soon, turns


class Slow:
    """Records when it is let; what is recorded has its delivery's GUID as its note."""

    def __init__(self, *bad: str) -> None:
        self.groups: list[list[str]] = []
        self.let = threading.Semaphore(0)
        self.bad = bad

    def accept_all(self, arrived: Sequence[Arrived]) -> list[Accepted | Exception]:
        self.groups.append([one.guid for one in arrived])
        assert self.let.acquire(timeout=PATIENCE)
        if "all" in self.bad:
            raise RuntimeError("a bug")
        return [
            StoreUnavailable(one.guid) if one.guid in self.bad else Accepted(duplicate=False, note=one.guid)
            for one in arrived
        ]


def arrived(guid: str) -> Arrived:
    return Arrived(guid=guid, event="push", action="", decision=Ignore(reason="nothing to do"))


async def test_what_arrives_meanwhile_is_recorded_together_and_told_when_it_is() -> None:
    store = Slow("g3")
    intake = Intake(store)
    first = asyncio.create_task(intake.accept(arrived("g0")))
    await eventually(lambda: store.groups)
    more = [asyncio.create_task(intake.accept(arrived(f"g{n}"))) for n in range(1, 5)]
    await turns()
    store.let.release()
    assert (await soon(first)).note == "g0"
    await eventually(lambda: len(store.groups) == 2)
    await turns()
    assert not any(one.done() for one in more)
    store.let.release()
    assert [(await soon(one)).note for one in (more[0], more[1], more[3])] == ["g1", "g2", "g4"]
    with pytest.raises(StoreUnavailable, match="g3"):
        await soon(more[2])
    assert store.groups == [["g0"], ["g1", "g2", "g3", "g4"]]


async def test_a_group_is_bounded_and_the_rest_follows_in_order() -> None:
    store = Slow()
    intake = Intake(store)
    tasks = [asyncio.create_task(intake.accept(arrived(str(n)))) for n in range(MOST + 3)]
    await eventually(lambda: store.groups)
    tasks[1].cancel()  # its sender has gone: it is recorded all the same
    for _ in range(2):
        store.let.release()
    await soon(asyncio.gather(*tasks, return_exceptions=True))
    assert [guid for group in store.groups for guid in group] == [str(n) for n in range(MOST + 3)]
    assert [len(group) for group in store.groups] == [MOST, 3]


async def test_an_error_of_the_store_is_told_to_all_and_ends_nothing() -> None:
    store = Slow("all")
    intake = Intake(store)
    store.let.release()
    with pytest.raises(RuntimeError):
        await soon(intake.accept(arrived("g0")))
    store.bad = ()
    store.let.release()
    assert (await soon(intake.accept(arrived("g1")))).note == "g1"
