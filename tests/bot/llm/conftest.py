import asyncio
import threading

import pytest


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between tries are noted, not slept."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            await real(seconds)  # another test's server lives on in a thread of its own
            return
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr("bot.llm.client.asyncio.sleep", sleep)
    return waited
