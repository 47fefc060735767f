"""Runs what a command does to its end."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bot.cli.say import say
from bot.cli.signals import Ending
from bot.cli.start import SIGNALS
from bot.errors import TroopError

T = TypeVar("T")
SAID = "interrupted"  # a note on the `CancelledError` of a command that has said so itself, in more words


@contextmanager
def errors_told() -> Iterator[None]:
    """Troop's own errors end the command with 1, and in one line, without a traceback."""
    try:
        yield
    except TroopError as error:
        say(f"troop: {error}", err=True)
        raise SystemExit(1) from None


def finished(work: Callable[[], Coroutine[object, object, T]], *, own_signals: bool = False) -> T:
    """The result of the work, with `errors_told`.

    Ctrl-C, SIGTERM and SIGHUP end the work in order, and the process with 128 and the signal's number.
    `own_signals`: the work sees to them itself, as uvicorn does.
    """
    with Ending(() if own_signals else SIGNALS) as ending, errors_told():
        try:
            return asyncio.run(ending.run(work()))
        except asyncio.CancelledError as error:
            if SAID not in getattr(error, "__notes__", ()):
                say("troop: interrupted", err=True)
            raise SystemExit(ending.code) from None
