import pytest

from bot.contracts import Dispatcher
from bot.dispatch import open_dispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from bot.settings import Settings


async def handle(_job_id: str) -> None:
    return None


async def test_a_full_queue_says_so_and_the_rest_stays_in_the_database():
    dispatcher = InProcessDispatcher(handle, {"run": 1}, limit=2)
    for n in range(2):
        await dispatcher.enqueue(f"run:{n}:0")
    with pytest.raises(ConnectionError, match="2 jobs wait"):
        await dispatcher.enqueue("run:3:0")


async def test_a_closed_one_takes_nothing():
    dispatcher = InProcessDispatcher(handle, {"run": 1})
    await dispatcher.close()
    with pytest.raises(ConnectionError, match="shutting down"):
        await dispatcher.enqueue("run:1:0")


async def test_without_a_redis_url_the_queue_is_in_the_process():
    dispatcher: Dispatcher = open_dispatcher(Settings(_env_file=None, redis_url=""), handle)
    assert isinstance(dispatcher, InProcessDispatcher)
