"""Runs what a command does to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from bot.cli.say import say
from bot.errors import TroopError

T = TypeVar("T")


def finished(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """The result of the work. Troop's own errors are printed in one line, without a traceback."""
    try:
        return asyncio.run(work())
    except TroopError as error:
        say(f"troop: {error}", err=True)
        raise SystemExit(1) from None
    except asyncio.CancelledError:  # by SIGTERM
        raise SystemExit(143) from None
