import asyncio

import pytest

from bot.tasks import together, under_way


class Waiting:
    """Waits until it is cancelled, and says that it was."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # ends are waited for
            self.ended = True


async def test_what_has_not_ended_ends_with_the_block() -> None:
    one, other = Waiting(), Waiting()

    async def block() -> None:
        async with under_way(one.wait(), other.wait()):
            await asyncio.gather(one.begun.wait(), other.begun.wait())
            raise KeyError

    with pytest.raises(KeyError):
        await block()
    assert one.ended
    assert other.ended


async def test_results_are_in_order_and_a_failure_ends_the_others() -> None:
    async def after(event: asyncio.Event, result: int) -> int:
        await event.wait()
        return result

    last, first = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_soon(first.set)
    asyncio.get_running_loop().call_later(0, last.set)
    assert await together([after(last, 1), after(first, 2)]) == [1, 2]

    waiting = Waiting()

    async def fail() -> None:
        await waiting.begun.wait()
        raise ValueError("the first failure")

    with pytest.raises(ValueError, match="the first failure"):
        await together([waiting.wait(), fail()])
    assert waiting.ended
